"""`import --follow`: the rows of a log join the pool as another program writes them."""

import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wizloop.loop.commands.common import now, put, refuse, report_errors, say
from wizloop.loop.commands.import_data import opened

if TYPE_CHECKING:
    from wizloop.loop.data.followed_rows import Followed
    from wizloop.loop.words import Declaration
    from wizloop.recipes.sections import Data

_POLL_SECONDS = 1.0
_TELL_SECONDS = 60.0
"""Least time between two lines about new rows, and between two searches for leaks."""
_MOST_REFUSED_TOLD = 10
_NOT_LINES = (".gz", ".parquet", ".csv", ".tsv", ".json")


def follow(workspace: Path, data: "Data", declared: "Declaration", *, once: bool, as_json: bool) -> None:
    """Import what is new in a file, and, unless `once`, go on as it grows until Ctrl-C or SIGTERM."""
    from wizloop.loop.data.followed_rows import Followed
    from wizloop.loop.data.records import ImportRefused

    path = Path(data.path)
    _refuse_settings(path, data, once)
    with report_errors(ImportRefused), opened(workspace) as store:
        followed = Followed.open(store, workspace, data.model_copy(update={"skip_bad": True}), declared)
        if not once:
            say(f"{path}: following it into the pool of {workspace}; Ctrl-C ends it")
        with _ended_by_signal():
            _read_on(followed, once)
        found = dict.fromkeys(("rows", "accepted", "duplicates", "conflicts", "refused"), 0) | followed.totals
        if as_json:
            put(found)
        else:
            say(_in_words(path, found))


def _refuse_settings(path: Path, data: "Data", once: bool) -> None:
    """Refuse what has no meaning for a file without an end, and a name of a file that is not lines."""
    if data.split != "pool":
        refuse(f"--follow adds to the pool; what {data.split} holds stays as it is while a night runs")
    if data.hub_split is not None or data.limit is not None or data.benchmark is not None:
        refuse("--follow reads a FILE to its end: leave out --hub, --limit and --benchmark")
    if path.suffix.lower() in _NOT_LINES:
        refuse(f"{path}: --follow reads JSON Lines; import this file without it")
    if once and not path.exists():
        refuse(f"{path}: no such file; check the name")


@contextmanager
def _ended_by_signal() -> Iterator[None]:
    """End quietly at Ctrl-C or SIGTERM. A transaction that is cut short is read again by the next --follow."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGTERM, before)


def _read_on(followed: "Followed", once: bool) -> None:
    """Import what comes, and compare it with dev and test whenever there is nothing more to read for now."""
    told_at, told = time.monotonic(), Counter(followed.totals)
    while True:
        if _next_part(followed):
            continue
        is_due = followed.totals != told and time.monotonic() - told_at >= _TELL_SECONDS
        if once or is_due:
            _compare(followed)
        if once:
            return
        if is_due:
            say(_in_words(Path(followed.data.path), followed.totals))
            told_at, told = time.monotonic(), Counter(followed.totals)
        time.sleep(_POLL_SECONDS)


def _next_part(followed: "Followed") -> bool:
    """Import the next lines, and return whether there are more."""
    from wizloop.store import errors

    try:
        part, report = followed.read_on(now())
    except errors.Busy:
        # A night is writing: the lines wait in the file.
        time.sleep(_POLL_SECONDS)
        return True
    if part.told:
        say(part.told)
    if report is not None:
        _tell_refused(followed, report.refused)
    return part.more


def _compare(followed: "Followed") -> None:
    """Exclude what dev and test hold too; a round does so itself before it reads its pool."""
    from wizloop.loop.data import leaks

    leaks.sweep(followed.store, now())


def _tell_refused(followed: "Followed", refused: list[Any]) -> None:
    """Say why rows are refused, up to ten times in all."""
    before = followed.totals["refused"] - len(refused)
    for row in refused[: max(0, _MOST_REFUSED_TOLD - before)]:
        say(f"{followed.data.path}: row {row.row}: {row.reason}")


def _in_words(path: Path, found: Any) -> str:
    return (
        f"{path}: {found['rows']:,} new rows, {found['accepted']:,} accepted into pool, {found['duplicates']:,} "
        f"duplicates, {found['conflicts']:,} conflicting labels, {found['refused']:,} refused"
    )
