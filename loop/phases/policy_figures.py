"""Measure a model by policy, on dev and every test set: above all on policies that it was never trained on."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from wizloop.console.by_policy import KEY
from wizloop.loop.context import Context
from wizloop.loop.data.similarity import normalize
from wizloop.loop.guard import shown_policies
from wizloop.loop.measures.by_policy import PolicyRow, by_policy
from wizloop.loop.phases import predict
from wizloop.loop.phases.score_predictions import labeled
from wizloop.loop.words import LABELS, Task
from wizloop.recipes.policies import PolicySet
from wizloop.store import categories, models
from wizloop.store.samples import Sample

JUDGED: tuple[Task, ...] = ("request", "response")
"""Tasks whose labels follow from policies."""


def record_of(ctx: Context, model: models.Model, sets: Mapping[str, Sequence[Sample]]) -> dict[str, Any]:
    """Return what a round records of a model's stored predictions; empty for a guard without policies."""
    policies = ctx.renderer.policies
    if policies is None:
        return {}
    with ctx.store.read() as db:
        named = categories.labels(db, [one.id for samples in sets.values() for one in samples])
    rows = (
        (name, task, [_row(sample, task, answer.verdict, policies, named.get(sample.id)) for sample, answer in found])
        for name, samples in sets.items()
        for task, found in labeled(samples, predict.stored(ctx, model, samples), ctx.declared).items()
    )
    return {KEY: recorded(policies, rows, lambda name, task: ctx.rng("policies", name, task))}


def recorded(
    policies: PolicySet,
    rows: Iterable[tuple[str, Task, Sequence[PolicyRow]]],
    rng_of: Callable[[str, str], np.random.Generator],
) -> dict[str, Any]:
    """Return the figures of each benchmark and task, with what was left out of training."""
    ids = [one.id for one in policies.policies]
    found: dict[str, dict[str, Any]] = {}
    for name, task, given in rows:
        if task in JUDGED:
            rng = rng_of(name, task)
            if figures := by_policy(given, ids, policies.left_out, positive=LABELS[task][0], rng=rng):
                found.setdefault(name, {})[task] = figures
    return {"ask": policies.ask, "never_trained_on": list(policies.left_out), "figures": found}


def _row(
    sample: Sample,
    task: Task,
    verdict: Mapping[str, str | None],
    policies: PolicySet,
    labeled: Sequence[str] | None,
) -> PolicyRow:
    violated = shown_policies.ids_in(labeled, sample.policy, policies)
    return PolicyRow(violated, sample.labels[task], verdict.get(task), normalize(sample.prompt))
