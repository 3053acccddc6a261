"""`import` and `classify`: samples into a workspace, and a run's guard on texts of one's own."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer

from wizloop.loop.cli_common import HERE, Json, Workspace, now, put, reading, refuse, say, sentences

_SHOWN = 10


def import_(
    file: Annotated[Path, typer.Argument(help="JSON, JSON Lines or CSV, gzipped or not.")],
    split: Annotated[str, typer.Option(help="pool, seed, dev or test.")],
    map: Annotated[
        list[str] | None, typer.Option(metavar="KEY=COLUMN", help="prompt, response, label, ... to the file's column.")
    ] = None,
    format: Annotated[str | None, typer.Option(help="The file's format by name, where it is not recognised.")] = None,
    task: Annotated[str, typer.Option(help="What a bare label column speaks about.")] = "request",
    limit: Annotated[int | None, typer.Option(min=1, help="The first so many rows.")] = None,
    prompts_only: Annotated[bool, typer.Option("--prompts-only", help="Leave the responses out.")] = False,
    hide_labels: Annotated[bool, typer.Option("--hide-labels", help="Leave the labels unread.")] = False,
    benchmark: Annotated[str | None, typer.Option(help="The name under which test rows are reported.")] = None,
    workspace: Workspace = HERE,
    as_json: Json = False,
) -> None:
    """Import samples from a file into a split of the workspace, before a run starts or while it runs."""
    from wizloop.loop.containers import ImportRefused

    asked = {
        "path": str(file),
        "split": split,
        "map": _mapping(map or []),
        "format": format,
        "task": task,
        "limit": limit,
        "prompts_only": prompts_only,
        "hide_labels": hide_labels,
        "benchmark": benchmark,
    }
    with sentences(ImportRefused):
        taken = _imported(workspace, asked)
    if as_json:
        put(taken)
        return
    say(f"{file}: {taken['rows']:,} rows, {taken['accepted']:,} accepted into {split}")
    say(f"{taken['duplicates']:,} duplicates, {taken['conflicts']:,} of another label than before")
    say(f"{len(taken['refused']):,} refused")
    for refused in taken["refused"][:_SHOWN]:
        say(f"  row {refused['row']}: {refused['reason']}")


def classify(
    file: Annotated[Path, typer.Argument(help="One text a line, plain or {prompt, response}; - is stdin.")] = Path("-"),
    round: Annotated[int | None, typer.Option(help="Use the champion after this round.")] = None,
    workspace: Workspace = HERE,
) -> None:
    """Judge texts with a run's guard: one JSON object a line."""
    with sentences(), reading(workspace) as db:
        from wizloop.loop import using

        recipe, model = using.recipe_of(db), using.guard_of(db, round)
    from wizloop.backends.guard_types import BackendError
    from wizloop.store.db import Store

    with sentences(using.BadLine, failures=(BackendError,)), Store.open(workspace, readonly=True) as store:
        ctx = using.context(store, workspace, recipe, "classify", now())
        data = sys.stdout
        # Model libraries print to stdout, where only answers go.
        with _opened(file) as lines, redirect_stdout(sys.stderr):
            for answer in using.classify(ctx, model, using.read_lines(lines)):
                put(answer, data)


def _mapping(given: list[str]) -> dict[str, str]:
    pairs = [pair.partition("=") for pair in given]
    for key, equals, _ in pairs:
        if not equals:
            refuse(f"--map {key}: write it as KEY=COLUMN, for example prompt=question")
    return {key: column for key, _, column in pairs}


def _imported(workspace: Path, asked: dict[str, Any]) -> dict[str, Any]:
    """Import in the words of a recipe's [[data]], which says which values are allowed."""
    from pydantic import ValidationError

    from wizloop.loop import intake, using
    from wizloop.recipes import schema, sections
    from wizloop.store import control, steps
    from wizloop.store.db import Store

    try:
        data = sections.Data.model_validate(asked)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        refuse(f"{'.'.join(map(str, first['loc']))}: {first['msg']}")
    with Store.create(workspace) as store:
        with store.read() as db:
            recipe = schema.load("demo") if control.get_run(db) is None else using.recipe_of(db)
            begun = steps.get_round(db, 0) is not None
        ctx = using.context(store, workspace, recipe, "import", now())
        taken = intake.import_file(ctx, data)
        if begun:
            intake.exclude_leaks(ctx)
    return taken.to_json()


@contextmanager
def _opened(file: Path) -> Iterator[TextIO]:
    if str(file) == "-":
        yield sys.stdin
        return
    try:
        with file.open(encoding="utf-8") as lines:
            yield lines
    except (OSError, UnicodeDecodeError) as error:
        refuse(f"{file}: cannot be read: {error}")
