"""Measure a lossy export: a guard of its own, whose thresholds are learned again on dev, and which may fail.

Nothing is stored here: the figures go onto its card, into its guard.json and into the row of the export.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from wizloop.backends.guard_types import BackendError
from wizloop.loop.context import Context, seed_of
from wizloop.loop.guard.inference import Signals
from wizloop.loop.guard.judge import Judge
from wizloop.loop.measures.calibration import Calibration, calibrate
from wizloop.loop.measures.gate_bound import GateBound
from wizloop.loop.measures.promotion import ROUNDING, Candidate, Decision, Difference, decide
from wizloop.loop.phases import linear_export, lossy_categories, predict
from wizloop.loop.phases.evaluate import by_benchmark, dev_row
from wizloop.loop.phases.gate import kept_bound
from wizloop.loop.phases.score_predictions import figures, labeled, verdicts_from
from wizloop.loop.stored_samples import usable
from wizloop.store import models
from wizloop.store.samples import Sample

LOSSY = frozenset({"mlx-4bit", "mlx-8bit", "nf4", "gguf-q8"})
"""Formats whose rounded weights answer otherwise than the guard that they were made from."""

Report = Callable[[str], None]
_SHOWN = ("f1", "low", "high", "precision", "recall", "n", "unparsed", "recall_at_fpr", "promise")


class FailedExport(BackendError):
    """An export that loses more than the recipe's margin. `parity` has its figures."""

    def __init__(self, message: str, parity: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.parity = parity


@dataclass(frozen=True)
class Measured:
    """A lossy export, measured."""

    known: Calibration
    parity: dict[str, Any]
    """n, agree and max_difference on dev, each guard at its own thresholds; metrics, as `rounds --json` shows them;
    passed; reason."""


class _Asked(NamedTuple):
    signals: Signals
    traces: Sequence[str]


@dataclass(frozen=True)
class _Answer:
    verdict: Mapping[str, str | None]
    probability: Mapping[str, float]
    signals: Signals


def batches(ctx: Context) -> int:
    """Return how often `measure` reports."""
    size, splits = ctx.recipe.classify.batch, [list(usable(ctx.store, split)) for split in ("dev", "test")]
    asked = lossy_categories.batches(ctx, [one for split in splits for one in split])
    return sum(len(list(ctx.batches(split, size))) for split in splits) + asked


def measure(ctx: Context, model: models.Model, exported: Judge, report: Report) -> Measured:
    """Learn thresholds for an exported model on dev, score it on dev and test, and compare it with its model on dev.

    `exported` has the thresholds of its model, and draws traces only where these verdicts are the traces'. Raises
    ValueError without a dev sample.
    """
    dev, test = list(usable(ctx.store, "dev")), list(usable(ctx.store, "test"))
    theirs = _original(ctx, model, dev, exported.calibration)
    found = _asked(ctx, model, exported, dev, report) | _asked(ctx, model, exported, test, report)
    known = _learned(ctx, exported, dev, {key: one.signals for key, one in found.items()})
    ours = {sample.id: _answer(known, sample, found[sample.id].signals) for sample in (*dev, *test)}
    sets = {"dev": dev, **by_benchmark(ctx.store, ctx.recipe, test)}
    said = {key: lossy_categories.Answered(one.verdict, found[key].traces) for key, one in ours.items()}
    named = lossy_categories.measure(ctx, model, replace(exported, calibration=known), sets, said, report)
    bound = kept_bound(ctx, dev)
    decision = _decide(ctx, dev, theirs, ours, bound)
    passed, reason = told(decision.differences["macro_f1"], decision.lower, bound, ctx.recipe.gate.margin)
    return Measured(
        replace(known, categories=named.thresholds),
        {
            **_agreement(theirs, ours),
            "metrics": {name: _figures(ctx, name, samples, ours, known) for name, samples in sets.items()},
            **({"categories": named.figures} if ctx.renderer.categories else {}),
            "passed": passed and not named.failed,
            "reason": "; ".join([reason, *named.failed]),
        },
    )


def told(f1: Difference, lower: float | None, bound: GateBound | None, margin: float) -> tuple[bool, str]:
    """Return whether an export is kept, and what it loses, in points.

    By the gate's rule one is worse by more than the margin only where its interval says so, and is not kept either
    where a loss of more than `bound` says that dev can exclude is not excluded. `lower` is the bound of its difference.
    """
    said = _reason(f1, margin)
    if f1.difference is None:
        return False, said
    beyond = f1.difference < -margin - ROUNDING
    if beyond and (f1.high is None or f1.high < 0):
        return False, f"{said}; it is worse" if f1.high is not None else said
    most = margin if bound is None else max(margin, bound.loss)
    if lower is not None and lower <= -most:
        lost = f"a loss of {-100 * lower:.1f} points is not excluded (at most {100 * most:.1f} may be)"
        return False, f"{said}; cannot be told: {lost}"
    if beyond:
        return True, f"{said}; that it is worse cannot be told, and a loss of more than {100 * most:.1f} is excluded"
    return True, said


def _asked(
    ctx: Context, model: models.Model, judge: Judge, samples: Sequence[Sample], report: Report
) -> dict[int, _Asked]:
    """Ask a guard batch by batch. Its traces are drawn as those of its model were in phase evaluate."""
    seed = seed_of(ctx.recipe.seed, model.round, "evaluate", "traces", model.name)
    found: dict[int, _Asked] = {}
    for batch in ctx.batches(samples, ctx.recipe.classify.batch):
        report(f"running the export on {batch[0].split}: {len(found):,} of {len(samples):,} samples")
        for sample, answer in zip(batch, judge.answers(batch, seed=seed, named=False), strict=True):
            found[sample.id] = _Asked(answer.signals, [trace.text for trace in answer.traces])
    return found


def _original(ctx: Context, model: models.Model, dev: Sequence[Sample], written: Calibration) -> dict[int, _Answer]:
    """Return the model's stored answers on dev; samples that it never predicted are asked about now."""
    stored = predict.stored(ctx, model, dev)
    known = {key: _Answer(one.verdict, one.probability, dict(one.signals)) for key, one in stored.items()}
    if linear_export.calibration_of(ctx, model).reads_linear:
        # What is lost by rounding is told apart from what the format does not carry.
        by_id = {sample.id: sample for sample in dev}
        known = {key: _answer(written, by_id[key], one.signals) for key, one in known.items()}
    missing = [sample for sample in dev if sample.id not in known]
    if missing:
        judge = ctx.judge(model)
        found = _asked(ctx, model, judge, missing, lambda part: None)
        known |= {sample.id: _answer(judge.calibration, sample, found[sample.id].signals) for sample in missing}
    return {sample.id: known[sample.id] for sample in dev}


def _answer(known: Calibration, sample: Sample, signals: Signals) -> _Answer:
    declared = known.declared
    judged = known.apply(signals, declared.tasks_of(sample), declared.main_task(sample), alone=True)
    return _Answer(judged.verdict, judged.probability, signals)


def _learned(ctx: Context, judge: Judge, dev: Sequence[Sample], found: Mapping[int, Signals]) -> Calibration:
    how, votes = ctx.recipe.classify, judge.calibration.votes
    return calibrate(
        [dev_row(found[sample.id], sample, ctx.declared) for sample in dev],
        lowest_groups=[],
        window=judge.limits.sampling.window,
        keep_top_percent=how.keep_top_percent,
        verdict=ctx.recipe.written if votes else "direct",
        max_unparsable=ctx.recipe.gate.max_unparsable,
        operating_point=ctx.recipe.guard.operating_point,
        let_through=ctx.recipe.guard.let_through,
        declared=ctx.declared,
    )


def _decide(
    ctx: Context,
    dev: Sequence[Sample],
    theirs: Mapping[int, _Answer],
    ours: Mapping[int, _Answer],
    bound: GateBound | None,
) -> Decision:
    """Compare an export and its model as the gate does, on the same bound."""
    return decide(
        Candidate(verdicts_from(labeled(dev, theirs, ctx.declared))),
        Candidate(verdicts_from(labeled(dev, ours, ctx.declared))),
        margin=ctx.recipe.gate.margin,
        max_unparsable=1.0,
        max_over_refusal_rise=1.0,
        rng=ctx.rng("export"),
        bound=bound,
        declared=ctx.declared,
    )


def _reason(f1: Difference, margin: float) -> str:
    """Say in points what an export loses."""
    if f1.difference is None or f1.champion is None or f1.challenger is None:
        return "macro-F1 could not be measured: no task has both labels on dev"
    interval = (
        "" if f1.low is None or f1.high is None else f" (95 % interval {100 * f1.low:+.1f} to {100 * f1.high:+.1f})"
    )
    return (
        f"macro-F1 on dev is {100 * f1.challenger:.1f} against the guard's {100 * f1.champion:.1f}, "
        f"{100 * f1.difference:+.1f} points{interval}; the margin is {100 * margin:.1f}"
    )


def _agreement(theirs: Mapping[int, _Answer], ours: Mapping[int, _Answer]) -> dict[str, Any]:
    """Count the equal verdicts on dev, each guard at its own thresholds; compare raw direct probabilities."""
    pairs = [(one, ours[key]) for key, one in theirs.items()]
    same = [label == other.verdict[task] for one, other in pairs for task, label in one.verdict.items()]
    gaps = [
        abs((one.signals[name] or 0.0) - (other.signals[name] or 0.0))
        for one, other in pairs
        for name in other.signals.keys() & one.signals.keys()
        if name.startswith("p_direct_")
    ]
    return {"n": len(same), "agree": sum(same), "max_difference": max(gaps, default=0.0)}


def _figures(
    ctx: Context, benchmark: str, samples: Sequence[Sample], answers: Mapping[int, _Answer], known: Calibration
) -> dict[str, dict[str, Any]]:
    by_task = labeled(samples, answers, ctx.declared)
    found = {task: figures(ctx, benchmark, task, rows, known) for task, rows in by_task.items()}
    return {task: {key: one[key] for key in (*_SHOWN, "by_label") if key in one} for task, one in found.items()}


def loaded(ctx: Context, model: models.Model, folder: str) -> Judge:
    """Load an exported folder as a judge with the renderer, thresholds and limits of its model."""
    known = linear_export.calibration_for(ctx, model, "") or Calibration(declared=ctx.declared)
    guard = ctx.backend.load(folder, None, quantise=False)
    return Judge(guard, ctx.renderer, known, ctx.limits(model), ctx.reader(model))
