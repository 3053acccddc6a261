"""`classify`: a run's guard on new texts, or on the rows of a file with their labels beside."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from io import TextIOWrapper, UnsupportedOperation
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from wizloop import regular_file
from wizloop.loop.commands.common import (
    FILE,
    ROUND,
    in_workspace,
    new_file,
    put,
    refuse,
    report_errors,
    say,
    written_whole,
)
from wizloop.loop.commands.reading import reading, with_reading

if TYPE_CHECKING:
    from wizloop.loop.api import Guard
    from wizloop.loop.commands.classify_files import Asked, Table


@click.command(short_help="Classify texts with a run's guard, or an exported one.")
@click.argument("file", type=FILE, default=Path("-"))
@click.option(
    "--round", type=ROUND, metavar="N", help="Use the champion after this round; default: the current champion."
)
@click.option("--model", type=FILE, metavar="DIR", help="Use the exported guard in this folder, without a workspace.")
@click.option(
    "--guard", metavar="NAME", help="Ask --model as this published guard; `wizloop evaluate --guard` lists them."
)
@click.option("--out", type=FILE, metavar="FILE", help="Write to this new file, JSON Lines (.jsonl) or a table (.csv).")
@click.option("--texts", is_flag=True, help="Write the prompt and the response of each row, too.")
@with_reading
@click.option(
    "--task", type=click.Choice(["request", "completion", "response"]), help="Task of a table's plain label column."
)
@in_workspace
def classify(
    file: Path,
    round: int | None,
    model: Path | None,
    guard: str | None,
    out: Path | None,
    texts: bool,
    task: str | None,
    workspace: Path,
    **settings: Any,
) -> None:
    """Classify texts with a run's guard, or an exported one; print one JSON object per row.

    FILE has one text per line, plain or {"prompt", "response"}; - is stdin. Empty lines are skipped; `line` gives the
    number of the line in the file. A line that is not a whole JSON object is taken as plain text. A table (.csv,
    .parquet, .json, or JSON Lines with other columns) is read as `wizloop import` reads it, and its labels are kept.
    """
    from wizloop.backends.guard_types import BackendError
    from wizloop.loop.commands.classify_files import BadLine, Table, is_table
    from wizloop.loop.data.records import ImportRefused

    new_file(out)
    if out is not None and out.suffix not in (".jsonl", ".csv"):
        refuse(f"{out}: name it .jsonl (JSON Lines) or .csv (a table)")
    how = {name: value for name, value in (*reading(**settings).items(), ("task", task)) if value}
    if how and str(file) == "-":
        refuse("--map, --label, --format and --task are for the rows of a file, not for stdin")
    table = Table(file, how) if how or is_table(file) else None
    # Model libraries print to stdout, where only verdicts go.
    stdout = sys.stdout
    with (
        report_errors(ImportRefused, failures=(BackendError,)),
        redirect_stdout(sys.stderr),
        _asked(file, table) as asked,
    ):
        loaded = _guard(workspace, round, model, guard)
        with nullcontext(stdout) if out is None else written_whole(out) as to:
            try:
                n = _judge(loaded, asked, to, as_csv=out is not None and out.suffix == ".csv", texts=texts)
            except BadLine as error:
                refuse(f"{_name(file)}: {error}")
    for line in [] if table is None else table.told():
        say(line)
    if out is not None:
        say(f"wrote {n:,} rows to {out}")


def _judge(guard: "Guard", asked: "Iterator[Asked]", to: TextIO, *, as_csv: bool, texts: bool) -> int:
    """Judge texts and write a row for each; return how many."""
    from wizloop.loop.commands import classify_files

    write = classify_files.csv_writer(to, texts=texts) if as_csv else lambda row: put(row, to)
    n = 0
    for row in classify_files.judged(guard, asked, texts=texts):
        write(row)
        n += 1
    return n


@contextmanager
def _asked(file: Path, table: "Table | None") -> "Iterator[Iterator[Asked]]":
    """Open a file as rows of a table, or as lines of text."""
    from wizloop.loop.commands import classify_files

    if table is not None:
        rows = table.rows()
        # A file that cannot be read is refused before a guard is loaded.
        yield chain(list(islice(rows, 1)), rows)
        return
    with _opened(file) as lines:
        yield classify_files.lines_of(lines, Path(_name(file)).name)


def _name(file: Path) -> str:
    return "stdin" if str(file) == "-" else str(file)


def _guard(workspace: Path, round: int | None, folder: Path | None, published: str | None) -> "Guard":
    """Load the guard of a round, an exported one, or a published one."""
    from wizloop.loop.api import Workspace, load_published_guard

    if folder is None and published is None:
        return Workspace(workspace).guard(round)
    if round is not None:
        refuse("--model names a folder, and only a run has rounds: leave out --round")
    if folder is None:
        refuse("--guard asks the model of --model as a published guard: give both")
    if published is None:
        return exported(folder)
    if not folder.is_dir():
        refuse(f"{folder}: no such folder; give one with a model's config.json and safetensors")
    return load_published_guard(published, folder)


def exported(folder: Path) -> "Guard":
    """Load an exported guard, and say so if nothing is known of its thresholds."""
    from wizloop.loop.api import load_guard

    try:
        guard = load_guard(folder)
    except ValueError as error:
        refuse(str(error))
    if not guard.calibrated:
        say(f"{folder}: its guard.json has no calibration: probabilities are raw, every threshold is 0.5")
    return guard


def _private_stdin() -> TextIO:
    """Return stdin for the texts alone: whoever else asks for an answer there, such as a library, finds its end."""
    try:
        descriptor = sys.stdin.fileno()
    except UnsupportedOperation:
        return sys.stdin
    private = os.fdopen(os.dup(descriptor), encoding="utf-8")
    with Path(os.devnull).open() as nothing:
        os.dup2(nothing.fileno(), descriptor)
    return private


@contextmanager
def _opened(file: Path) -> Iterator[TextIO]:
    try:
        source = _private_stdin() if str(file) == "-" else TextIOWrapper(regular_file.opened(file), "utf-8")
    except OSError as error:
        aside = "; write - for stdin" if file.is_fifo() else ""
        refuse(f"{file}: cannot be read: {error.strerror}{aside}")
    with source as lines:
        try:
            yield lines
        except UnicodeDecodeError as error:
            refuse(f"{file}: cannot be read: {error}")
