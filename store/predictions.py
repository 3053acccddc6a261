"""What guards said of samples, append only. The probabilities and cells are worked out elsewhere."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, bindparam, exists, select, update

from wizloop.store import rows, tables
from wizloop.store.engine import upsert
from wizloop.store.samples import Sample


@dataclass(frozen=True, slots=True)
class Prediction:
    """One model's judgement of one sample, stored as it was made; `judge` alone changes the three fields it names."""

    model_id: int
    sample_id: int
    round: int
    probability: Mapping[str, float]
    """P(task = positive) by task."""
    verdict: Mapping[str, str | None]
    """The label by task."""
    confidence: float | None
    cell: str | None
    """Confident or uncertain, blocks or lets through; None until it is judged."""
    signals: Mapping[str, float | None]
    """Named numbers that may serve as the confidence."""
    n_traces: int
    unparsed: bool
    cut_tokens: int
    """How many tokens of a long sample the model did not see."""


@dataclass(frozen=True, slots=True)
class GuardTrace:
    """One sampled trace of a guard, with DeepConf's measures of it (nats, higher is surer)."""

    model_id: int
    sample_id: int
    idx: int
    text: str
    verdict: Mapping[str, str | None] | None
    """None: unparsed."""
    stop: str
    """stop, length or cut (ended early for its low confidence)."""
    mean: float
    tail: float
    lowest: float
    bottom: float
    verdict_p: Mapping[str, float] | None
    tokens: int


_PREDICTION = rows.columns(tables.predictions, Prediction)
_SAMPLE = rows.columns(tables.samples, Sample)


def add(db: Connection, predictions: Sequence[Prediction], traces: Sequence[GuardTrace] = ()) -> int:
    """Add predictions and traces; how many predictions were new. One that is there already is left as it is."""
    added = 0
    for piece in rows.pieces(predictions):
        known = _known(db, piece)
        new: dict[tuple[int, int], Prediction] = {}
        for row in piece:
            key = (row.model_id, row.sample_id)
            if key not in known:
                new.setdefault(key, row)
        if new:
            db.execute(tables.predictions.insert(), [rows.values(row) for row in new.values()])
            _count(db, new.values())
        added += len(new)
    if traces:
        db.execute(upsert(db, tables.guard_traces).on_conflict_do_nothing(), [rows.values(trace) for trace in traces])
    return added


def _known(db: Connection, piece: Sequence[Prediction]) -> set[tuple[int, int]]:
    table = tables.predictions
    model_ids = {row.model_id for row in piece}
    sample_ids = [row.sample_id for row in piece]
    query = select(table.c.model_id, table.c.sample_id)
    found = db.execute(query.where(table.c.model_id.in_(model_ids), table.c.sample_id.in_(sample_ids)))
    return {(model_id, sample_id) for model_id, sample_id in found}


def _count(db: Connection, new: Iterable[Prediction]) -> None:
    cells = {(row.model_id, row.sample_id): row.cell for row in new}
    splits = _splits(db, [sample_id for _, sample_id in cells])
    _raise(db, Counter((model_id, splits[sample_id], cell or "") for (model_id, sample_id), cell in cells.items()))


def _splits(db: Connection, sample_ids: Sequence[int]) -> dict[int, str]:
    found = db.execute(select(tables.samples.c.id, tables.samples.c.split).where(tables.samples.c.id.in_(sample_ids)))
    return {row.id: row.split for row in found}


def _raise(db: Connection, by: Mapping[tuple[int, str, str], int]) -> None:
    if not by:
        return
    table = tables.prediction_counts
    new = upsert(db, table)
    more = new.on_conflict_do_update(index_elements=list(table.primary_key), set_={"n": table.c.n + new.excluded.n})
    db.execute(more, [dict(zip(table.primary_key.columns.keys(), key, strict=True), n=n) for key, n in by.items()])


def unpredicted(
    db: Connection, model_id: int, split: str, after_id: int, limit: int, *, only_unselected: bool = False
) -> list[Sample]:
    """The next usable samples of a split, in id order, that the model has not judged (nor any round selected)."""
    sample, made = tables.samples, tables.predictions
    query = select(*_SAMPLE).where(sample.c.split == split, sample.c.id > after_id, sample.c.excluded.is_(None))
    query = query.where(~exists().where(made.c.model_id == model_id, made.c.sample_id == sample.c.id))
    if only_unselected:
        query = query.where(~exists().where(tables.selections.c.sample_id == sample.c.id))
    return rows.every(db, Sample, query.order_by(sample.c.id).limit(limit))


def of_model(
    db: Connection, model_id: int, split: str, after_id: int = 0, limit: int | None = None
) -> list[Prediction]:
    """A model's predictions of the usable samples of a split, in sample order; in pages for a large pool."""
    sample, made = tables.samples, tables.predictions
    query = select(*_PREDICTION).join(sample, sample.c.id == made.c.sample_id)
    query = query.where(made.c.model_id == model_id, made.c.sample_id > after_id)
    query = query.where(sample.c.split == split, sample.c.excluded.is_(None))
    return rows.every(db, Prediction, query.order_by(made.c.sample_id).limit(limit))


def for_samples(db: Connection, model_id: int, ids: Sequence[int]) -> list[Prediction]:
    """A model's predictions of these samples, in sample order; a sample without one is left out."""
    table = tables.predictions
    query = select(*_PREDICTION).where(table.c.model_id == model_id).order_by(table.c.sample_id)
    return _by_sample(db, Prediction, query, table, ids)


def traces_of(db: Connection, model_id: int, sample_ids: Sequence[int]) -> list[GuardTrace]:
    """A model's traces of these samples, in order of sample and index."""
    table = tables.guard_traces
    query = select(*rows.columns(table, GuardTrace)).where(table.c.model_id == model_id)
    return _by_sample(db, GuardTrace, query.order_by(table.c.sample_id, table.c.idx), table, sample_ids)


def _by_sample(db: Connection, kind: type[rows.T], query: Select[Any], table: Any, ids: Sequence[int]) -> list[rows.T]:
    found: list[rows.T] = []
    for piece in rows.pieces(sorted(set(ids))):
        found += rows.every(db, kind, query.where(table.c.sample_id.in_(piece)))
    return found


def judge(
    db: Connection,
    judged: Sequence[tuple[int, int, Mapping[str, str | None], Mapping[str, float], float | None, str | None]],
) -> None:
    """Set (model_id, sample_id, verdict, probability, confidence, cell) once the guard's calibration is known."""
    table = tables.predictions
    ours = (table.c.model_id == bindparam("of_model"), table.c.sample_id == bindparam("of_sample"))
    names = ("of_model", "of_sample", "verdict", "probability", "confidence", "cell")
    for piece in rows.pieces(judged):
        last = {(row[0], row[1]): row for row in piece}
        before = _cells(db, list(last))
        after = {key: last[key][5] or "" for key in before}
        db.execute(update(table).where(*ours), [dict(zip(names, row, strict=True)) for row in last.values()])
        _move(db, before, after)


def _cells(db: Connection, keys: Sequence[tuple[int, int]]) -> dict[tuple[int, int], str]:
    table = tables.predictions
    query = select(table.c.model_id, table.c.sample_id, table.c.cell)
    query = query.where(table.c.model_id.in_({key[0] for key in keys}), table.c.sample_id.in_([key[1] for key in keys]))
    wanted = set(keys)
    found = {(model_id, sample_id): cell or "" for model_id, sample_id, cell in db.execute(query)}
    return {key: cell for key, cell in found.items() if key in wanted}


def _move(db: Connection, before: Mapping[tuple[int, int], str], after: Mapping[tuple[int, int], str]) -> None:
    splits = _splits(db, [sample_id for _, sample_id in before])
    by: Counter[tuple[int, str, str]] = Counter()
    for key, cell in before.items():
        model_id, sample_id = key
        by[model_id, splits[sample_id], cell] -= 1
        by[model_id, splits[sample_id], after[key]] += 1
    _raise(db, {key: n for key, n in by.items() if n})


def cells(db: Connection, model_id: int, split: str) -> dict[str, int]:
    """How many predictions of a split fell into which cell; those not judged yet under the empty name.

    A sample that was excluded after it was judged still counts.
    """
    table = tables.prediction_counts
    query = select(table.c.cell, table.c.n).where(table.c.model_id == model_id, table.c.split == split, table.c.n > 0)
    return rows.counted(db, query.order_by(table.c.cell))
