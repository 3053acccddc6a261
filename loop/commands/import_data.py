"""`import` and `leaks`: samples into a workspace, and what of them stands in dev or test."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from wizloop.loop.commands.common import (
    FILE,
    in_workspace,
    now,
    put,
    reading,
    refuse,
    say,
    sentences,
    with_json,
)

_AT_ONCE = 1000
"""Rows that a night does not notice: some 20 ms of its writers' time."""
_TOLD_EVERY = 100_000
_SPLITS = ("pool", "seed", "dev", "test")
_TASKS = ("request", "completion", "response")


@click.command("import", short_help="Samples from a file or the hub, into a split.")
@click.argument("file", type=FILE, required=False)
@click.option("--hub", metavar="NAME[:config]", help="A dataset of the Hugging Face hub instead of a file.")
@click.option("--hub-split", metavar="SPLIT", help="Which of its splits.")
@click.option("--split", type=click.Choice(_SPLITS), default="pool", show_default=True, help="Where the rows go.")
@click.option("--map", multiple=True, metavar="COLUMN=FIELD", help="A column that is the prompt, response, label, ...")
@click.option("--format", help="The file's format by name, where it is not recognised.")
@click.option(
    "--task",
    type=click.Choice(_TASKS),
    default="request",
    show_default=True,
    help="What a bare label column speaks about.",
)
@click.option("--limit", type=click.IntRange(min=1), help="The first so many rows.")
@click.option(
    "--part",
    type=(float, float),
    metavar="FROM TO",
    help="The rows whose prompt falls there, of 0 to 1: parts of one file never overlap.",
)
@click.option("--prompts-only", is_flag=True, help="Leave the responses out.")
@click.option("--hide-labels", is_flag=True, help="Leave the labels of pool or seed unread.")
@click.option("--benchmark", help="The name under which test rows are reported.")
@click.option("--skip-bad", is_flag=True, help="Leave bad rows out and take the others, instead of nothing.")
@click.option("--dry-run", is_flag=True, help="Say what would come in, and write nothing.")
@in_workspace
@with_json
def import_(
    file: Path | None,
    hub: str | None,
    hub_split: str | None,
    dry_run: bool,
    workspace: Path,
    as_json: bool,
    **asked: Any,
) -> None:
    """Import samples from FILE into a split of the workspace, in one transaction.

    FILE is JSON, JSON Lines or CSV (each also gzipped) or Parquet. The same file twice adds nothing.

    A bad row refuses the whole file: nothing is written, and the exit status is 2. Bad is what such a file cannot hold:
    bytes that are not UTF-8, a NUL, a text above 1,000,000 bytes, no JSON, a column that is missing or no text, one id
    for two texts. With --skip-bad such rows are left out, and the status is 0.

    One labelled file for three splits: import it three times, as --split seed --part 0 0.2, --split dev --part 0.2 0.5
    and --split test --part 0.5 1.

    A row that is whole and of no use to the split is left out either way, told and counted: a label that is null or
    unknown, no label where the split needs one, an empty prompt.
    """
    from wizloop.loop.data.import_file import RowsRefused
    from wizloop.loop.data.records import ImportRefused

    if (file is None) == (hub is None) or (hub is None) != (hub_split is None):
        refuse("name a FILE, or --hub NAME with --hub-split SPLIT")
    path = str(file or hub)
    if hub is not None:
        say(f"asking for {hub}, which takes half a minute where the network is gone")
    data = _data({**asked, "map": _mapping(asked["map"]), "path": path, "hub_split": hub_split})
    with sentences(ImportRefused):
        try:
            taken, leaks = _imported(workspace, data, dry_run)
        except RowsRefused as refused:
            if as_json:
                put({**refused.report.to_json(), "leaks": 0, "dry_run": dry_run})
            else:
                _list_rows(refused.report.bad or refused.report.refused)
            raise
    if as_json:
        put({**taken.to_json(), "leaks": leaks, "dry_run": dry_run})
    else:
        _tell(path, data.split, taken, leaks, dry_run)


@click.command(short_help="What training shares with dev or test, or two files.")
@click.argument("files", type=FILE, nargs=-1, metavar="[TRAIN MEASURE]")
@click.option("--format", help="The format of both files by name, where it is not recognised.")
@in_workspace
@with_json
def leaks(files: Sequence[Path], format: str | None, workspace: Path, as_json: bool) -> None:
    """List the rows that are kept out of training because dev or test holds them.

    With two files, before any import: what TRAIN and MEASURE have in common.
    """
    from wizloop.loop.data.records import ImportRefused

    if files and len(files) != 2:
        refuse("name two files, TRAIN and MEASURE, or none")
    with sentences(ImportRefused):
        if files:
            _compare(files[0], files[1], format, as_json)
        else:
            _list(workspace, as_json)


def _list(workspace: Path, as_json: bool) -> None:
    from wizloop.loop.data import leaks

    with reading(workspace) as db:
        found = list(leaks.listed(db))
    if as_json:
        put({"leaks": [one.to_json() for one in found]})
        return
    for one in found:
        leak, held, prompt = one.leak, one.held_out, " ".join(one.prompt[:200].split())[:60]
        kind = "is" if leak.similarity == 1 else f"is nearly ({leak.similarity:.2f})"
        click.echo(_shown(f"{leak.split} {leak.row_ref} {kind} {held.split} {held.row_ref}: {prompt}"))
    say(f"{len(found):,} rows are kept out of training because dev or test holds them")


def _compare(train: Path, measure: Path, format: str | None, as_json: bool) -> None:
    from wizloop.loop.data import compare_files

    found = compare_files.compare(train, measure, format)
    if as_json:
        put(found.to_json())
        return
    for path, one in ((train, found.train), (measure, found.measure)):
        click.echo(
            _shown(
                f"{path}: {one.format}, {one.rows:,} rows, {one.refused:,} refused, {one.plain:,} different prompts "
                f"({one.words:,} punctuation aside), {one.conflicts:,} of them with two labels"
            )
        )
    click.echo(f"in both: {found.plain:,} prompts ({found.words:,} punctuation aside); nearly: {found.near:,} more")


def _mapping(given: Sequence[str]) -> dict[str, str]:
    """Our field to the file's column. Both COLUMN=FIELD and FIELD=COLUMN are understood."""
    from wizloop.loop.data.format_choice import MAPPING_KEYS

    mapping: dict[str, str] = {}
    for pair in given:
        column, equals, key = pair.partition("=")
        if not equals or not column or not key:
            refuse(f"--map {pair}: write it as COLUMN=FIELD, for example question=prompt")
        if key not in MAPPING_KEYS and column in MAPPING_KEYS:
            column, key = key, column
        if key in mapping:
            refuse(f"--map {pair}: the field {key} has a column already")
        mapping[key] = column
    return mapping


def _data(asked: dict[str, Any]) -> Any:
    """What is asked, in the words of a recipe's [[data]], which says which values are allowed."""
    from pydantic import ValidationError

    from wizloop.recipes import sections

    try:
        return sections.Data.model_validate(asked)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        refuse(f"{f'--{where}: ' if where else ''}{first['msg'].removeprefix('Value error, ')}")


def _imported(workspace: Path, data: Any, dry_run: bool) -> tuple[Any, int]:
    """What became of the rows, and how many samples of pool and seed turned out to stand in dev or test."""
    import numpy as np

    from wizloop.loop.controller import lock
    from wizloop.loop.data import import_file
    from wizloop.loop.data import leaks as leaking
    from wizloop.loop.data.records import ImportRefused

    with _progress("read") as read:
        checked = import_file.check(data, np.random.default_rng(0), read)
    with checked.spool:
        if checked.count > _AT_ONCE and lock.is_held(workspace):
            raise ImportRefused(
                f"{data.path}: a night is at work in {workspace}, and {checked.count:,} rows at once would hold it up: "
                f"`wizloop stop` first, or import at most {_AT_ONCE:,} (--limit)"
            )
        with _store(workspace, dry_run) as store:
            known = _leaks(store)
            then = "" if dry_run else ", now indexed and committed"
            with _progress("written", checked.count, then) as written:
                import_file.write(store, checked, now(), keep=not dry_run, progress=written)
            if not dry_run:
                with _progress("compared with dev and test") as compared:
                    leaking.sweep(store, now(), compared)
            return checked.report, _leaks(store) - known


def _leaks(store: Any) -> int:
    """How many leaks are written down."""
    from wizloop.store import leaks

    with store.read() as db:
        return leaks.number(db)


@contextmanager
def _store(workspace: Path, dry_run: bool) -> Iterator[Any]:
    """The workspace's store, made where there is none; for a dry run that one is made aside and thrown away."""
    from wizloop.store.db import Store
    from wizloop.store.sqlite import DB_NAME

    if not dry_run:
        with Store.create(workspace) as store:
            yield store
    elif (workspace / DB_NAME).is_file():
        with Store.open(workspace) as store:
            yield store
    else:
        with TemporaryDirectory() as aside, Store.create(Path(aside)) as store:
            yield store


@contextmanager
def _progress(what: str, last: int = 0, then: str = "") -> Iterator[Callable[[int], None]]:
    """Says every so many rows how far it is, and what comes after the last; on a terminal in one line."""
    on_terminal, told = sys.stderr.isatty(), 0

    def tell(done: int) -> None:
        nonlocal told
        if done - told >= _TOLD_EVERY or (told and done == last):
            told = done
            line = f"{done:,} rows {what}" + (then if done == last else "")
            click.echo(f"\r{line}" if on_terminal else line, err=True, nl=not on_terminal)

    yield tell
    if told and on_terminal:
        click.echo(err=True)


def _tell(path: str, split: str, taken: Any, leaks: int, dry_run: bool) -> None:
    """The report, for a person."""
    say(f"{path}: the format is {taken.format}" + (f"; {taken.note}" if taken.note else ""))
    would = "would be accepted" if dry_run else "accepted"
    say(f"{taken.rows:,} rows, {taken.accepted:,} {would} into {split}")
    again = " (duplicates too)" if taken.duplicates or taken.conflicts else ""
    for task, labels in taken.labels.items():
        say(f"  {task}: " + ", ".join(f"{n:,} {label}" for label, n in labels.items()) + again)
    elsewhere = f" ({taken.elsewhere:,} of them in another split)" if taken.elsewhere else ""
    say(f"{taken.duplicates:,} duplicates{elsewhere}, {taken.conflicts:,} of another label than before")
    say(f"{len(taken.refused):,} refused" + (f", {len(taken.bad):,} of them bad rows" if taken.bad else ""))
    _list_rows(taken.refused)
    if not taken.accepted and not taken.conflicts and taken.duplicates:
        say("nothing new: every text was there before")
    if leaks:
        say(f"{leaks:,} rows are kept out of training because dev or test holds them: `wizloop leaks` lists them")
    if dry_run:
        say("a dry run: nothing was written")


def _list_rows(refused: Sequence[Any]) -> None:
    from wizloop.loop.data.import_file import list_refused

    for line in list_refused(refused):
        say(f"  {line}")


def _shown(line: str) -> str:
    """One line, whatever a row's reference or a file's name holds: no text from outside begins a line of its own."""
    from wizloop.store.display import shown

    return shown(" ".join(line.split()))
