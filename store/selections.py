"""Which samples a round picked to be taught, and why. How they are picked is the loop's."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, exists, func, select

from wizloop.store import rows, tables


@dataclass(frozen=True, slots=True)
class Selection:
    """One picked sample; a sample is picked once in a run."""

    round: int
    sample_id: int
    reason: str
    """uncertain_compliance, disagreement, low_confidence, diversity, random, seed, or an installed strategy's name."""
    score: float
    rank: int
    propensity: float | None
    """The chance with which it was picked, where it was picked by chance."""
    words: str
    """The reason in words that a reviewer can read."""


NewSelection = Selection

_SELECTION = rows.columns(tables.selections, Selection)


def add(db: Connection, new: Sequence[Selection]) -> int:
    """Add selections; how many were new. A sample that was picked before, in any round, is left as it is."""
    added = 0
    for piece in rows.pieces(new):
        known = {row.sample_id for row in of_samples(db, [row.sample_id for row in piece])}
        fresh: dict[int, Selection] = {}
        for row in piece:
            if row.sample_id not in known:
                fresh.setdefault(row.sample_id, row)
        if fresh:
            db.execute(tables.selections.insert(), [rows.values(row) for row in fresh.values()])
        added += len(fresh)
    return added


def of_round(db: Connection, round: int) -> list[Selection]:
    """The selections of a round, by rank."""
    table = tables.selections
    query = select(*_SELECTION).where(table.c.round == round).order_by(table.c.rank, table.c.sample_id)
    return rows.every(db, Selection, query)


def of_samples(db: Connection, sample_ids: Sequence[int]) -> list[Selection]:
    """The selections of these samples, in sample order; a sample that was never picked is left out."""
    table = tables.selections
    found: list[Selection] = []
    for piece in rows.pieces(sorted(set(sample_ids))):
        query = select(*_SELECTION).where(table.c.sample_id.in_(piece)).order_by(table.c.sample_id)
        found += rows.every(db, Selection, query)
    return found


def untaught(db: Connection, round: int) -> list[Selection]:
    """The selections of a round that have no teacher's trace yet, by rank; whatever became of their calls."""
    table, trace = tables.selections, tables.teacher_traces
    taught = exists().where(trace.c.sample_id == table.c.sample_id)
    query = select(*_SELECTION).where(table.c.round == round, ~taught).order_by(table.c.rank, table.c.sample_id)
    return rows.every(db, Selection, query)


def by_reason(db: Connection, round: int) -> dict[str, int]:
    """How many samples a round picked for which reason."""
    table = tables.selections
    query = select(table.c.reason, func.count()).where(table.c.round == round).group_by(table.c.reason)
    return rows.counted(db, query.order_by(table.c.reason))
