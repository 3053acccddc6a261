"""Results of models on dev, test and benchmarks. Computes no metrics."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from wizloop.store import rows, tables


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

    @property
    def metrics(self) -> dict[str, Any]:
        """The parsed `metrics_json`."""
        found: dict[str, Any] = json.loads(self.metrics_json)
        return found


def add(db: Connection, new: Sequence[Evaluation]) -> None:
    """Add evaluations; an existing one of the same model, benchmark and task stays."""
    rows.add_missing(db, tables.evaluations, [rows.values(row) for row in new])


def of_model(db: Connection, model_id: int) -> list[Evaluation]:
    """Return a model's evaluations, by benchmark and task."""
    table = tables.evaluations
    query = select(*rows.columns(table, Evaluation)).where(table.c.model_id == model_id)
    return rows.every(db, Evaluation, query.order_by(table.c.benchmark, table.c.task))
