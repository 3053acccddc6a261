"""Measure a model by policy, on dev and every test set: above all on policies that it was never trained on."""

from collections.abc import Mapping, Sequence
from typing import Any

from wizloop.loop.context import Context
from wizloop.loop.data.similarity import normalize
from wizloop.loop.guard import shown_policies
from wizloop.loop.measures.by_policy import PolicyRow, by_policy
from wizloop.loop.phases import predict
from wizloop.loop.phases.score_predictions import labeled
from wizloop.loop.stored_samples import labels_of
from wizloop.loop.words import LABELS, Task
from wizloop.store import models
from wizloop.store.samples import Sample

JUDGED: tuple[Task, ...] = ("request", "response")
KEY = "by_policy"
"""Key of a round's record, and of the base's."""


def record_of(ctx: Context, model: models.Model, sets: Mapping[str, Sequence[Sample]]) -> dict[str, Any]:
    """Return the record of a model's figures by policy; empty for a guard without policies."""
    policies = ctx.renderer.policies
    if policies is None:
        return {}
    ids = [one.id for one in policies.policies]
    found: dict[str, dict[str, Any]] = {}
    for name, samples in sets.items():
        for task, rows in labeled(samples, predict.stored(ctx, model, samples)).items():
            if task not in JUDGED:
                continue
            given = [
                PolicyRow(
                    shown_policies.ids_in(sample.policy, policies),
                    labels_of(sample)[task],
                    answer.verdict.get(task),
                    normalize(sample.prompt),
                )
                for sample, answer in rows
            ]
            rng = ctx.rng("policies", name, task)
            if figures := by_policy(given, ids, policies.left_out, positive=LABELS[task][0], rng=rng):
                found.setdefault(name, {})[task] = figures
    return {KEY: {"ask": policies.ask, "never_trained_on": list(policies.left_out), "figures": found}}
