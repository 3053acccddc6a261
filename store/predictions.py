"""Guards' predictions of samples and the traces they sampled, append only. Computes no probabilities or cells."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, exists, func, select, update
from sqlalchemy.dialects.sqlite import insert

from wizloop.store import rows, tables
from wizloop.store.samples import Sample


@dataclass(frozen=True, slots=True)
class Prediction:
    """One model's prediction of one sample. Only `judge` changes it later."""

    model_id: int
    sample_id: int
    round: int
    probability: Mapping[str, float]
    """P(task = positive) by task."""
    verdict: Mapping[str, str | None]
    """Label by task."""
    confidence: float | None
    cell: str | None
    """Confident or uncertain, and block or pass; None until it is judged."""
    signals: Mapping[str, float | None]
    """Named numbers that may serve as the confidence."""
    n_traces: int
    unparsed: bool
    cut_tokens: int
    """Tokens of a long sample that the model did not see."""


@dataclass(frozen=True, slots=True)
class GuardTrace:
    """One sampled trace of a guard, with its DeepConf measures (nats, higher is more confident)."""

    model_id: int
    sample_id: int
    idx: int
    text: str
    verdict: Mapping[str, str | None] | None
    """None: unparsed."""
    stop: str
    """stop, length or cut (stopped early because of low confidence)."""
    mean: float
    tail: float
    lowest: float
    bottom: float
    verdict_p: Mapping[str, float] | None
    tokens: int


_PREDICTIONS = select(*rows.columns(tables.predictions, Prediction))
_NEW = [tables.predictions.c[name] for name in ("model_id", "sample_id", "cell")]
_ADD = insert(tables.predictions).on_conflict_do_nothing().returning(*_NEW)


def add(db: Connection, predictions: Sequence[Prediction], traces: Sequence[GuardTrace] = ()) -> int:
    """Add predictions and traces, and return how many predictions were new. Existing rows stay as they are."""
    added = 0
    for piece in rows.pieces(predictions):
        new = db.execute(_ADD, [rows.values(row) for row in piece]).all()
        _count(db, [(*row, 1) for row in new])
        added += len(new)
    rows.add_missing(db, tables.guard_traces, [rows.values(trace) for trace in traces])
    return added


def _count(db: Connection, changes: Sequence[tuple[int, int, str | None, int]]) -> None:
    """Add n to the count of predictions, for each change (model, sample, cell, n)."""
    sample, table, by = tables.samples, tables.prediction_counts, Counter[tuple[int, str, str]]()
    in_use = select(sample.c.id, sample.c.split).where(sample.c.id.in_({change[1] for change in changes}))
    splits = {row.id: row.split for row in db.execute(in_use)}
    for model_id, sample_id, cell, n in changes:
        by[model_id, splits[sample_id], cell or ""] += n
    new = insert(table)
    raised = new.on_conflict_do_update(index_elements=list(table.primary_key), set_={"n": table.c.n + new.excluded.n})
    names = ("model_id", "split", "cell", "n")
    if counts := [dict(zip(names, (*key, n), strict=True)) for key, n in by.items() if n]:
        db.execute(raised, counts)


def unpredicted(
    db: Connection, model_id: int, split: str, after_id: int, limit: int, *, only_unselected: bool = False
) -> list[Sample]:
    """Return the next usable samples of a split, by id, without the model's prediction (nor any round's selection)."""
    sample, made = tables.samples, tables.predictions
    query = select(*rows.columns(sample, Sample))
    query = query.where(sample.c.split == split, sample.c.id > after_id, sample.c.excluded.is_(None))
    query = query.where(~exists().where(made.c.model_id == model_id, made.c.sample_id == sample.c.id))
    if only_unselected:
        query = query.where(~exists().where(tables.selections.c.sample_id == sample.c.id))
    return rows.every(db, Sample, query.order_by(sample.c.id).limit(limit))


def of_model(
    db: Connection, model_id: int, split: str, after_id: int = 0, limit: int | None = None
) -> list[Prediction]:
    """Return a model's predictions of the usable samples of a split, by sample; in pages for a large pool."""
    sample, made = tables.samples, tables.predictions
    query = _PREDICTIONS.join(sample, sample.c.id == made.c.sample_id)
    query = query.where(made.c.model_id == model_id, made.c.sample_id > after_id)
    query = query.where(sample.c.split == split, sample.c.excluded.is_(None))
    return rows.every(db, Prediction, query.order_by(made.c.sample_id).limit(limit))


def for_samples(db: Connection, model_id: int, ids: Sequence[int]) -> list[Prediction]:
    """Return a model's predictions of these samples, by sample; samples without one are left out."""
    table = tables.predictions
    query = _PREDICTIONS.where(table.c.model_id == model_id).order_by(table.c.sample_id)
    return rows.by_ids(db, Prediction, query, table.c.sample_id, ids)


def scores(
    db: Connection, model_id: int, first: int, last: int
) -> dict[int, tuple[Mapping[str, float], float | None, str | None]]:
    """Return (probability, confidence, cell) by sample of a model's predictions of samples from `first` to `last`."""
    table = tables.predictions
    wanted = [table.c[name] for name in ("sample_id", "probability", "confidence", "cell")]
    query = select(*wanted).where(table.c.model_id == model_id, table.c.sample_id.between(first, last))
    return {sample_id: (p, confidence, cell) for sample_id, p, confidence, cell in db.execute(query)}


def traces_of(db: Connection, model_id: int, sample_ids: Sequence[int]) -> list[GuardTrace]:
    """Return a model's traces of these samples, by sample and index."""
    table = tables.guard_traces
    query = select(*rows.columns(table, GuardTrace)).where(table.c.model_id == model_id)
    return rows.by_ids(db, GuardTrace, query.order_by(table.c.sample_id, table.c.idx), table.c.sample_id, sample_ids)


def traced(db: Connection, model_id: int) -> dict[int, int]:
    """Count a model's traces of each usable sample that has some, by sample."""
    table, sample = tables.guard_traces, tables.samples
    query = select(table.c.sample_id, func.count()).join(sample, sample.c.id == table.c.sample_id)
    query = query.where(table.c.model_id == model_id, sample.c.excluded.is_(None)).group_by(table.c.sample_id)
    return {int(sample_id): int(n) for sample_id, n in db.execute(query)}


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
        db.execute(update(table).where(*ours), [dict(zip(names, row, strict=True)) for row in last.values()])
        _count(db, [(*key, cell, -1) for key, cell in before.items()] + [(*key, last[key][5], 1) for key in before])


def _cells(db: Connection, keys: Sequence[tuple[int, int]]) -> dict[tuple[int, int], str | None]:
    """Return the cell of each (model, sample) that has a prediction."""
    table, wanted = tables.predictions, set(keys)
    query = select(table.c.model_id, table.c.sample_id, table.c.cell)
    query = query.where(table.c.model_id.in_({key[0] for key in keys}), table.c.sample_id.in_([key[1] for key in keys]))
    return {(row[0], row[1]): row[2] for row in db.execute(query) if (row[0], row[1]) in wanted}


def cells(db: Connection, model_id: int, split: str) -> dict[str, int]:
    """Count a model's predictions of a split by cell; those not judged yet under the empty name.

    A sample excluded after its prediction still counts.
    """
    table = tables.prediction_counts
    query = select(table.c.cell, table.c.n).where(table.c.model_id == model_id, table.c.split == split, table.c.n > 0)
    return rows.counted(db, query.order_by(table.c.cell))
