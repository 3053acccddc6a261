"""Samples that rounds selected for the teachers, and why. Selects none."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, exists, func, select

from wizloop.store import rows, tables, teacher_checks


@dataclass(frozen=True, slots=True)
class Selection:
    """One selected sample; a sample is selected once in a run."""

    round: int
    sample_id: int
    reason: str
    """uncertain_compliance, disagreement, low_confidence, diversity, random, seed, or an installed strategy's name."""
    score: float
    rank: int
    propensity: float | None
    """Probability of a random selection; None for the others."""
    words: str
    """The reason as a sentence for a reviewer."""


_TABLE = tables.selections
_SELECTIONS = select(*rows.columns(_TABLE, Selection))


def add(db: Connection, new: Sequence[Selection]) -> int:
    """Add selections and return how many were new. A sample selected before, in any round, stays as it is."""
    return sum(rows.add_missing(db, _TABLE, [rows.values(row) for row in piece]) for piece in rows.pieces(new))


def of_round(db: Connection, round: int) -> list[Selection]:
    """Return a round's selections, by rank."""
    query = _SELECTIONS.where(_TABLE.c.round == round).order_by(_TABLE.c.rank, _TABLE.c.sample_id)
    return rows.every(db, Selection, query)


def of_samples(db: Connection, sample_ids: Sequence[int]) -> list[Selection]:
    """Return the selections of these samples, in sample order; samples that were never selected are left out."""
    return rows.by_ids(db, Selection, _SELECTIONS.order_by(_TABLE.c.sample_id), _TABLE.c.sample_id, sample_ids)


def untaught(db: Connection, round: int) -> list[Selection]:
    """Return a round's selections without a teacher's trace, by rank, whatever the state of their calls.

    The traces of a teacher that is left out count for nothing.
    """
    made, without = tables.teacher_traces, teacher_checks.disbelieved(db)
    taught = exists().where(made.c.sample_id == _TABLE.c.sample_id, made.c.id.not_in(without))
    query = _SELECTIONS.where(_TABLE.c.round == round, ~taught).order_by(_TABLE.c.rank, _TABLE.c.sample_id)
    return rows.every(db, Selection, query)


def by_reason(db: Connection, round: int) -> dict[str, int]:
    """Count a round's selections by reason."""
    query = select(_TABLE.c.reason, func.count()).where(_TABLE.c.round == round).group_by(_TABLE.c.reason)
    return rows.counted(db, query.order_by(_TABLE.c.reason))
