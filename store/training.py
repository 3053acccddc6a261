"""What models were trained on: pairs, examples, losses, and what was left out and why. Trains nothing."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select

from wizloop.store import rows, tables


@dataclass(frozen=True, slots=True)
class Pair:
    """One hard sample's right (chosen) and wrong (rejected) trace, with its weight in HS-DPO."""

    round: int
    sample_id: int
    task: str
    chosen: str
    rejected: str
    weight: float
    n_right: int
    n_wrong: int
    miner: str
    """The model whose traces the pair consists of."""


def add_pairs(db: Connection, round: int, new: Sequence[Pair]) -> None:
    """Add a round's pairs; a sample keeps its first. Raises ValueError for a pair of another round."""
    if any(pair.round != round for pair in new):
        raise ValueError(f"a pair of another round among those of round {round}")
    rows.add_missing(db, tables.pairs, [rows.values(pair) for pair in new])


def pairs(db: Connection, round: int) -> list[Pair]:
    """Return a round's pairs, by sample."""
    table = tables.pairs
    query = select(*rows.columns(table, Pair)).where(table.c.round == round)
    return rows.every(db, Pair, query.order_by(table.c.sample_id))


def use(db: Connection, model_id: int, used: Sequence[tuple[int, int | None, str]]) -> None:
    """Record (sample_id, trace_id, kind) of a model's training examples; recording one again changes nothing.

    A pair and a known label have no trace.
    """
    named = [{"model_id": model_id, "sample_id": s, "trace_id": t, "kind": k} for s, t, k in used]
    rows.add_missing(db, tables.uses, named)


def used(db: Connection, model_id: int) -> list[int]:
    """Return the ids of the samples that a model was trained on, in order."""
    table = tables.uses
    query = select(table.c.sample_id).where(table.c.model_id == model_id).distinct()
    return list(db.scalars(query.order_by(table.c.sample_id)))


def log(db: Connection, model_id: int, kind: str, step: int, loss: float, extra_json: str) -> None:
    """Record a step's loss, which must be finite; a step repeated after a crash replaces its row."""
    key = {"model_id": model_id, "kind": kind, "step": step}
    rows.put(db, tables.training_log, key, {"loss": loss, "extra_json": extra_json})


def dropped(db: Connection, round: int, sample_id: int, kind: str, reason: str) -> None:
    """Record why a sample was left out of one kind of training in a round; the first reason stays."""
    rows.add_missing(db, tables.dropped, [{"round": round, "sample_id": sample_id, "kind": kind, "reason": reason}])
