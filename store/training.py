"""What a challenger was taught with: pairs, examples, losses, and what was left out and why. Trains nothing."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from wizloop.store import rows, tables
from wizloop.store.engine import upsert


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
    """Which model's traces the pair came from."""


@dataclass(frozen=True, slots=True)
class Use:
    """One example that a model was trained on; without a trace for a pair or a known label."""

    sample_id: int
    trace_id: int | None
    kind: str


@dataclass(frozen=True, slots=True)
class Loss:
    """One logged training step."""

    step: int
    loss: float
    extra_json: str


def add_pairs(db: Connection, round: int, new: Sequence[Pair]) -> None:
    """Add a round's pairs; one a sample, and the first stays. Raises ValueError for a pair of another round."""
    if any(pair.round != round for pair in new):
        raise ValueError(f"a pair of another round among those of round {round}")
    if new:
        db.execute(upsert(db, tables.pairs).on_conflict_do_nothing(), [rows.values(pair) for pair in new])


def pairs(db: Connection, round: int) -> list[Pair]:
    """A round's pairs, in sample order."""
    table = tables.pairs
    query = select(*rows.columns(table, Pair)).where(table.c.round == round).order_by(table.c.sample_id)
    return rows.every(db, Pair, query)


def use(db: Connection, model_id: int, used: Sequence[tuple[int, int | None, str]]) -> None:
    """Note what a model is trained on: (sample_id, trace_id, kind); noting it again changes nothing."""
    if used:
        named = [{"model_id": model_id, "sample_id": s, "trace_id": t, "kind": k} for s, t, k in used]
        db.execute(upsert(db, tables.uses).on_conflict_do_nothing(), named)


def uses(db: Connection, model_id: int) -> list[Use]:
    """What a model was trained on, in sample order."""
    table = tables.uses
    query = select(*rows.columns(table, Use)).where(table.c.model_id == model_id)
    return rows.every(db, Use, query.order_by(table.c.sample_id, table.c.kind))


def log(db: Connection, model_id: int, kind: str, step: int, loss: float, extra_json: str) -> None:
    """Note a step's loss; a step that is done again after a crash replaces its row. `loss` must be finite."""
    values = {"loss": loss, "extra_json": extra_json}
    new = upsert(db, tables.training_log).values(model_id=model_id, kind=kind, step=step, **values)
    db.execute(new.on_conflict_do_update(index_elements=["model_id", "kind", "step"], set_=values))


def log_of(db: Connection, model_id: int, kind: str) -> list[Loss]:
    """The logged steps of one kind of training of a model, in order."""
    table = tables.training_log
    query = select(*rows.columns(table, Loss)).where(table.c.model_id == model_id, table.c.kind == kind)
    return rows.every(db, Loss, query.order_by(table.c.step))


def dropped(db: Connection, round: int, sample_id: int, kind: str, reason: str) -> None:
    """Note that a sample was left out of a round's training of one kind, and why; the first reason stays."""
    new = upsert(db, tables.dropped).values(round=round, sample_id=sample_id, kind=kind, reason=reason)
    db.execute(new.on_conflict_do_nothing())


def dropped_counts(db: Connection, round: int) -> dict[str, dict[str, int]]:
    """How many samples were left out: {kind: {reason: n}}."""
    table = tables.dropped
    query = select(table.c.kind, table.c.reason, func.count()).where(table.c.round == round)
    counted: dict[str, dict[str, int]] = {}
    for kind, reason, n in db.execute(
        query.group_by(table.c.kind, table.c.reason).order_by(table.c.kind, table.c.reason)
    ):
        counted.setdefault(kind, {})[reason] = n
    return counted
