"""The baselines of a model on the same samples: the base, "call everything harmful" and a linear model.

A guard that is not better than these has learned nothing that was worth a night. Beside them stand the ways of
answering that do not give its verdicts (`ways`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from wizloop.loop.context import Context, seed_of
from wizloop.loop.measures import linear
from wizloop.loop.measures.metrics import score
from wizloop.loop.measures.operating_points import threshold_for
from wizloop.loop.measures.promotion import LabeledVerdicts, compare_f1
from wizloop.loop.phases import ways
from wizloop.loop.phases.score_predictions import verdicts_of
from wizloop.loop.phases.taught_lessons import Labeled
from wizloop.loop.words import DEFAULT, Declaration, Task
from wizloop.store import models
from wizloop.store.samples import Sample

Sets = Mapping[str, Sequence[Sample]]
Answers = Mapping[str, Mapping[Task, LabeledVerdicts]]
"""By benchmark and task."""
_KEPT = ("f1", "macro_f1", "macro_f1_low", "macro_f1_high", "precision", "recall", "fpr", "n")


def beside(
    ctx: Context, model: models.Model, base: models.Model | None, sets: Sets, lessons: Sequence[Labeled]
) -> dict[str, Any]:
    """Return `baselines`, figures by baseline, benchmark and task, and `compared`: F1 of the model against each.

    `base` is None where `model` is the base. Test sets are compared, or dev if there is none.
    """
    ours = {name: verdicts_of(ctx, model, rows) for name, rows in sets.items()}
    found: dict[str, Answers] = {"all_harmful": _all_positive(ours, ctx.declared)}
    if lessons:
        found["tfidf"] = _linear(ctx, sets, ours, lessons)
    figures = {
        name: {
            benchmark: {task: _named(ctx, name, task) | one for task, one in by_task.items()}
            for benchmark, by_task in _figures(ctx, answers).items()
        }
        for name, answers in found.items()
    }
    for way, answered in ways.beside(ctx, model, sets).items():
        figures[way] = {
            name: {task: _score(ctx, name, task, one.verdicts, one.ps) for task, one in by_task.items()}
            for name, by_task in answered.items()
        }
        found[way] = {name: {task: one.verdicts for task, one in by.items()} for name, by in answered.items()}
    if base is not None:
        found["base"] = {name: verdicts_of(ctx, base, rows) for name, rows in sets.items()}
    return {"baselines": figures, "compared": _compared(ctx, ours, found)}


def _all_positive(ours: Answers, declared: Declaration) -> Answers:
    """Return the answers of a guard that calls everything harmful, and every response a refusal."""
    return {
        name: {
            task: replace(one, verdicts=[declared.positive(task)] * len(one.labels)) for task, one in by_task.items()
        }
        for name, by_task in ours.items()
    }


def _linear(ctx: Context, sets: Sets, ours: Answers, lessons: Sequence[Labeled]) -> Answers:
    """Return the answers of TF-IDF with logistic regression on the lessons, cut on dev by the guard's rule."""
    found: dict[str, dict[Task, LabeledVerdicts]] = {name: {} for name in sets}
    for task, (positive, *others) in ctx.declared.by_task.items():
        taught = [one for one in lessons if task in one.labels]
        model = _fitted(taught, task, positive)
        if model is None:
            continue
        further = {label: _fitted(taught, task, label) for label in others} if len(others) > 1 else {}
        cut = 0.5
        for name in sorted(sets, key=lambda name: name != "dev"):
            answered = ours[name].get(task)
            if answered is None:
                continue
            by_id = {sample.id: sample for sample in sets[name]}
            texts = [_text(by_id[id], task) for id in answered.sample_ids]
            ps, truth = model.p(texts), [int(label == positive) for label in answered.labels]
            if name == "dev":
                cut = threshold_for(ctx.recipe.guard.operating_point, task, truth, ps)
            rest = _likeliest(further, texts) if further else others * len(texts)
            verdicts = [positive if p >= cut else other for p, other in zip(ps, rest, strict=True)]
            found[name][task] = replace(answered, verdicts=verdicts)
    return found


def _fitted(taught: Sequence[Labeled], task: Task, label: str) -> linear.LinearModel | None:
    """Fit one label of a task against all others."""
    return linear.fit([_text(one.sample, task) for one in taught], [one.labels[task] == label for one in taught])


def _likeliest(models: Mapping[str, linear.LinearModel | None], texts: Sequence[str]) -> list[str]:
    """Return the label whose model is surest of each text; a label without a model counts as 0."""
    ps = [[0.0] * len(texts) if model is None else model.p(texts) for model in models.values()]
    return [list(models)[max(range(len(ps)), key=lambda at: ps[at][n])] for n in range(len(texts))]


def _text(sample: Sample, task: Task) -> str:
    return sample.prompt if task == "request" else f"{sample.prompt}\n{sample.response or ''}"


def _figures(ctx: Context, answers: Answers) -> dict[str, dict[str, Any]]:
    return {name: {task: _score(ctx, name, task, one) for task, one in by.items()} for name, by in answers.items()}


def _named(ctx: Context, baseline: str, task: Any) -> dict[str, str]:
    """Return the label that a baseline always answers, if it is one's own word."""
    positive = ctx.declared.positive(task)
    return {} if baseline != "all_harmful" or positive == DEFAULT.positive(task) else {"label": positive}


def _score(
    ctx: Context, benchmark: str, task: Task, one: LabeledVerdicts, ps: Sequence[float] | None = None
) -> dict[str, Any]:
    """Return the figures of some verdicts, with those of their probabilities if there are any."""
    figures = score(
        one.labels,
        one.verdicts,
        [None] * len(one.labels) if ps is None else ps,
        positive=ctx.declared.positive(task),
        classes=ctx.declared.classes(task),
        clusters=one.clusters,
        # The same in every round: these rows differ by the samples alone.
        rng=np.random.default_rng(seed_of(ctx.recipe.seed, "baselines", benchmark, task)),
    )
    kept = _KEPT if ps is None else (*_KEPT, "auroc", "average_precision")
    return {"low": figures.f1_low, "high": figures.f1_high, **{name: getattr(figures, name) for name in kept}}


def _compared(ctx: Context, ours: Answers, peers: Mapping[str, Answers]) -> dict[str, dict[str, Any]]:
    """Return {benchmark: {task: {baseline: difference of F1}}}, by paired bootstrap."""
    names = [name for name in ours if name != "dev"] or list(ours)
    return {
        name: {
            task: {
                peer: _named(ctx, peer, task)
                | asdict(
                    compare_f1(
                        theirs[name][task], one, task, ctx.rng("compare", name, task, peer), declared=ctx.declared
                    )
                )
                for peer, theirs in peers.items()
                if task in theirs.get(name, {})
            }
            for task, one in ours[name].items()
        }
        for name in names
    }
