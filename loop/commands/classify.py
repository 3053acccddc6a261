"""`classify`: a run's guard on new texts, or on the rows of a file with their labels beside."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from functools import partial
from io import TextIOWrapper, UnsupportedOperation
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from wizloop import regular_file
from wizloop.loop.commands.common import (
    FILE,
    ROUND,
    in_workspace_with_json,
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
    "--guard",
    metavar="NAME",
    help="Ask --model as this published guard, of those that `wizloop evaluate --guard` lists; policy is the policy "
    "reasoner, which needs no model.",
)
@click.option(
    "--depth",
    type=click.Choice(["low", "medium", "high"]),
    help="With --guard policy: wording, then context, then examples.  [default: medium]",
)
@click.option(
    "--policies",
    type=FILE,
    metavar="FILE",
    help="With --guard policy: your own policies, read again when the file changes; default: the shipped ones.",
)
@click.option("--out", type=FILE, metavar="FILE", help="Write to this new file, JSON Lines (.jsonl) or a table (.csv).")
@click.option("--texts", is_flag=True, help="Write the prompt and the response of each row, too.")
@with_reading
@click.option(
    "--task", type=click.Choice(["request", "completion", "response"]), help="Task of a table's plain label column."
)
@in_workspace_with_json
def classify(
    file: Path,
    round: int | None,
    model: Path | None,
    guard: str | None,
    depth: str | None,
    policies: Path | None,
    out: Path | None,
    texts: bool,
    task: str | None,
    workspace: Path,
    as_json: bool,
    **settings: Any,
) -> None:
    """Classify texts with a run's guard, or an exported one; print one JSON object per row.

    FILE has one text per line, plain or {"prompt", "response"}; - is stdin. Empty lines are skipped; `line` gives the
    number of the line in the file. A line that is not a whole JSON object is taken as plain text. A table (.csv,
    .parquet, .json, or JSON Lines with other columns) is read as `wizloop import` reads it, and its labels are kept.

    With --guard policy the policy reasoner tells every policy's score and its steps; on a terminal as lines to read.
    """
    from wizloop.backends.guard_types import BackendError
    from wizloop.loop.commands.classify_files import BadLine, Table, is_table
    from wizloop.loop.commands.declared import of_export, of_workspace
    from wizloop.loop.data.records import ImportRefused
    from wizloop.loop.words import DEFAULT

    new_file(out)
    if out is not None and out.suffix not in (".jsonl", ".csv"):
        refuse(f"{out}: name it .jsonl (JSON Lines) or .csv (a table)")
    how = {name: value for name, value in (*reading(**settings).items(), ("task", task)) if value}
    if how and str(file) == "-":
        refuse("--map, --label, --format and --task are for the rows of a file, not for stdin")
    declared = DEFAULT
    if guard is None and (how or is_table(file)):
        declared = of_workspace(workspace) if model is None else of_export(model)
    table = Table(file, how, declared) if how or is_table(file) else None
    of_policies = guard == "policy"
    if not of_policies and (depth is not None or policies is not None):
        refuse("--depth and --policies are for the policy reasoner: add --guard policy")
    readable = of_policies and not as_json and out is None and sys.stdout.isatty()
    # Model libraries print to stdout, where only verdicts go.
    stdout = sys.stdout
    with (
        report_errors(ImportRefused, failures=(BackendError,)),
        redirect_stdout(sys.stderr),
        _asked(file, table, typed=readable and sys.stdin.isatty()) as asked,
    ):
        judge: Callable[[Iterator[Asked], TextIO], int]
        if of_policies:
            judge = _by_policies(policies, depth or "medium", (round, model), out, readable=readable, texts=texts)
        else:
            loaded = _guard(workspace, round, model, guard)
            for line in _operating(loaded):
                say(line)
            judge = partial(_judge, loaded, as_csv=out is not None and out.suffix == ".csv", texts=texts)
        with nullcontext(stdout) if out is None else written_whole(out) as to:
            try:
                n = judge(asked, to)
            except BadLine as error:
                refuse(f"{_name(file)}: {error}")
    for line in [] if table is None else table.told():
        say(line)
    if out is not None:
        say(f"wrote {n:,} rows to {out}")


def _by_policies(
    file: Path | None, depth: str, other: tuple[object, ...], out: Path | None, *, readable: bool, texts: bool
) -> "Callable[[Iterator[Asked], TextIO], int]":
    """Return what judges texts by the policy reasoner; `other` are the options of a guard that is a model."""
    from wizloop.loop.commands import classify_policy

    if any(each is not None for each in other):
        refuse("--guard policy needs no model: leave out --round and --model")
    if out is not None and out.suffix == ".csv":
        refuse(f"{out}: the steps of the policy reasoner are no table: name it .jsonl")
    found = classify_policy.reasoner(file, depth)
    return partial(classify_policy.run, found, readable=readable, texts=texts)


def _operating(guard: "Guard") -> list[str]:
    """Return what dev says of the guard's operating point and promised error, if it has one."""
    from wizloop.console import operating

    known = guard.calibration
    return [] if known is None else operating.sentences(known.operating() | {"source": known.source})


def _judge(guard: "Guard", asked: "Iterator[Asked]", to: TextIO, *, as_csv: bool, texts: bool) -> int:
    """Judge texts and write a row for each; return how many."""
    from wizloop.loop.commands import classify_files

    known = guard.calibration
    decides, named = known is not None and known.let_through is not None, bool(guard.categories)
    table = classify_files.csv_writer(to, texts=texts, decides=decides, named=named) if as_csv else None
    write = table or (lambda row: put(row, to))
    n = 0
    for row in classify_files.judged(guard, asked, texts=texts):
        write(row)
        n += 1
    return n


@contextmanager
def _asked(file: Path, table: "Table | None", *, typed: bool = False) -> "Iterator[Iterator[Asked]]":
    """Open a file as rows of a table, or as lines of text; a person who types them gets a prompt before each."""
    from wizloop.loop.commands import classify_files

    if table is not None:
        rows = table.rows()
        # A file that cannot be read is refused before a guard is loaded.
        yield chain(list(islice(rows, 1)), rows)
        return
    with _opened(file) as lines:
        if typed and str(file) == "-":
            lines = _prompted(lines)
        yield classify_files.lines_of(lines, Path(_name(file)).name)


def _prompted(lines: Iterable[str]) -> Iterator[str]:
    typed = iter(lines)
    while True:
        click.echo("text> ", nl=False, err=True)
        if (line := next(typed, None)) is None:
            click.echo(err=True)
            return
        yield line


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
def _opened(file: Path) -> Iterator[Iterable[str]]:
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
