"""`export`: a round's guard as a folder that other programs load."""

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

import click

from wizloop.loop.commands.common import FILE, ROUND, in_workspace, now, reading, say, sentences

if TYPE_CHECKING:
    from collections.abc import Callable

FORMATS = ("adapter", "safetensors", "mlx-4bit", "nf4")


class _Format(click.Choice[str]):
    """A built-in format or an installed one, which is looked for only when it is named."""

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from wizloop import plugins

        try:
            if value not in FORMATS:
                plugins.refuse_name("exporter", value, FORMATS)
        except plugins.PluginError as error:
            self.fail(str(error), param, ctx)
        return value


@click.command
@click.argument("round", type=ROUND)
@click.option("--format", "form", type=_Format(FORMATS), required=True, help="What to write; plugins add formats.")
@click.option("--to", type=FILE, required=True, help="The folder to make; it must not be there.")
@in_workspace
def export(round: int, form: str, to: Path, workspace: Path) -> None:
    """Write the champion after ROUND for others to load."""
    with sentences(), reading(workspace) as db:
        from wizloop.loop.context import recipe_of, standalone
        from wizloop.loop.phases import export as exporting
        from wizloop.loop.phases import model_roles

        recipe, model = recipe_of(db), model_roles.champion_after(db, round)
    from wizloop.backends.guard_types import BackendError
    from wizloop.store.db import Store

    wrong = sentences(FileExistsError, ValueError, failures=(BackendError, OSError))
    # Model libraries print to stdout, where only the folder's name goes.
    with wrong, Store.open(workspace, readonly=True) as store, redirect_stdout(sys.stderr):
        ctx = standalone(store, workspace, recipe, "export", now())
        exporting.write_export(ctx, model, form, to.absolute(), _parts(exporting.PARTS))
    say(f"100 % {model.name} as {form}:")
    print(to)


def _parts(n: int) -> "Callable[[str], None]":
    """Says each of n parts as it begins, with the share of those before it: `25 % asking the exported one the same`."""
    shares = iter(range(0, 100, 100 // n))
    return lambda part: say(f"{next(shares)} % {part}")
