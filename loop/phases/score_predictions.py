"""Score stored predictions against labels: rows of evaluations, and what the gate compares."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Protocol

from wizloop.loop.context import Context
from wizloop.loop.data.similarity import normalize
from wizloop.loop.guard.categories import matched
from wizloop.loop.measures.calibration import Calibration
from wizloop.loop.measures.confidence import Values
from wizloop.loop.measures.metrics import score
from wizloop.loop.measures.operating_points import DECIDING, Recall, recall_at
from wizloop.loop.measures.promised_error import Decision, by_group, measured
from wizloop.loop.measures.promotion import LabeledVerdicts
from wizloop.loop.phases import predict
from wizloop.loop.stored_samples import labels_of
from wizloop.loop.words import Declaration, Task
from wizloop.store import categories, models
from wizloop.store.evaluations import Evaluation
from wizloop.store.predictions import Prediction
from wizloop.store.samples import LABELS, Sample


class Answered(Protocol):
    """A prediction, or an answer that is stored nowhere."""

    @property
    def verdict(self) -> Mapping[str, str | None]:
        """Label by task."""

    @property
    def probability(self) -> Mapping[str, float]:
        """P(positive) by task."""

    @property
    def signals(self) -> Values:
        """What a calibration reads."""


Rows = Sequence[tuple[Sample, Answered]]


def evaluations_of(
    ctx: Context, model: models.Model, benchmarks: Mapping[str, Sequence[Sample]], known: Calibration
) -> list[Evaluation]:
    """Return one evaluation for each task of each benchmark that has labels for it; `known` is the calibration."""
    return [
        evaluation_of(ctx, model, name, task, rows, known)
        for name, samples in benchmarks.items()
        for task, rows in labeled(samples, predict.stored(ctx, model, samples), ctx.declared).items()
    ]


def verdicts_of(ctx: Context, model: models.Model, samples: Sequence[Sample]) -> dict[Task, LabeledVerdicts]:
    """Return a model's stored verdicts on the labeled samples, by task."""
    return verdicts_from(labeled(samples, predict.stored(ctx, model, samples), ctx.declared))


def verdicts_from(found: Mapping[Task, Rows]) -> dict[Task, LabeledVerdicts]:
    """Return the verdicts that the gate compares, by task."""
    return {
        task: LabeledVerdicts(
            [sample.id for sample, _ in rows],
            [getattr(sample, LABELS[task]) for sample, _ in rows],
            [answer.verdict.get(task) for _, answer in rows],
            [normalize(sample.prompt) for sample, _ in rows],
        )
        for task, rows in found.items()
    }


def traces_unparsed(found: Sequence[Prediction]) -> float | None:
    """Return the mean share of the traces without a whole answer block; None if no trace was drawn."""
    parsed = [one.signals["parsed"] for one in found if one.signals.get("parsed") is not None]
    return None if not parsed else 1 - sum(p or 0.0 for p in parsed) / len(parsed)


def labeled(samples: Sequence[Sample], known: Mapping[int, Answered], declared: Declaration) -> dict[Task, Rows]:
    """Return the samples with a label and an answer, by task; no task without one."""
    rows = {
        task: [(s, known[s.id]) for s in samples if task in labels_of(s, declared) and s.id in known]
        for task in declared.tasks
    }
    return {task: found for task, found in rows.items() if found}


def figures(ctx: Context, benchmark: str, task: Task, rows: Rows, known: Calibration) -> dict[str, Any]:
    """Return the figures of one task of a benchmark, with `low` and `high` of F1's interval."""
    found = score(
        [getattr(sample, LABELS[task]) for sample, _ in rows],
        [answer.verdict.get(task) for _, answer in rows],
        [answer.probability.get(task) for _, answer in rows],
        positive=ctx.declared.positive(task),
        classes=ctx.declared.classes(task),
        clusters=[normalize(sample.prompt) for sample, _ in rows],
        rng=ctx.rng("score", benchmark, task),
    )
    at = {name: asdict(one) for name, one in _recall_at(ctx, benchmark, task, rows).items()}
    kept = _promised(ctx, task, rows, known)
    return {**found.to_json(), "low": found.f1_low, "high": found.f1_high, "recall_at_fpr": at, **kept}


def _recall_at(ctx: Context, benchmark: str, task: Task, rows: Rows) -> dict[str, Recall]:
    given = [(sample, p) for sample, answer in rows if (p := answer.probability.get(task)) is not None]
    return recall_at(
        [int(getattr(sample, LABELS[task]) == ctx.declared.positive(task)) for sample, _ in given],
        [p for _, p in given],
        [normalize(sample.prompt) for sample, _ in given],
        rng=ctx.rng("recall at fpr", benchmark, task),
    )


def _promised(ctx: Context, task: Task, rows: Rows, known: Calibration) -> dict[str, Any]:
    """Return what was let through and deferred under `promise`, and by category; nothing without one."""
    if known.let_through is None or task not in DECIDING:
        return {}
    harmful = [getattr(sample, LABELS[task]) == known.declared.positive(task) for sample, _ in rows]
    decisions = [known.decision(answer.signals, task) or "defer" for _, answer in rows]
    found = measured(harmful, decisions, known.let_through)
    return {
        "promise": found | _by_category(ctx, [row for row, bad in zip(rows, harmful, strict=True) if bad], task, known)
    }


def _by_category(ctx: Context, harmful: Rows, task: Task, known: Calibration) -> dict[str, Any]:
    """Return the promise by category, of those with enough rows, and the number of the others; nothing without any."""
    with ctx.store.read() as db:
        labeled = categories.labels(db, [sample.id for sample, _ in harmful])
    groups: dict[str, list[Decision]] = {}
    for sample, answer in harmful:
        words = labeled.get(sample.id, ())
        for name in matched(words, ctx.renderer.categories)[0] if ctx.renderer.categories else words:
            groups.setdefault(name, []).append(known.decision(answer.signals, task) or "defer")
    found = by_group(groups, known.let_through or 0.0)
    told = {name: one for name, one in found.items() if not one["missing"]}
    return {"by_group": told, "too_few": len(found) - len(told)} if found else {}


def evaluation_of(
    ctx: Context, model: models.Model, benchmark: str, task: Task, rows: Rows, known: Calibration
) -> Evaluation:
    """Return the evaluation of one task of one benchmark."""
    found = figures(ctx, benchmark, task, rows, known)
    return Evaluation(
        model.id, ctx.round, benchmark, task, found["n"], found["unparsed"], json.dumps(found, sort_keys=True)
    )
