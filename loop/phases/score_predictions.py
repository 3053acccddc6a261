"""Score stored predictions against labels: rows of evaluations, and what the gate compares."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from wizloop.loop.context import Context
from wizloop.loop.data.similarity import normalize
from wizloop.loop.measures.metrics import score
from wizloop.loop.measures.promotion import LabeledVerdicts
from wizloop.loop.phases import predict
from wizloop.loop.stored_samples import labels_of
from wizloop.loop.words import LABELS, TASKS, Task
from wizloop.store import models
from wizloop.store.evaluations import Evaluation
from wizloop.store.predictions import Prediction
from wizloop.store.samples import Sample

Rows = Sequence[tuple[Sample, Prediction]]


def evaluations_of(ctx: Context, model: models.Model, benchmarks: Mapping[str, Sequence[Sample]]) -> list[Evaluation]:
    """Return one evaluation for each task of each benchmark that has labels for it."""
    return [
        _evaluation(ctx, model, name, task, rows)
        for name, samples in benchmarks.items()
        for task, rows in _labeled(ctx, model, samples).items()
    ]


def verdicts_of(ctx: Context, model: models.Model, samples: Sequence[Sample]) -> dict[Task, LabeledVerdicts]:
    """Return a model's stored verdicts on the labeled samples, by task."""
    return {
        task: LabeledVerdicts(
            [sample.id for sample, _ in rows],
            [labels_of(sample)[task] for sample, _ in rows],
            [prediction.verdict.get(task) for _, prediction in rows],
            [normalize(sample.prompt) for sample, _ in rows],
        )
        for task, rows in _labeled(ctx, model, samples).items()
    }


def traces_unparsed(found: Sequence[Prediction]) -> float | None:
    """Return the mean share of the traces without a whole answer block; None if no trace was drawn."""
    parsed = [one.signals["parsed"] for one in found if one.signals.get("parsed") is not None]
    return None if not parsed else 1 - sum(p or 0.0 for p in parsed) / len(parsed)


def _labeled(ctx: Context, model: models.Model, samples: Sequence[Sample]) -> dict[Task, Rows]:
    """Return the samples with a label and a prediction, by task; no task without one."""
    known = predict.stored(ctx, model, samples)
    rows = {task: [(s, known[s.id]) for s in samples if task in labels_of(s) and s.id in known] for task in TASKS}
    return {task: found for task, found in rows.items() if found}


def _evaluation(ctx: Context, model: models.Model, benchmark: str, task: Task, rows: Rows) -> Evaluation:
    figures = score(
        [labels_of(sample)[task] for sample, _ in rows],
        [prediction.verdict.get(task) for _, prediction in rows],
        [prediction.probability.get(task) for _, prediction in rows],
        positive=LABELS[task][0],
        clusters=[normalize(sample.prompt) for sample, _ in rows],
        rng=ctx.rng("score", benchmark, task),
    )
    metrics = {**asdict(figures), "low": figures.f1_low, "high": figures.f1_high}
    return Evaluation(
        model.id, ctx.round, benchmark, task, figures.n, figures.unparsed, json.dumps(metrics, sort_keys=True)
    )
