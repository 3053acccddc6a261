"""The linear head in an export: written where the format can carry it, and told where it cannot.

Only a whole model of full precision carries it, with the first blocks of the base if the head reads their states:
merged or rounded weights give other states. Every other format answers at once where the head had the verdict.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from wizloop.backends import base_blocks
from wizloop.console import answering
from wizloop.loop.context import Context
from wizloop.loop.guard import linear_way
from wizloop.loop.measures.calibration import Calibration, without_linear
from wizloop.loop.phases import evaluate, predict
from wizloop.loop.phases.score_predictions import evaluation_of, labeled
from wizloop.loop.stored_samples import usable
from wizloop.store import events, models, steps
from wizloop.store.evaluations import Evaluation
from wizloop.store.samples import Sample

FORMAT = "safetensors"


def carries(ctx: Context, model: models.Model, format: str) -> bool:
    """Return whether an export of a model carries a linear head: one is read, and the format can hold it."""
    if format != FORMAT or not calibration_of(ctx, model).reads_linear:
        return False
    return not ctx.linear(model).head.reads_states or (not ctx.quantise and base_blocks.can_be_taken(ctx.base()))


def calibration_of(ctx: Context, model: models.Model) -> Calibration:
    """Return the calibration of a model in the run."""
    return Calibration.from_json(model.calibration_json, ctx.declared)


def calibration_for(ctx: Context, model: models.Model, format: str) -> Calibration | None:
    """Return how an export of a model is read; None for a model that was never measured."""
    if model.calibration_json is None:
        return None
    known = calibration_of(ctx, model)
    return known if carries(ctx, model, format) else _written(ctx, model, known)


def _written(ctx: Context, model: models.Model, known: Calibration) -> Calibration:
    dev = list(usable(ctx.store, "dev")) if known.reads_linear else []
    found = predict.stored(ctx, model, dev)
    rows = [evaluate.dev_row(found[one.id].signals, one, ctx.declared) for one in dev if one.id in found]
    return without_linear(known, rows)


def write(ctx: Context, model: models.Model, folder: Path) -> None:
    """Write the head into an export that carries it, with the base's blocks if it reads their states."""
    linear = ctx.linear(model)
    if linear.head.reads_states:
        base_blocks.write(ctx.base(), folder, linear.depth)
    linear_way.write(folder / linear_way.NAME, linear.head, linear.depth)


@dataclass(frozen=True)
class _Answer:
    verdict: Mapping[str, str | None]
    probability: Mapping[str, float]
    signals: Mapping[str, float | None]


def answers(ctx: Context, model: models.Model, samples: Sequence[Sample], known: Calibration) -> dict[int, _Answer]:
    """Return a model's stored answers, judged by another calibration, by sample id."""
    by_id = {one.id: one for one in samples}
    found = {}
    for id, one in predict.stored(ctx, model, samples).items():
        tasks, main = ctx.declared.tasks_of(by_id[id]), ctx.declared.main_task(by_id[id])
        judged = known.apply(one.signals, tasks, main, alone=True)
        found[id] = _Answer(judged.verdict, judged.probability, one.signals)
    return found


class Ways(NamedTuple):
    """What a card tells of the ways: sentences, and the figures of an export that answers otherwise than its guard."""

    lines: list[str]
    evaluations: list[Evaluation]


def told(ctx: Context, model: models.Model, known: Calibration | None, *, timed: bool) -> Ways:
    """Return what the card of an export, which `known` calibrates, says of the ways of answering.

    `timed` adds the round's latencies, which are never the same twice.
    """
    with ctx.store.read() as db:
        own, speeds = steps.get_round(db, model.round), events.speeds(db, model.round) if timed else {}
    record: dict[str, Any] = {} if own is None or model.role == "base" else own.record
    lines = [f"{said[0].upper()}{said[1:]}" for said in answering.lines(record, speeds)]
    if known is None or not calibration_of(ctx, model).reads_linear:
        return Ways(lines, [])
    if known.reads_linear:
        return Ways([*lines, _carried(ctx, model)], [])
    why = (
        "This format does not carry the linear head, which gives the guard's verdicts in its run: it answers at once, "
        "and the scores above are those of its answers at once."
    )
    return Ways([why], _scores(ctx, model, known))


def _carried(ctx: Context, model: models.Model) -> str:
    states = ctx.linear(model).head.reads_states
    where = f", which reads the hidden states of the base in {base_blocks.FILE}" if states else ""
    return (
        f"The linear head is {linear_way.NAME}{where}. Only wizloop reads it: any other program gets the answers at "
        "once, whose figures are those above."
    )


def _scores(ctx: Context, model: models.Model, known: Calibration) -> list[Evaluation]:
    """Score an export by what it answers without the head."""
    dev, test = list(usable(ctx.store, "dev")), list(usable(ctx.store, "test"))
    sets = {"dev": dev, **evaluate.by_benchmark(ctx.store, ctx.recipe, test)}
    return [
        evaluation_of(ctx, model, name, task, rows, known)
        for name, samples in sets.items()
        for task, rows in labeled(samples, answers(ctx, model, samples, known), ctx.declared).items()
    ]
