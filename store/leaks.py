"""Rows kept out of training because dev or test holds their text. How they are found is not known here."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, select

from wizloop.store import rows, tables
from wizloop.store.engine import upsert


@dataclass(frozen=True, slots=True)
class Leak:
    """A row for a split that trains, and the sample of dev or test that holds its text."""

    split: str
    source: str
    row_ref: str
    sample_id: int | None
    """The row's own sample, out of use; None where the held-out sample is its very text."""
    held_id: int
    similarity: float
    """1 for the same text, case, punctuation and spacing aside; else Jaccard of word 3-shingles."""


_LEAK = rows.columns(tables.leaks, Leak)


def note(db: Connection, found: Iterable[Leak], now: datetime) -> None:
    """Write leaks down; one that is known stays as it is."""
    made = [{**rows.values(leak), "found_at": now} for leak in found]
    for piece in rows.pieces(made):
        db.execute(upsert(db, tables.leaks).on_conflict_do_nothing(), piece)


def listed(db: Connection, after: int, limit: int) -> list[tuple[int, Leak]]:
    """The next leaks with their ids, in the order in which they were found; 0 at first."""
    table = tables.leaks
    query = select(table.c.id, *_LEAK).where(table.c.id > after).order_by(table.c.id).limit(limit)
    return [(number, Leak(*values)) for number, *values in db.execute(query)]


def number(db: Connection) -> int:
    """How many leaks are known."""
    return int(db.scalar(select(func.count()).select_from(tables.leaks)) or 0)


def searched(db: Connection) -> int:
    """The id of the last sample of those among which every leak is known; 0 at first."""
    return int(db.scalar(select(tables.leak_search.c.up_to)) or 0)


def set_searched(db: Connection, up_to: int) -> None:
    """Note up to which sample leaks were looked for, or that those behind it must be looked at again."""
    noted = upsert(db, tables.leak_search).values(id=1, up_to=up_to)
    db.execute(noted.on_conflict_do_update(index_elements=["id"], set_={"up_to": up_to}))


def begun(db: Connection) -> bool:
    """Whether a guard has read a sample, or one was selected: from then on none may change its split."""
    reading, picking = select(tables.predictions.c.model_id), select(tables.selections.c.sample_id)
    return any(db.execute(query.limit(1)).first() is not None for query in (reading, picking))
