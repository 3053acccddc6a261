"""Phase base: measure the base on dev and test before anything is taught: round "base" of every run.

It is calibrated on dev as every model is; its verdicts are direct answers, unless the recipe reads them from traces.
"""

from dataclasses import replace

from wizloop.loop.context import Context
from wizloop.loop.guard.judge import uncalibrated
from wizloop.loop.measures.answer_choice import Written
from wizloop.loop.phases import baselines, category_measures, evaluate, model_roles, policy_figures, predict
from wizloop.loop.phases.score_predictions import evaluations_of
from wizloop.loop.stored_samples import usable
from wizloop.store import evaluations, steps


def run(ctx: Context) -> str:
    """Calibrate the base on dev, score dev and every test set, and a guard that calls everything harmful beside it."""
    with ctx.store.read() as db:
        base = model_roles.base(db)
    dev, test = list(usable(ctx.store, "dev")), list(usable(ctx.store, "test"))
    only: Written = "traces" if uncalibrated(ctx.recipe).votes else "direct"
    total = len(dev) + len(test)
    known = evaluate.calibrate_on_dev(ctx, base, (), dev, only, total)
    base = replace(base, calibration_json=known.to_json())
    predict.predict_missing(ctx, base, test, alone=True, done=len(dev), total=total)
    sets = {"dev": dev, **evaluate.by_benchmark(ctx.store, ctx.recipe, test)}
    category_measures.tell_unknown(ctx, [*usable(ctx.store, "seed"), *dev, *test])
    named = category_measures.measure(ctx, base, known, sets)
    scored = evaluations_of(ctx, base, sets, known)
    record = evaluate.record_of(ctx, base, known, dev) | named | baselines.beside(ctx, base, None, sets, ())
    record |= policy_figures.record_of(ctx, base, sets)
    with ctx.store.write() as db:
        evaluations.add(db, scored)
        steps.merge_record(db, ctx.round, {"base_measured": record})
    return f"{evaluate.in_short(scored)}; its traces are read by the {ctx.reader(base).name} reader"
