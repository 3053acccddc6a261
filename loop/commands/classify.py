"""`classify`: a run's guard on texts of one's own."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from typing import TextIO

import click

from wizloop.loop.commands.common import FILE, ROUND, in_workspace, now, put, reading, refuse, sentences

_TABLES = (".csv", ".gz", ".parquet")
"""Files of which no line is a text."""


@click.command
@click.argument("file", type=FILE, default=Path("-"))
@click.option("--round", type=ROUND, help="Use the champion after this round.")
@in_workspace
def classify(file: Path, round: int | None, workspace: Path) -> None:
    """Judge texts with a run's guard: one JSON object a line.

    FILE has one text a line, plain or {"prompt", "response"}; - is stdin. Empty lines are skipped, and
    `line` says which one an answer is of; what is no whole JSON object is a text itself.
    """
    if file.suffix in _TABLES:
        refuse(f"{file}: a table, and not one text a line: `wizloop evaluate --benchmark` reads it, with its labels")
    with sentences(), reading(workspace) as db:
        from wizloop.loop.phases import using

        recipe, model = using.recipe_of(db), using.guard_of(db, round)
    from wizloop.backends.guard_types import BackendError
    from wizloop.store.db import Store

    with sentences(failures=(BackendError,)), Store.open(workspace, readonly=True) as store:
        ctx = using.context(store, workspace, recipe, "classify", now())
        data = sys.stdout
        # Model libraries print to stdout, where only answers go.
        with _opened(file) as lines, redirect_stdout(sys.stderr):
            try:
                for answer in using.classify(ctx, model, using.read_lines(lines)):
                    put(answer, data)
            except using.BadLine as error:
                refuse(f"{'stdin' if str(file) == '-' else file}: {error}")


@contextmanager
def _opened(file: Path) -> Iterator[TextIO]:
    try:
        given = nullcontext(sys.stdin) if str(file) == "-" else file.open(encoding="utf-8")
    except OSError as error:
        refuse(f"{file}: cannot be read: {error.strerror}")
    with given as lines:
        try:
            yield lines
        except UnicodeDecodeError as error:
            refuse(f"{file}: cannot be read: {error}")
