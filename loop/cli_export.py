"""`export`: a round's guard as a folder that other programs load."""

import sys
from contextlib import redirect_stdout
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from wizloop.loop.cli_common import HERE, Workspace, now, reading, say, sentences


class Format(StrEnum):
    """What can be written."""

    adapter = "adapter"
    safetensors = "safetensors"
    mlx_4bit = "mlx-4bit"


def export(
    round: Annotated[int, typer.Argument(help="The champion after this round.")],
    form: Annotated[Format, typer.Option("--format", help="What to write.")],
    to: Annotated[Path, typer.Option(help="The folder to make; it must not be there.")],
    workspace: Workspace = HERE,
) -> None:
    """Write the champion of a round for others to load."""
    with sentences(), reading(workspace) as db:
        from wizloop.loop import using

        recipe, model = using.recipe_of(db), using.guard_of(db, round)
    from wizloop.backends.guard_types import BackendError
    from wizloop.store.db import Store

    wrong = sentences(FileExistsError, ValueError, failures=(BackendError, OSError))
    # Model libraries print to stdout, where only the folder's name goes.
    with wrong, Store.open(workspace, readonly=True) as store, redirect_stdout(sys.stderr):
        using.export(using.context(store, workspace, recipe, "export", now()), model, form.value, to)
    say(f"{model.name} as {form.value}:")
    print(to)
