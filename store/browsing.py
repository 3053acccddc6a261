"""Queries of the sample screens: filtered pages of samples, the history of one sample, the guard's confidence.

Texts are cut to what a screen can use, because a row may hold megabytes.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, Integer, and_, cast, exists, false, func, not_, or_, select

from wizloop.store import paging, reviews, rows, selections, tables, teacher_calls
from wizloop.store.paging import Page
from wizloop.store.samples import LABELS, Sample

Wrong = Literal["any", "request", "completion", "response"]
LINE = 400
TEXT = 20_000
"""Bytes of a prompt or response for a table row (LINE) and for the view of one sample (TEXT)."""


@dataclass(frozen=True, slots=True)
class SampleFilter:
    """Filter of samples; None and "" match everything. Verdict, cell, disagreement and wrong are one model's."""

    text: str = ""
    split: str | None = None
    policy: str | None = None
    verdict: str | None = None
    """A label that the model gave on any task."""
    cell: str | None = None
    disagreement: float | None = None
    """Minimum of the members' or the committee's disagreement on any task."""
    deferred: Literal["yes", "no"] | None = None
    """Whether it is neither blocked nor let through under the model's promised error; without one none matches."""
    wrong: Wrong | None = None
    """A task whose verdict is not the known label, or `any`; an answer that could not be read is wrong, too."""


@dataclass(frozen=True, slots=True)
class SampleLine:
    """One sample as a table row; the last three are None if the model has no prediction of it."""

    id: int
    split: str
    prompt: str
    policy: str | None
    verdict: dict[str, str | None] | None
    confidence: float | None
    cell: str | None


@dataclass(frozen=True, slots=True)
class Judgement:
    """One model's prediction of a sample, and its traces."""

    model: str
    role: str
    round: int
    verdict: dict[str, str | None]
    probability: dict[str, float]
    confidence: float | None
    cell: str | None
    signals: dict[str, float | None]
    traces: Sequence[tuple[str, dict[str, str | None] | None, float]]
    """Text, verdict (None: unparsed) and mean token confidence of each."""
    calibration_json: str | None = None
    """How the model's signals are read."""

    @property
    def disagreements(self) -> dict[str, float]:
        """The signals that measure how much the ensemble's members or the committee's copies disagree."""
        return {name: value for name, value in self.signals.items() if value is not None and "disagree" in name}


@dataclass(frozen=True, slots=True)
class History:
    """Everything that happened to one sample."""

    sample: Sample
    """Its texts are cut to TEXT bytes."""
    judgements: Sequence[Judgement]
    selection: selections.Selection | None
    calls: Sequence[tuple[int, str, str, str | None]]
    """Round, teacher, state and outcome."""
    traces: Sequence[teacher_calls.TeacherTrace]
    reviews: Sequence[reviews.Review]
    uses: Sequence[tuple[str, str]]
    """Model and kind of training."""
    dropped: Sequence[tuple[int, str, str]]
    """Round, kind of training, and the reason for leaving it out."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts of predictions in equal bins from `low` to `high`."""

    low: float
    high: float
    counts: Sequence[int]


@dataclass(frozen=True, slots=True)
class PoolGuard:
    """The model whose predictions of the pool are shown, with its confidence measure and threshold."""

    model_id: int
    name: str
    measure: str
    cut: float


def pool_guard(db: Connection) -> PoolGuard | None:
    """Return the model that predicted the pool last, ensemble members excluded, or None."""
    model, counts = tables.models, tables.prediction_counts
    predicted = exists().where(counts.c.model_id == model.c.id, counts.c.split == "pool", counts.c.n > 0)
    query = select(model.c.id, model.c.name, model.c.calibration_json).where(predicted, model.c.role != "member")
    found = db.execute(query.order_by(model.c.id.desc()).limit(1)).first()
    if found is None:
        return None
    calibration = json.loads(found.calibration_json or "{}")
    return PoolGuard(found.id, found.name, calibration.get("measure", "margin_direct"), calibration.get("cut", 0.5))


def sample_lines(db: Connection, wanted: SampleFilter, model_id: int | None, page: Page) -> list[SampleLine]:
    """Return one page of the samples that match a filter, by id, with a model's predictions."""
    sample, made = tables.samples, tables.predictions
    predicted = (made.c.verdict, made.c.confidence, made.c.cell)
    query = select(sample.c.id, sample.c.split, paging.head(sample.c.prompt, LINE), sample.c.policy, *predicted)
    query = query.outerjoin_from(sample, made, and_(made.c.sample_id == sample.c.id, made.c.model_id == model_id))
    conditions = _conditions(wanted)
    if wanted.deferred is not None:
        deferred = _is_deferred(_calibration(db, model_id))
        conditions.append(and_(made.c.sample_id.is_not(None), deferred if wanted.deferred == "yes" else not_(deferred)))
    return [SampleLine(*row) for row in paging.paged(db, query.where(*conditions), sample.c.id, page)]


def _calibration(db: Connection, model_id: int | None) -> dict[str, Any]:
    query = select(tables.models.c.calibration_json).where(tables.models.c.id == model_id)
    found: dict[str, Any] = json.loads(db.scalar(query) or "{}")
    return found


def _is_deferred(known: dict[str, Any]) -> ColumnElement[bool]:
    """Require that the deciding answer lies between a promise's cut and the threshold, or cannot be read.

    The response decides where there is one, and a sample without traces or a head's answer is judged directly.
    """
    if known.get("let_through") is None:
        return false()
    signals = tables.predictions.c.signals
    each = func.json_each(signals).table_valued("key", name="signal")
    traced = select(each.c.key).where(each.c.key.like("p\\_traces\\_%", escape="\\")).exists()
    ways = ("direct", "traces", "linear")
    answered = or_(*(func.json_type(signals, f"$.p_{way}_response").is_not(None) for way in ways))
    cases = []
    for task, of_task in (("response", answered), ("request", not_(answered))):
        own = known["source"].get(task, "direct")
        given = func.json_type(signals, f"$.p_linear_{task}").is_not(None) if own == "linear" else traced
        for source, of_source in ((own, given), ("direct", not_(given))):
            p = func.json_extract(signals, f"$.p_{source}_{task}")
            below = known["cuts"].get(task, {}).get(source, {"below": 0.0})["below"]
            threshold = known["thresholds"].get(task, {}).get(source, 0.5)
            cases.append(and_(of_task, of_source, or_(p.is_(None), and_(p >= below, p < threshold))))
    return or_(*cases)


def _conditions(wanted: SampleFilter) -> list[ColumnElement[bool]]:
    sample, made = tables.samples, tables.predictions
    columns = ((sample.c.split, wanted.split), (sample.c.policy, wanted.policy), (made.c.cell, wanted.cell))
    conditions = [
        *paging.contains([sample.c.prompt, sample.c.response], wanted.text),
        *paging.equal(*columns),
        *paging.has_label(made.c.verdict, wanted.verdict),
    ]
    if wanted.disagreement is not None:
        signal = func.json_each(made.c.signals).table_valued("key", "value", name="signal")
        disagree = signal.c.key.like("%_disagreement_%") & (signal.c.value >= wanted.disagreement)
        conditions.append(select(signal.c.value).where(disagree).exists())
    if wanted.wrong is not None:
        tasks = LABELS if wanted.wrong == "any" else {wanted.wrong: LABELS[wanted.wrong]}
        conditions.append(or_(*(_is_wrong(task, sample.c[column]) for task, column in tasks.items())))
    return conditions


def _is_wrong(task: str, label: ColumnElement[str]) -> ColumnElement[bool]:
    """Require a prediction whose verdict on a task is not the sample's known label."""
    sample, made = tables.samples, tables.predictions
    verdict = func.json_extract(made.c.verdict, f"$.{task}")
    applies = [] if task == "request" else [sample.c.response.is_not(None)]
    return and_(made.c.sample_id.is_not(None), label.is_not(None), verdict.is_distinct_from(label), *applies)


def sample_head(db: Connection, sample_id: int) -> Sample | None:
    """Return one sample with its texts cut to TEXT bytes, or None."""
    table = tables.samples
    cut = {name: paging.head(table.c[name], TEXT) for name in ("prompt", "response")}
    columns = [cut.get(column.name, column) for column in rows.columns(table, Sample)]
    return rows.first(db, Sample, select(*columns).where(table.c.id == sample_id))


def judgements(db: Connection, sample_id: int) -> list[Judgement]:
    """Return every model's prediction of a sample, by model."""
    model, made, trace = tables.models, tables.predictions, tables.guard_traces
    # Both tables are keyed by model, then sample: without the models' ids every prediction would be read.
    models = select(model.c.id)
    columns = (made.c.verdict, made.c.probability, made.c.confidence, made.c.cell, made.c.signals)
    query = select(model.c.id, model.c.name, model.c.role, made.c.round, *columns)
    query = query.join(made, made.c.model_id == model.c.id).where(made.c.model_id.in_(models))
    query = query.where(made.c.sample_id == sample_id).order_by(model.c.id)
    traces: dict[int, list[tuple[str, dict[str, str | None] | None, float]]] = {}
    of_sample = select(trace.c.model_id, paging.head(trace.c.text, TEXT), trace.c.verdict, trace.c.mean)
    of_sample = of_sample.where(trace.c.model_id.in_(models), trace.c.sample_id == sample_id)
    for model_id, *rest in db.execute(of_sample.order_by(trace.c.model_id, trace.c.idx)):
        traces.setdefault(model_id, []).append(tuple(rest))
    known = {row.id: row.calibration_json for row in db.execute(select(model.c.id, model.c.calibration_json))}
    return [
        Judgement(*row[1:], traces=traces.get(row[0], ()), calibration_json=known[row[0]]) for row in db.execute(query)
    ]


def history(db: Connection, sample_id: int) -> History | None:
    """Return everything that happened to a sample, or None if there is no such sample."""
    sample = sample_head(db, sample_id)
    if sample is None:
        return None

    def found(query: Any) -> list[Any]:
        return [tuple(row) for row in db.execute(query)]

    call, use, model, out = tables.teacher_calls, tables.uses, tables.models, tables.dropped
    calls = select(call.c.round, call.c.teacher, call.c.state, call.c.outcome).where(call.c.sample_id == sample_id)
    uses = select(model.c.name, use.c.kind).join(use, use.c.model_id == model.c.id)
    uses = uses.where(use.c.model_id.in_(select(model.c.id)), use.c.sample_id == sample_id)
    traces = teacher_calls.traces_for(db, sample_id)
    return History(
        sample,
        judgements(db, sample_id),
        next(iter(selections.of_samples(db, [sample_id])), None),
        found(calls.order_by(call.c.id)),
        traces,
        [row for trace in traces for row in reviews.log(db, trace.id)],
        found(uses.order_by(model.c.id)),
        found(select(out.c.round, out.c.kind, out.c.reason).where(out.c.sample_id == sample_id)),
    )


def confidences(db: Connection, model_id: int, split: str, bins: int) -> Histogram | None:
    """Return the histogram of a model's confidence on a split, or None without predictions.

    Reads the predictions once for the range and once for the counts: 0.1 s for 100,000.
    """
    made, sample = tables.predictions, tables.samples
    mine = select(made.c.confidence).join(sample, sample.c.id == made.c.sample_id)
    mine = mine.where(made.c.model_id == model_id, sample.c.split == split, made.c.confidence.is_not(None))
    found = mine.subquery()
    low, high = db.execute(select(func.min(found.c.confidence), func.max(found.c.confidence))).one()
    if low is None:
        return None
    width = (high - low) / bins or 1.0
    bin_ = cast((found.c.confidence - low) / width, Integer).label("bin")
    counts = [0] * bins
    for index, n in db.execute(select(bin_, func.count()).group_by(bin_)):
        counts[min(index, bins - 1)] += n
    return Histogram(low, high, counts)
