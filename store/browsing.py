"""What a screen asks of the samples: pages by key through a filter, one sample's whole story, how sure the guard is.

Texts come cut to what a screen can use: a row may hold megabytes, and no view has any use for them.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Integer, and_, cast, exists, func, or_, select

from wizloop.store import paging, reviews, rows, selections, tables, teacher_calls
from wizloop.store.paging import Page

LINE = 400
TEXT = 20_000
"""Bytes of a prompt or response that a line, or a whole view of one sample, gets."""


@dataclass(frozen=True, slots=True)
class SampleFilter:
    """Which samples; None and "" let everything pass. Verdict, cell and disagreement are of one model's predictions."""

    text: str = ""
    split: str | None = None
    policy: str | None = None
    verdict: str | None = None
    """A label that the model gave on any task."""
    cell: str | None = None
    disagreement: float | None = None
    """Members' disagreement on any task, at least."""


@dataclass(frozen=True, slots=True)
class SampleLine:
    """One sample as a line of a table; the last three are None where the model did not judge it."""

    id: int
    split: str
    prompt: str
    policy: str | None
    verdict: dict[str, str | None] | None
    confidence: float | None
    cell: str | None


@dataclass(frozen=True, slots=True)
class Said:
    """What one model predicted of a sample, and the traces that it wrote."""

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


@dataclass(frozen=True, slots=True)
class Told:
    """A sample's own columns, its texts cut to TEXT bytes."""

    id: int
    split: str
    prompt: str
    response: str | None
    source: str
    row_ref: str
    request: str | None
    completion: str | None
    response_label: str | None
    policy: str | None
    excluded: str | None

    @property
    def labels(self) -> dict[str, str]:
        """The dataset's labels by task, those that are known."""
        known = {"request": self.request, "completion": self.completion, "response": self.response_label}
        return {task: label for task, label in known.items() if label is not None}


@dataclass(frozen=True, slots=True)
class Story:
    """All that happened to one sample."""

    sample: Told
    said: Sequence[Said]
    selection: selections.Selection | None
    calls: Sequence[tuple[int, str, str, str | None]]
    """Round, teacher, state and outcome."""
    traces: Sequence[teacher_calls.TeacherTrace]
    reviews: Sequence[reviews.Review]
    uses: Sequence[tuple[str, str]]
    """Model and kind of training."""
    dropped: Sequence[tuple[int, str, str]]
    """Round, kind and the reason for leaving it out."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """How many predictions lie in each of equally wide bins from `low` to `high`."""

    low: float
    high: float
    counts: Sequence[int]


@dataclass(frozen=True, slots=True)
class Judge:
    """The model whose view of the pool counts, with the confidence that was chosen for it and its cut."""

    model_id: int
    name: str
    measure: str
    cut: float


def judge_of_pool(db: Connection) -> Judge | None:
    """The model that judged the pool last, members aside; None before any did."""
    model, counted = tables.models, tables.prediction_counts
    read = exists().where(counted.c.model_id == model.c.id, counted.c.split == "pool", counted.c.n > 0)
    query = select(model.c.id, model.c.name, model.c.calibration_json).where(read, model.c.role != "member")
    found = db.execute(query.order_by(model.c.id.desc()).limit(1)).first()
    if found is None:
        return None
    known = json.loads(found.calibration_json or "{}")
    return Judge(found.id, found.name, known.get("measure", "margin_direct"), known.get("cut", 0.5))


def sample_lines(db: Connection, wanted: SampleFilter, model_id: int | None, page: Page) -> list[SampleLine]:
    """One page of the samples that a filter lets pass, by id, with what a model said of them."""
    table, made = tables.samples, tables.predictions
    query = select(
        table.c.id,
        table.c.split,
        paging.head(table.c.prompt, LINE),
        table.c.policy,
        made.c.verdict,
        made.c.confidence,
        made.c.cell,
    ).select_from(table.outerjoin(made, and_(made.c.sample_id == table.c.id, made.c.model_id == model_id)))
    for condition in _conditions(wanted):
        query = query.where(condition)
    return [SampleLine(*row) for row in paging.paged(db, query, table.c.id, page)]


def _conditions(wanted: SampleFilter) -> list[Any]:
    table, made = tables.samples, tables.predictions
    conditions = []
    if wanted.text:
        conditions.append(or_(*(paging.contains(table.c[name], wanted.text) for name in ("prompt", "response"))))
    for column, value in ((table.c.split, wanted.split), (table.c.policy, wanted.policy), (made.c.cell, wanted.cell)):
        if value is not None:
            conditions.append(column == value)
    if wanted.verdict is not None:
        said = func.json_each(made.c.verdict).table_valued("value", name="said")
        conditions.append(select(said.c.value).where(said.c.value == wanted.verdict).exists())
    if wanted.disagreement is not None:
        signal = func.json_each(made.c.signals).table_valued("key", "value", name="signal")
        apart = signal.c.key.like("members_disagreement_%") & (signal.c.value >= wanted.disagreement)
        conditions.append(select(signal.c.value).where(apart).exists())
    return conditions


def told(db: Connection, sample_id: int) -> Told | None:
    """One sample, or None."""
    table = tables.samples
    cut = {name: paging.head(table.c[name], TEXT) for name in ("prompt", "response")}
    columns = [cut.get(column.name, column) for column in rows.columns(table, Told)]
    return rows.first(db, Told, select(*columns).where(table.c.id == sample_id))


def said_of(db: Connection, sample_id: int) -> list[Said]:
    """What every model said of a sample, in the order of the models."""
    model, made, trace = tables.models, tables.predictions, tables.guard_traces
    # Both are keyed by model, then sample: without the models' ids every prediction of the run would be read.
    models = select(model.c.id)
    columns = (made.c.verdict, made.c.probability, made.c.confidence, made.c.cell, made.c.signals)
    query = select(model.c.id, model.c.name, model.c.role, made.c.round, *columns)
    query = query.join(made, made.c.model_id == model.c.id).where(made.c.model_id.in_(models))
    query = query.where(made.c.sample_id == sample_id).order_by(model.c.id)
    wrote: dict[int, list[tuple[str, dict[str, str | None] | None, float]]] = {}
    of_sample = select(trace.c.model_id, paging.head(trace.c.text, TEXT), trace.c.verdict, trace.c.mean)
    of_sample = of_sample.where(trace.c.model_id.in_(models), trace.c.sample_id == sample_id)
    for model_id, text, verdict, mean in db.execute(of_sample.order_by(trace.c.model_id, trace.c.idx)):
        wrote.setdefault(model_id, []).append((text, verdict, mean))
    return [Said(*row[1:], traces=wrote.get(row[0], ())) for row in db.execute(query)]


def story(db: Connection, sample_id: int) -> Story | None:
    """All that happened to a sample, or None where there is no such sample."""
    sample = told(db, sample_id)
    if sample is None:
        return None
    calls, use, model, out = tables.teacher_calls, tables.uses, tables.models, tables.dropped
    asked = select(calls.c.round, calls.c.teacher, calls.c.state, calls.c.outcome).where(calls.c.sample_id == sample_id)
    used = select(model.c.name, use.c.kind).join(use, use.c.model_id == model.c.id)
    used = used.where(use.c.model_id.in_(select(model.c.id)), use.c.sample_id == sample_id)
    left = select(out.c.round, out.c.kind, out.c.reason).where(out.c.sample_id == sample_id)
    traces = teacher_calls.traces_for(db, sample_id)
    picked = selections.of_samples(db, [sample_id])
    return Story(
        sample,
        said_of(db, sample_id),
        picked[0] if picked else None,
        [(row[0], row[1], row[2], row[3]) for row in db.execute(asked.order_by(calls.c.id))],
        traces,
        [row for trace in traces for row in reviews.log(db, trace.id)],
        [(row[0], row[1]) for row in db.execute(used.order_by(model.c.id))],
        [(row[0], row[1], row[2]) for row in db.execute(left)],
    )


def confidences(db: Connection, model_id: int, split: str, bins: int) -> Histogram | None:
    """How a model's confidence is spread over a split, or None where it judged nothing. Reads its predictions once
    for the range and once for the counts, a tenth of a second for 100,000."""
    made, sample = tables.predictions, tables.samples
    mine = select(made.c.confidence).join(sample, sample.c.id == made.c.sample_id)
    mine = mine.where(made.c.model_id == model_id, sample.c.split == split, made.c.confidence.is_not(None))
    found = mine.subquery()
    low, high = db.execute(select(func.min(found.c.confidence), func.max(found.c.confidence))).one()
    if low is None:
        return None
    width = (high - low) / bins or 1.0
    at = cast((found.c.confidence - low) / width, Integer).label("at")
    counts = [0] * bins
    for place, n in db.execute(select(at, func.count()).group_by(at)):
        counts[min(place, bins - 1)] += n
    return Histogram(low, high, counts)
