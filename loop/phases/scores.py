"""A model's stored answers against the labels, as rows of evaluations. The arithmetic is in `metrics`."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from wizloop.loop.context import Context
from wizloop.loop.data.similarity import normalise
from wizloop.loop.measures.metrics import Score, score
from wizloop.loop.measures.promotion import Answered
from wizloop.loop.words import LABELS, TASKS, Task
from wizloop.store import models, predictions, samples
from wizloop.store.evaluations import Evaluation
from wizloop.store.predictions import Prediction
from wizloop.store.samples import Sample


def labels_of(sample: Sample) -> dict[Task, str]:
    """The known labels of the tasks that apply to a sample."""
    tasks: Sequence[Task] = ("request",) if sample.response is None else TASKS
    known = {task: getattr(sample, samples.LABELS[task]) for task in tasks}
    return {task: label for task, label in known.items() if label is not None}


def evaluations_of(ctx: Context, model: models.Model, benchmarks: Mapping[str, Sequence[Sample]]) -> list[Evaluation]:
    """One row for each task of each benchmark that has a label for it."""
    found = []
    for name, of_benchmark in benchmarks.items():
        answers = _answers(ctx, model, of_benchmark)
        for task in TASKS:
            rows = [(one, answers[one.id]) for one in of_benchmark if task in labels_of(one) and one.id in answers]
            if rows:
                found.append(_evaluation(ctx, model, name, task, rows))
    return found


def answered(ctx: Context, model: models.Model, dev: Sequence[Sample]) -> dict[Task, Answered]:
    """A model's verdicts on the labelled samples of dev, by task, as the gate compares them."""
    answers = _answers(ctx, model, dev)
    found: dict[Task, Answered] = {}
    for task in TASKS:
        rows = [one for one in dev if task in labels_of(one) and one.id in answers]
        if rows:
            found[task] = Answered(
                [one.id for one in rows],
                [labels_of(one)[task] for one in rows],
                [answers[one.id].verdict.get(task) for one in rows],
                [normalise(one.prompt) for one in rows],
            )
    return found


def metrics_json(measured: Score) -> str:
    """A score as it is stored: everything in it, and F1's interval as `low` and `high`."""
    return json.dumps({**asdict(measured), "low": measured.f1_low, "high": measured.f1_high}, sort_keys=True)


def _answers(ctx: Context, model: models.Model, asked: Sequence[Sample]) -> dict[int, Prediction]:
    with ctx.store.read() as db:
        return {one.sample_id: one for one in predictions.for_samples(db, model.id, [one.id for one in asked])}


def _evaluation(
    ctx: Context,
    model: models.Model,
    benchmark: str,
    task: Task,
    rows: Sequence[tuple[Sample, Prediction]],
) -> Evaluation:
    measured = score(
        [labels_of(sample)[task] for sample, _ in rows],
        [one.verdict.get(task) for _, one in rows],
        [one.probability.get(task) for _, one in rows],
        positive=LABELS[task][0],
        clusters=[normalise(sample.prompt) for sample, _ in rows],
        rng=ctx.rng("score", benchmark, task),
    )
    return Evaluation(model.id, ctx.round, benchmark, task, measured.n, measured.unparsed, metrics_json(measured))
