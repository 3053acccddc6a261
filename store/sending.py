"""Which samples are kept back from the teachers, and what was sent to whom. Sends nothing.

A sample is kept back for good: nothing takes the mark away. It is a row of the table `dropped`, as what is left out of
training is.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select

from wizloop.store import rows, tables

_ROUND, _KIND = 0, "teacher"
_PIECE = 500


@dataclass(frozen=True, slots=True)
class Sent:
    """A call that left, or was about to leave, for a teacher."""

    id: int
    key: str
    sample_id: int
    round: int
    teacher: str
    model: str
    attempt: int
    state: str
    outcome: str | None
    category: str | None
    request_json: str
    sent_at: datetime | None
    created_at: datetime

    @property
    def at(self) -> datetime:
        """When it was sent; a call that is planned again has lost that time."""
        return self.sent_at or self.created_at


def keep_back(db: Connection, digests: Collection[bytes], reason: str) -> int:
    """Keep the samples of these texts back from the teachers, as far as they are stored; return how many there are."""
    table, found = tables.samples, 0
    for piece in rows.pieces(sorted(digests), _PIECE):
        ids = list(db.scalars(select(table.c.id).where(table.c.hash.in_([digest.hex() for digest in piece]))))
        marks = [{"round": _ROUND, "sample_id": one, "kind": _KIND, "reason": reason} for one in ids]
        rows.add_missing(db, tables.dropped, marks)
        found += len(ids)
    return found


def kept_back(db: Connection, sample_ids: Sequence[int]) -> set[int]:
    """Return those of these samples that are kept back from the teachers."""
    table, found = tables.dropped, set[int]()
    query = select(table.c.sample_id).where(table.c.round == _ROUND, table.c.kind == _KIND)
    for piece in rows.pieces(sample_ids, _PIECE):
        found.update(db.scalars(query.where(table.c.sample_id.in_(piece))))
    return found


def sent(db: Connection) -> Iterator[Sent]:
    """Yield every call that was sent, in the order of planning; one that is planned again has a cost already."""
    table = tables.teacher_calls
    query = select(*rows.columns(table, Sent)).where(table.c.sent_at.is_not(None) | table.c.cost_micro.is_not(None))
    for row in db.execute(query.order_by(table.c.id).execution_options(yield_per=_PIECE)):
        yield Sent(*row)
