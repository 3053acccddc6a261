"""`import` and `leaks`: import samples, and list those that are also in dev or test."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from wizloop.loop.commands.common import (
    FILE,
    SPLITS,
    in_workspace_with_json,
    now,
    put,
    read_store,
    refuse,
    report_errors,
    say,
    show,
)
from wizloop.loop.commands.completion import recipe_names
from wizloop.loop.commands.declared import of_recipe
from wizloop.loop.commands.reading import data_of, reading, with_reading

if TYPE_CHECKING:
    from wizloop.loop.words import Declaration
    from wizloop.recipes.schema import Recipe
    from wizloop.store.db import Store

MOST_DURING_A_RUN = 1000
"""Most rows written while a run is active; they block its writes for about 20 ms."""
_PROGRESS_ROWS = 100_000
_TASKS = ("request", "completion", "response")


@click.command("import", short_help="Import samples from a file or the hub into a split.")
@click.argument("file", type=FILE, required=False)
@click.option("--hub", metavar="NAME[:config]", help="Import a dataset from the Hugging Face hub instead of a file.")
@click.option("--hub-split", metavar="SPLIT", help="Split of the hub dataset.")
@click.option(
    "--traces", is_flag=True, help="Import the rows' reasoning too, into seed: it is learned from as it stands."
)
@click.option("--split", type=click.Choice(SPLITS), help="Split to import into; default: pool.")
@with_reading
@click.option(
    "--recipe",
    metavar="RECIPE",
    shell_complete=recipe_names,
    help="Read labels in the words of this recipe's [tasks]; default: the run's.",
)
@click.option(
    "--task", type=click.Choice(_TASKS), default="request", show_default=True, help="Task of a plain label column."
)
@click.option("--limit", type=click.IntRange(min=1), help="Read only the first N rows.", metavar="N")
@click.option(
    "--part",
    type=(float, float),
    metavar="FROM TO",
    help="Take rows whose prompt's hash is in [FROM, TO), of 0 to 1; disjoint parts never share a prompt.",
)
@click.option("--prompts-only", is_flag=True, help="Leave out the responses.")
@click.option("--hide-labels", is_flag=True, help="Ignore the labels of pool or seed.")
@click.option(
    "--send",
    metavar="COLUMN[=VALUE]",
    help="Keep rows back from all teachers, unless this column says yes, true or 1, or VALUE.",
)
@click.option("--benchmark", help="Name under which test rows are reported.")
@click.option("--skip-bad", is_flag=True, help="Skip bad rows instead of refusing the file.")
@click.option("--dry-run", is_flag=True, help="Report what would be imported; write nothing.")
@click.option("--follow", is_flag=True, help="Import lines as another program writes them, until Ctrl-C; pool only.")
@click.option("--once", is_flag=True, help="With --follow: import what is new and end.")
@in_workspace_with_json
def import_(
    file: Path | None,
    hub: str | None,
    hub_split: str | None,
    traces: bool,
    split: str | None,
    recipe: "Recipe | str | None",
    dry_run: bool,
    follow: bool,
    once: bool,
    workspace: Path,
    as_json: bool,
    **settings: Any,
) -> None:
    """Import samples from FILE into a split of the workspace, in one transaction.

    FILE is JSON, JSON Lines, CSV or TSV (each also gzipped) or Parquet. Importing the same file twice adds nothing.

    A file with a bad row is refused as a whole: nothing is written, and the exit status is 2. A row is bad if it has
    invalid UTF-8 or JSON, a NUL character, a text over 1,000,000 bytes, or a missing column or one that is not text.
    With --skip-bad such rows are skipped, and the status is 0.

    To split one labeled file in three, import it three times: --split seed --part 0 0.2, --split dev --part 0.2 0.5 and
    --split test --part 0.5 1.

    With --traces, FILE holds reasoning and verdicts as GuardReasoner, the traces schema, STAR-1, TRL or `wizloop teach`
    write them. The samples go into seed, and the reasoning is reviewed and learned from; nothing is asked or paid.

    With --follow, FILE is a log of JSON Lines that grows, as `wizloop serve` writes one: its rows join the pool, and a
    later --follow resumes where this one stopped. Bad rows are skipped. A running round's pool stays as it is.

    A valid row that the split cannot use is skipped and counted: an empty prompt, and outside of the pool a row without
    a label or with an unknown label word. The pool keeps such a row without that label. Elsewhere unknown words on 2 %
    of the rows, or on all rows of one class, refuse the file: --label says what they mean.
    """
    from wizloop.loop.data.import_file import RowsRefused
    from wizloop.loop.data.records import ImportRefused

    if (file is None) == (hub is None) or (hub is None) != (hub_split is None):
        refuse("give a FILE, or --hub NAME with --hub-split SPLIT")
    path = str(file or hub)
    if hub is not None:
        say(f"loading {hub} (without a network this fails after half a minute)")
    place = {"path": path, "hub_split": hub_split, "split": split or ("seed" if traces else "pool")}
    if (follow or once) and (traces or dry_run or not follow):
        refuse("--once needs --follow, and --follow takes neither --traces nor --dry-run")
    if traces:
        from wizloop.loop.commands.import_traces import import_traces, traces_data

        declared = of_recipe(recipe, workspace)
        import_traces(workspace, traces_data({**settings, **place}), declared, dry_run=dry_run, as_json=as_json)
        return
    data, declared = data_of({**reading(**settings), **place}), of_recipe(recipe, workspace)
    if follow:
        from wizloop.loop.commands import follow_file

        follow_file.follow(workspace, data, declared, once=once, as_json=as_json)
        return
    with report_errors(ImportRefused):
        try:
            taken, leaks = _imported(workspace, data, declared, dry_run)
        except RowsRefused as refused:
            if as_json:
                put({**refused.report.to_json(), "leaks": 0, "dry_run": dry_run})
            else:
                list_rows(refused.report.bad or refused.report.refused)
            raise
    if as_json:
        put({**taken.to_json(), "leaks": leaks, "dry_run": dry_run})
    else:
        _report(path, data.split, taken, leaks, dry_run)


@click.command(short_help="List rows that training shares with dev or test.")
@click.argument("files", type=FILE, nargs=-1, metavar="[TRAIN MEASURE]")
@with_reading
@in_workspace_with_json
def leaks(files: Sequence[Path], workspace: Path, as_json: bool, **settings: Any) -> None:
    """List rows that are excluded from training because they are in dev or test.

    With two files, before any import: count the prompts that TRAIN and MEASURE share. A column of --map may be in
    one of them only. With --json the list has the texts of the rows.
    """
    from wizloop.loop.data.records import ImportRefused

    how = reading(**settings)
    if not files and any(how.values()):
        refuse("--map, --label, --format and --turns are for two files")

    if files and len(files) != 2:
        refuse("give two files, TRAIN and MEASURE, or none")
    with report_errors(ImportRefused):
        if files:
            _compare(files[0], files[1], how, as_json)
        else:
            _list(workspace, as_json)


def _list(workspace: Path, as_json: bool) -> None:
    from wizloop.loop.data import leaks

    with read_store(workspace) as db:
        found = list(leaks.listed(db))
    if as_json:
        put({"leaks": [one.to_json() for one in found]})
        return
    for one in found:
        leak, held_out, prompt = one.leak, one.held_out, " ".join(one.prompt[:200].split())[:60]
        kind = "is" if leak.similarity == 1 else f"is nearly ({leak.similarity:.2f})"
        _show(f"{leak.split} {leak.row_ref} {kind} {held_out.split} {held_out.row_ref}: {prompt}")
    say(f"{len(found):,} rows are excluded from training because they are in dev or test")


def _compare(train: Path, measure: Path, how: dict[str, Any], as_json: bool) -> None:
    from wizloop.loop.data import compare_files

    found = compare_files.compare(train, measure, how)
    if as_json:
        put(found.to_json())
        return
    for path, one in ((train, found.train), (measure, found.measure)):
        _show(
            f"{path}: {one.format}, {one.rows:,} rows, {one.refused:,} refused, {one.plain:,} different prompts "
            f"({one.words:,} without punctuation), {one.conflicts:,} of them with two labels"
        )
    show(f"in both: {found.plain:,} prompts ({found.words:,} without punctuation), and {found.near:,} near-duplicates")


def _imported(workspace: Path, data: Any, declared: "Declaration", dry_run: bool) -> tuple[Any, int]:
    """Import the rows; return their report, and the number of samples newly found to leak from dev or test."""
    import numpy as np

    from wizloop.loop.controller import lock
    from wizloop.loop.data import import_file
    from wizloop.loop.data import leaks as leaking
    from wizloop.loop.data.records import ImportRefused

    with progress("read") as read:
        checked = import_file.check(data, np.random.default_rng(0), read, declared=declared)
    with checked.spool:
        if checked.count > MOST_DURING_A_RUN and lock.is_held(workspace):
            raise ImportRefused(
                f"{data.path}: a run is active in {workspace}, and {checked.count:,} rows would block its writes: "
                f"run `wizloop stop` first, or import at most {MOST_DURING_A_RUN:,} rows (--limit)"
            )
        with _store(workspace, dry_run) as store:
            known = _leaks(store)
            then = "" if dry_run else ", now indexed and committed"
            with progress("written", checked.count, then) as written:
                import_file.write(store, checked, now(), keep=not dry_run, progress=written)
            if not dry_run:
                with progress("compared with dev and test") as compared:
                    leaking.sweep(store, now(), compared)
            return checked.report, _leaks(store) - known


def _leaks(store: Any) -> int:
    from wizloop.store import leaks

    with store.read() as db:
        return leaks.number(db)


@contextmanager
def _store(workspace: Path, dry_run: bool) -> Iterator[Any]:
    """Open the workspace's store, created if needed; a dry run creates a temporary one instead."""
    from wizloop.store.db import Store
    from wizloop.store.sqlite import DB_NAME

    if dry_run and not (workspace / DB_NAME).is_file():
        with TemporaryDirectory() as temporary, Store.create(Path(temporary)) as store:
            yield store
    else:
        with Store.open(workspace) if dry_run else opened(workspace) as store:
            yield store


def opened(workspace: Path) -> "Store":
    """Open or create the workspace's store. An older one stays as it is: only `upgrade` and `start` migrate."""
    from wizloop.store.db import Store
    from wizloop.store.errors import NoWorkspace

    try:
        return Store.open(workspace)
    except NoWorkspace:
        return Store.create(workspace)


@contextmanager
def progress(what: str, last: int = 0, then: str = "") -> Iterator[Callable[[int], None]]:
    """Print the row count every 100,000 rows and `then` after the last; on a terminal, on one line."""
    on_terminal, printed = sys.stderr.isatty(), 0

    def report(done: int) -> None:
        nonlocal printed
        if done - printed >= _PROGRESS_ROWS or (printed and done == last):
            printed = done
            line = f"{done:,} rows {what}" + (then if done == last else "")
            click.echo(f"\r{line}" if on_terminal else line, err=True, nl=not on_terminal)

    yield report
    if printed and on_terminal:
        click.echo(err=True)


def _report(path: str, split: str, taken: Any, leaks: int, dry_run: bool) -> None:
    say(f"{path}: format {taken.format}" + (f"; {taken.note}" if taken.note else ""))
    would = "would be accepted" if dry_run else "accepted"
    say(f"{taken.rows:,} rows, {taken.accepted:,} {would} into {split}")
    again = " (duplicates included)" if taken.duplicates or taken.conflicts else ""
    for task, labels in taken.labels.items():
        say(f"  {task}: " + ", ".join(f"{n:,} {label}" for label, n in labels.items()) + again)
    if taken.categories:
        say("  categories: " + ", ".join(f"{n:,} {name or 'none'}" for name, n in list(taken.categories.items())[:10]))
    _report_words(taken, split)
    elsewhere = f" ({taken.elsewhere:,} of them in another split)" if taken.elsewhere else ""
    say(f"{taken.duplicates:,} duplicates{elsewhere}, {taken.conflicts:,} conflicting labels")
    say(f"{len(taken.refused):,} refused" + (f", {len(taken.bad):,} of them bad rows" if taken.bad else ""))
    list_rows(taken.refused)
    if not taken.accepted and not taken.conflicts and taken.duplicates:
        say("nothing new: every text was already imported")
    if taken.kept_back:
        say(f"{taken.kept_back:,} texts are kept back from the teachers")
    if leaks:
        say(f"{leaks:,} rows are excluded from training because they are in dev or test: `wizloop leaks` lists them")
    if dry_run:
        say("dry run: nothing was written")


def _report_words(taken: Any, split: str) -> None:
    """Say how many rows have no label, which label words are unknown, and which are mapped in vain."""
    if taken.unlabeled and (taken.labels or taken.unknown_labels):
        say(f"  {taken.unlabeled:,} without a label")
    for task, words in taken.unknown_labels.items():
        listed = ", ".join(f"{n:,} {word!r}" for word, n in list(words.items())[:10])
        what = "kept without this label" if split == "pool" else "left out"
        say(f"  unknown {task} labels, {what}: {listed} (say what they mean: --label WORD=LABEL)")
    for word in taken.unused_labels:
        say(f"  --label {word}: no row has this word")


def list_rows(refused: Sequence[Any]) -> None:
    """Print the first refused rows with their reasons."""
    from wizloop.loop.data.import_file import list_refused

    for line in list_refused(refused):
        say(f"  {line}")


def _show(line: str) -> None:
    """Print one line, whatever a row reference or a file name contains."""
    show(" ".join(line.split()))
