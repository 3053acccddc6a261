"""Phase evaluate: the challenger and the members on dev, what dev teaches of their answers, then every test set.

Thresholds, the verdict's source and the confidence are learned on dev alone; test is only measured.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from wizloop.loop.context import Context
from wizloop.loop.guard.rendering import main_task, tasks_of
from wizloop.loop.measures.calibration import Calibration, DevRow, Judged, calibrate, judge
from wizloop.loop.measures.uncertainty import compare_cells
from wizloop.loop.pages import usable
from wizloop.loop.phases import answers, roles
from wizloop.loop.phases.scores import evaluations_of, labels_of
from wizloop.recipes.schema import Recipe
from wizloop.store import evaluations, models, predictions, steps
from wizloop.store.predictions import Prediction
from wizloop.store.samples import Sample

PIECE = 250


def run(ctx: Context) -> str:
    """Measure the round's challenger; nothing where there is none."""
    with ctx.store.read() as db:
        challenger, champion = roles.challenger(db, ctx.round), roles.champion(db)
        members = list(models.members(db, ctx.round))
    if challenger is None:
        return "there is no challenger to measure"
    dev, test = list(usable(ctx.store, "dev")), list(usable(ctx.store, "test"))
    for member in members:
        answers.write(ctx, member, dev)
    known = on_dev(ctx, challenger, members, dev)
    if champion is not None:
        # The champion answered dev when it was the challenger; what was imported since is new to it, and to no member.
        answers.write(ctx, champion, dev, alone=True)
    answers.write(ctx, replace(challenger, calibration_json=known.to_json()), test, alone=True)
    measured = evaluations_of(ctx, challenger, {"dev": dev, **by_benchmark(ctx.recipe, test)})
    record = _record(ctx, challenger, known, dev)
    with ctx.store.write() as db:
        evaluations.add(db, measured)
        steps.merge_record(db, ctx.round, {"evaluate": record})
    if (record["traces_unparsed"] or 0.0) > ctx.recipe.gate.max_unparsable:
        ctx.say(
            f"{100 * record['traces_unparsed']:.0f} % of the challenger's traces on dev have no whole answer block: "
            "they cannot vote, and no pair can be mined from them.",
            "warn",
        )
    return ", ".join(_told(one) for one in measured if one.task == "request")


def on_dev(ctx: Context, model: models.Model, members: Sequence[models.Model], dev: Sequence[Sample]) -> Calibration:
    """Ask a model about dev, learn its calibration, and judge its dev answers by it."""
    how = ctx.recipe.classify
    sampling = ctx.limits(model).exactly()
    answers.write(ctx, model, dev, members=members, sampling=sampling)
    with ctx.store.read() as db:
        found = predictions.of_model(db, model.id, "dev")
        drawn = predictions.traces_of(db, model.id, [one.id for one in dev])
    by_id = {sample.id: sample for sample in dev}
    rows = [DevRow(one.signals, labels_of(by_id[one.sample_id]), main_task(by_id[one.sample_id])) for one in found]
    known = calibrate(
        rows,
        lowest_groups=[trace.lowest for trace in drawn],
        window=sampling.window,
        keep_top_percent=how.keep_top_percent,
        verdict=how.verdict,
        max_unparsable=ctx.recipe.gate.max_unparsable,
    )
    with ctx.store.write() as db:
        models.set_calibration(db, model.id, known.to_json())
    for piece in ctx.pieces(found, PIECE):
        judged = [(one, _judged(one, by_id[one.sample_id], known)) for one in piece]
        with ctx.store.write() as db:
            predictions.judge(
                db, [(model.id, one.sample_id, j.verdict, j.probability, j.confidence, j.cell) for one, j in judged]
            )
    return known


def by_benchmark(recipe: Recipe, test: Sequence[Sample]) -> dict[str, list[Sample]]:
    """The test samples by the benchmark that the recipe names; those of none under `test`."""
    names = {data.benchmark for data in recipe.data if data.benchmark is not None}
    found: dict[str, list[Sample]] = {}
    for sample in test:
        found.setdefault(sample.source if sample.source in names else "test", []).append(sample)
    return found


def _judged(one: Prediction, sample: Sample, known: Calibration) -> Judged:
    return judge(one.signals, known, tasks_of(sample), main_task(sample))


def _record(ctx: Context, model: models.Model, known: Calibration, dev: Sequence[Sample]) -> dict[str, Any]:
    """What the morning's reader should know of the confidence: the choice, the figures, the four cells."""
    with ctx.store.read() as db:
        found = predictions.of_model(db, model.id, "dev")
    cells = dev_cells(found, {sample.id: sample for sample in dev})
    sure, unsure = cells.get("confident_pass", _EMPTY), cells.get("uncertain_pass", _EMPTY)
    compared = compare_cells(sure["right"], sure["n"], unsure["right"], unsure["n"])
    parsed = [one.signals["parsed"] for one in found if one.signals.get("parsed") is not None]
    return {
        "confidence": known.measure,
        "confidence_alone": known.own,
        "auroc": dict(known.auroc),
        "auroc_n": dict(known.n),
        "source": dict(known.source),
        "scales": {task: dict(by_source) for task, by_source in known.scales.items()},
        "thresholds": {task: dict(by_source) for task, by_source in known.thresholds.items()},
        "average_precision": {task: dict(by_source) for task, by_source in known.average_precision.items()},
        "cut": known.cut,
        "cells": cells,
        "confident_passes_are_righter": None if compared is None else compared.words,
        "traces_unparsed": None if not parsed else 1 - sum(p or 0.0 for p in parsed) / len(parsed),
    }


_EMPTY = {"n": 0, "right": 0}


def dev_cells(found: Sequence[Prediction], samples: Mapping[int, Sample]) -> dict[str, dict[str, int]]:
    """How many labelled dev samples are in each cell, and how many of them are right on their main task."""
    cells: dict[str, dict[str, int]] = {}
    for one in found:
        sample = samples[one.sample_id]
        label = labels_of(sample).get(main_task(sample))
        if label is None or one.cell is None:
            continue
        counted = cells.setdefault(one.cell, {"n": 0, "right": 0})
        counted["n"] += 1
        counted["right"] += one.verdict.get(main_task(sample)) == label
    return cells


def _told(one: evaluations.Evaluation) -> str:
    figures = json.loads(one.metrics_json)
    f1 = "not defined" if figures["f1"] is None else f"{100 * figures['f1']:.1f}"
    return f"{one.benchmark} F1 {f1}"
