"""How models did on dev, test and benchmarks. The metrics are worked out elsewhere."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, select

from wizloop.store import rows, tables
from wizloop.store.engine import upsert


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One model on one task of one benchmark (`dev` and `test` are benchmarks too)."""

    model_id: int
    round: int
    benchmark: str
    task: str
    n: int
    unparsed: int
    metrics_json: str
    """An object with at least f1, low, high, precision and recall."""


NewEvaluation = Evaluation


def add(db: Connection, new: Sequence[Evaluation]) -> None:
    """Add evaluations; a model's figure for a task of a benchmark that is there already stays."""
    if new:
        db.execute(upsert(db, tables.evaluations).on_conflict_do_nothing(), [rows.values(row) for row in new])


def of_model(db: Connection, model_id: int) -> list[Evaluation]:
    """A model's evaluations, by benchmark and task."""
    return _where(db, tables.evaluations.c.model_id == model_id)


def of_round(db: Connection, round: int) -> list[Evaluation]:
    """The evaluations made in a round, by benchmark, task and model."""
    return _where(db, tables.evaluations.c.round == round)


def _where(db: Connection, condition: ColumnElement[Any]) -> list[Evaluation]:
    table = tables.evaluations
    query = select(*rows.columns(table, Evaluation)).where(condition)
    return rows.every(db, Evaluation, query.order_by(table.c.benchmark, table.c.task, table.c.model_id))
