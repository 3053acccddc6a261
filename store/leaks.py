"""Rows kept out of training because dev or test holds their text. It does not search for them."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, exists, func, or_, select

from wizloop.store import rows, tables


@dataclass(frozen=True, slots=True)
class Leak:
    """A row for a training split, and the sample of dev or test that holds its text."""

    split: str
    source: str
    row_ref: str
    sample_id: int | None
    """The row's own sample, excluded; None if the held-out sample has the very same text."""
    held_id: int
    similarity: float
    """1 for the same text, ignoring case, punctuation and spacing; else Jaccard of word 3-shingles."""


def note(db: Connection, found: Iterable[Leak], now: datetime) -> None:
    """Record leaks; a known one stays as it is."""
    for piece in rows.pieces([{**rows.values(leak), "found_at": now} for leak in found]):
        rows.add_missing(db, tables.leaks, piece)


def listed(db: Connection, after: int, limit: int) -> list[tuple[int, Leak]]:
    """Return the next leaks after an id (0 at first) with their ids, oldest first."""
    table = tables.leaks
    query = select(table.c.id, *rows.columns(table, Leak)).where(table.c.id > after)
    return [(number, Leak(*values)) for number, *values in db.execute(query.order_by(table.c.id).limit(limit))]


def number(db: Connection) -> int:
    """Count the known leaks."""
    return int(db.scalar(select(func.count()).select_from(tables.leaks)) or 0)


def searched(db: Connection) -> int:
    """Return the id up to which samples were searched: every leak among them is known. 0 at first."""
    return int(db.scalar(select(tables.leak_search.c.up_to)) or 0)


def set_searched(db: Connection, up_to: int) -> None:
    """Record up to which sample leaks were searched; a lower id makes the next search repeat the rest."""
    rows.put(db, tables.leak_search, {"id": 1}, {"up_to": up_to})


def begun(db: Connection) -> bool:
    """Return whether a sample has a prediction or was selected: from then on no sample may change its split."""
    used = (exists().select_from(table) for table in (tables.predictions, tables.selections))
    return bool(db.scalar(select(or_(*used))))
