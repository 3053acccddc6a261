"""Queries of rows that the product writes and only tests read."""

from dataclasses import dataclass

from sqlalchemy import func, select

from wizloop.store import rows, tables
from wizloop.store.db import Connection
from wizloop.store.evaluations import Evaluation


@dataclass(frozen=True, slots=True)
class Use:
    """One example that a model was trained on; a pair and a known label have no trace."""

    sample_id: int
    trace_id: int | None
    kind: str


@dataclass(frozen=True, slots=True)
class Loss:
    """One logged training step."""

    step: int
    loss: float
    extra_json: str


def excluded(db: Connection) -> dict[str, int]:
    """Count the excluded samples by split, as the counters have them."""
    return rows.counted(db, select(tables.sample_counts.c.split, tables.sample_counts.c.excluded))


def uses(db: Connection, model_id: int) -> list[Use]:
    """Return a model's training examples, by sample and kind."""
    table = tables.uses
    query = select(*rows.columns(table, Use)).where(table.c.model_id == model_id)
    return rows.every(db, Use, query.order_by(table.c.sample_id, table.c.kind))


def losses(db: Connection, model_id: int, kind: str) -> list[Loss]:
    """Return the logged steps of one kind of training of a model, in order."""
    table = tables.training_log
    query = select(*rows.columns(table, Loss)).where(table.c.model_id == model_id, table.c.kind == kind)
    return rows.every(db, Loss, query.order_by(table.c.step))


def dropped(db: Connection, round: int) -> dict[str, dict[str, int]]:
    """Count the samples left out of a round's training: {kind: {reason: n}}."""
    table, counted = tables.dropped, dict[str, dict[str, int]]()
    by = (table.c.kind, table.c.reason)
    for kind, reason, n in db.execute(select(*by, func.count()).where(table.c.round == round).group_by(*by)):
        counted.setdefault(kind, {})[reason] = n
    return counted


def evaluations(db: Connection, round: int) -> list[Evaluation]:
    """Return the evaluations of a round's models, by benchmark, task and model."""
    table = tables.evaluations
    query = select(*rows.columns(table, Evaluation)).where(table.c.round == round)
    return rows.every(db, Evaluation, query.order_by(table.c.benchmark, table.c.task, table.c.model_id))
