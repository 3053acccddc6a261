"""The ways in which a guard answers, measured beside the one that gives its verdicts: the linear head, or at once.

Each is scored on the same samples at its own threshold of dev. The linear head reads the base: its figures say nothing
of what training changed, and they stand under its own name.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from wizloop.loop.context import Context
from wizloop.loop.data.similarity import normalize
from wizloop.loop.guard import speed
from wizloop.loop.measures.answer_choice import NAMES, Source
from wizloop.loop.measures.calibration import Calibration
from wizloop.loop.measures.confidence import OF_LINEAR
from wizloop.loop.measures.promotion import LabeledVerdicts
from wizloop.loop.phases import predict
from wizloop.loop.phases.score_predictions import Rows, labeled
from wizloop.loop.words import Task
from wizloop.store import models
from wizloop.store.db import Store
from wizloop.store.samples import LABELS, Sample


class Answered(NamedTuple):
    """The verdicts of one way on a task of a set, and P(positive) of each row."""

    verdicts: LabeledVerdicts
    ps: list[float]


def beside(
    ctx: Context, model: models.Model, sets: Mapping[str, Sequence[Sample]]
) -> dict[str, dict[str, dict[Task, Answered]]]:
    """Return by way, set and task what a challenger answers by the linear head, or at once if that has the verdict."""
    known = calibration_of(ctx.store, model, ctx)
    if model.role != "challenger" or not any("linear" in by for by in known.thresholds.values()):
        return {}
    found: dict[str, dict[str, dict[Task, Answered]]] = {}
    for name, samples in sets.items():
        for task, rows in labeled(samples, predict.stored(ctx, model, samples), ctx.declared).items():
            way: Source = "direct" if known.source_of(task) == "linear" else "linear"
            if (answered := _answered(known, task, way, rows)) is not None:
                found.setdefault(way, {name: {} for name in sets})[name][task] = answered
    return found


def calibration_of(store: Store, model: models.Model, ctx: Context) -> Calibration:
    """Return a model's calibration as it is stored now."""
    with store.read() as db:
        return Calibration.from_json(models.get(db, model.id).calibration_json, ctx.declared)


def _answered(known: Calibration, task: Task, way: Source, rows: Rows) -> Answered | None:
    """Return the answers of a way, if it has answered every row."""
    ps = [answer.signals.get(f"p_{way}_{task}") for _, answer in rows]
    given = [p for p in ps if p is not None]
    if len(given) < len(ps):
        return None
    verdicts = LabeledVerdicts(
        [sample.id for sample, _ in rows],
        [getattr(sample, LABELS[task]) for sample, _ in rows],
        [known.verdict_by(answer.signals, task, way) for _, answer in rows],
        [normalize(sample.prompt) for sample, _ in rows],
    )
    return Answered(verdicts, [known.scaled(task, way, p) for p in given])


def told(sources: Mapping[str, Mapping[str, str]]) -> str:
    """Return how each model answers, in a sentence, if some verdict is the linear head's; else nothing.

    `sources` is the way of each task by whose it is.
    """
    if not any("linear" in by.values() for by in sources.values()):
        return ""
    return f"Judged {'; '.join(f'{whose} {_ways(by)}' for whose, by in sources.items())}."


def _ways(by_task: Mapping[str, str]) -> str:
    tasks = {way: [task for task, one in by_task.items() if one == way] for way in sorted(set(by_task.values()))}
    return ", ".join(f"{NAMES[way]} on {' and '.join(found)}" for way, found in tasks.items())


def latency(ctx: Context, model: models.Model, known: Calibration, samples: Sequence[Sample]) -> dict[str, Any]:
    """Return the latency of the linear head on a few samples asked one by one; nothing for a guard without one."""
    if not any("linear" in by for by in known.thresholds.values()) or not samples:
        return {}
    source: dict[str, Source] = dict.fromkeys(ctx.declared.tasks, "linear")
    judge = ctx.judge(replace(model, calibration_json=replace(known, source=source, own=OF_LINEAR).to_json()))
    alone = replace(judge, renderer=replace(judge.renderer, categories=()))
    return speed.latency(alone, samples, seed=0, most=speed.ALONE_AT_NIGHT, seconds=speed.SECONDS_AT_NIGHT)
