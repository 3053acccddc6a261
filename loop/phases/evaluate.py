"""Phase evaluate: predict dev with the challenger and the members, calibrate on dev, then score every test set.

Thresholds, source and confidence measure are learned on dev only; test is only scored. The baselines are scored on the
same samples.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from wizloop.console import answering, operating
from wizloop.loop.context import Context
from wizloop.loop.data.similarity import normalize
from wizloop.loop.guard import speed
from wizloop.loop.measures.answer_choice import Written
from wizloop.loop.measures.calibration import Calibration, DevRow, Judgement, calibrate
from wizloop.loop.measures.confidence import Values
from wizloop.loop.measures.uncertainty import compare_cells
from wizloop.loop.phases import (
    baselines,
    category_measures,
    label_gains,
    model_roles,
    policy_figures,
    predict,
    round_committee,
    ways,
)
from wizloop.loop.phases.round_committee import RoundCommittee
from wizloop.loop.phases.score_predictions import evaluations_of, traces_unparsed
from wizloop.loop.phases.taught_lessons import lessons_of
from wizloop.loop.stored_samples import labels_of, usable
from wizloop.loop.words import Declaration
from wizloop.recipes.schema import Recipe
from wizloop.store import evaluations, models, predictions, samples, steps
from wizloop.store.db import Store
from wizloop.store.predictions import Prediction
from wizloop.store.samples import Sample


def run(ctx: Context) -> str:
    """Evaluate the round's challenger, if there is one."""
    with ctx.store.read() as db:
        challenger = model_roles.challenger(db, ctx.round)
        members = model_roles.members(db, ctx.round)
    if challenger is None:
        return "no challenger to evaluate"
    with ctx.store.read() as db:
        base, standing = model_roles.base(db), model_roles.standing(db)
    dev, test = list(usable(ctx.store, "dev")), list(usable(ctx.store, "test"))
    for member in members:
        predict.predict_missing(ctx, member, dev)
    known = calibrate_on_dev(ctx, challenger, members, dev, committee=round_committee.of_round(ctx, ctx.round))
    # They predicted dev and test before; samples imported since are new to them, and no member predicts these.
    predict.predict_missing(ctx, standing, dev, alone=True)
    predict.predict_missing(ctx, base, [*dev, *test], alone=True)
    predict.predict_missing(ctx, replace(challenger, calibration_json=known.to_json()), test, alone=True)
    sets = {"dev": dev, **by_benchmark(ctx.store, ctx.recipe, test)}
    category_measures.ask_missing(ctx, standing, dev)
    named = category_measures.measure(ctx, challenger, known, sets)
    scored, record = evaluations_of(ctx, challenger, sets, known), record_of(ctx, challenger, known, dev)
    lessons = lessons_of(ctx, model_roles.sft_name(ctx.round))
    beside = baselines.beside(ctx, challenger, base, sets, lessons) | policy_figures.record_of(ctx, challenger, sets)
    beside |= label_gains.record_of(ctx, lessons, dev)
    timed = speed.of_few(ctx.judge(replace(challenger, calibration_json=known.to_json())), test or dev)
    with ctx.store.write() as db:
        evaluations.add(db, scored)
        steps.merge_record(db, ctx.round, {"evaluate": record, **named, **beside})
    # An event and no record: a night that is resumed leaves the same rows, and a clock does not.
    if timed:
        ctx.say(operating.speed(timed), data={"speed": timed})
    if linear := ways.latency(ctx, challenger, known, test or dev):
        ctx.say(answering.latency(linear), data={"linear_speed": linear})
    for lacking in operating.missing(record):
        ctx.say(lacking, "warn")
    if (record["traces_unparsed"] or 0.0) > ctx.recipe.gate.max_unparsable:
        ctx.say(
            f"{100 * record['traces_unparsed']:.0f} % of the challenger's traces on dev have no complete answer block: "
            "they cannot vote, and no pairs can be mined from them.",
            "warn",
        )
    return in_short(scored)


def in_short(scored: Sequence[evaluations.Evaluation]) -> str:
    """Return a phase's note: F1 on requests by benchmark."""
    return ", ".join(_f1(one) for one in scored if one.task == "request")


def calibrate_on_dev(
    ctx: Context,
    model: models.Model,
    members: Sequence[models.Model],
    dev: Sequence[Sample],
    only: Written | None = None,
    total: int | None = None,
    *,
    committee: RoundCommittee | None = None,
) -> Calibration:
    """Predict dev with a model, learn its calibration, and judge its dev predictions by it.

    `only` is the source of every verdict: traces are drawn if they are it; by default both are tried. `total` counts
    what the phase predicts after dev too.
    """
    how, limits = ctx.recipe.classify, ctx.limits(model)
    sampling = None if only == "direct" else limits.exactly()
    beside: dict[str, Any] = {"members": members, "committee": committee}
    predict.predict_missing(ctx, model, dev, sampling=sampling, total=total, **beside)
    with ctx.store.read() as db:
        found = predictions.of_model(db, model.id, "dev")
        drawn = predictions.traces_of(db, model.id, [one.id for one in dev])
    by_id = {sample.id: sample for sample in dev}
    rows = [dev_row(one.signals, by_id[one.sample_id], ctx.declared) for one in found]
    known = calibrate(
        rows,
        lowest_groups=[trace.lowest for trace in drawn],
        window=limits.sampling.window,
        keep_top_percent=how.keep_top_percent,
        verdict=only or ctx.recipe.written,
        answer=ctx.recipe.guard.answer,
        max_unparsable=ctx.recipe.gate.max_unparsable,
        operating_point=ctx.recipe.guard.operating_point,
        let_through=ctx.recipe.guard.let_through,
        declared=ctx.declared,
    )
    with ctx.store.write() as db:
        models.set_calibration(db, model.id, known.to_json())
    judgements = [(one.sample_id, _judge(one, by_id[one.sample_id], known)) for one in found]
    judged = [(model.id, sample_id, j.verdict, j.probability, j.confidence, j.cell) for sample_id, j in judgements]
    ctx.write_batches(judged, predictions.judge)
    return known


def dev_row(signals: Values, sample: Sample, declared: Declaration) -> DevRow:
    """Return a dev sample as a calibration takes it."""
    return DevRow(signals, labels_of(sample, declared), declared.main_task(sample), normalize(sample.prompt))


def by_benchmark(store: Store, recipe: Recipe, test: Sequence[Sample]) -> dict[str, list[Sample]]:
    """Group the test samples by the benchmarks that the recipe or an import names; all others are `test`."""
    with store.read() as db:
        names = samples.benchmarks(db) | {data.benchmark for data in recipe.data if data.benchmark is not None}
    found: dict[str, list[Sample]] = {}
    for sample in test:
        found.setdefault(sample.source if sample.source in names else "test", []).append(sample)
    return found


def _judge(one: Prediction, sample: Sample, known: Calibration) -> Judgement:
    return known.apply(one.signals, known.declared.tasks_of(sample), known.declared.main_task(sample))


def record_of(ctx: Context, model: models.Model, known: Calibration, dev: Sequence[Sample]) -> dict[str, Any]:
    """Return the round's record of the calibration: confidence measure, figures, the four cells."""
    with ctx.store.read() as db:
        found = predictions.of_model(db, model.id, "dev")
    by_id = {sample.id: sample for sample in dev}
    cells = dev_cells(found, by_id, ctx.declared)
    sure, unsure = cells.get("confident_pass", _EMPTY), cells.get("uncertain_pass", _EMPTY)
    compared = compare_cells(sure["right"], sure["n"], unsure["right"], unsure["n"])
    return {
        "reader": ctx.reader(model).name,
        "confidence": known.measure,
        "confidence_alone": known.own,
        "auroc_n": known.n,
        **{key: asdict(known)[key] for key in _RECORDED},
        "cells": cells,
        "confident_passes_are_righter": None if compared is None else compared.words,
        "traces_unparsed": traces_unparsed(found),
        **round_committee.figures(found, by_id, ctx.declared),
        **known.operating(),
    }


_RECORDED = ("auroc", "source", "scales", "thresholds", "average_precision", "cut")
_EMPTY = {"n": 0, "right": 0}


def dev_cells(
    found: Sequence[Prediction], samples: Mapping[int, Sample], declared: Declaration
) -> dict[str, dict[str, int]]:
    """Count the labeled dev samples in each cell, and those that are right on their main task."""
    cells: dict[str, dict[str, int]] = {}
    for one in found:
        sample = samples[one.sample_id]
        main = declared.main_task(sample)
        label = labels_of(sample, declared).get(main)
        if label is None or one.cell is None:
            continue
        counted = cells.setdefault(one.cell, {"n": 0, "right": 0})
        counted["n"] += 1
        counted["right"] += one.verdict.get(main) == label
    return cells


def _f1(one: evaluations.Evaluation) -> str:
    f1 = json.loads(one.metrics_json)["f1"]
    return f"{one.benchmark} F1 {'undefined' if f1 is None else f'{100 * f1:.1f}'}"
