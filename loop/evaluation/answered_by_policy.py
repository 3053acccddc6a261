"""Figures by policy of rows that a guard with policies answered, as a round records them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from wizloop.loop.context import seed_of
from wizloop.loop.data.similarity import normalize
from wizloop.loop.evaluation.answered_rows import AnsweredRow
from wizloop.loop.guard import shown_policies
from wizloop.loop.measures.by_policy import PolicyRow
from wizloop.loop.phases.policy_figures import recorded
from wizloop.loop.words import TASKS, Task
from wizloop.recipes.policies import PolicySet


def record_of(answered: Sequence[AnsweredRow], policies: PolicySet, seed: int) -> dict[str, Any]:
    """Return what a round records of these rows by policy."""
    names = dict.fromkeys(row.benchmark for row in answered)
    rows = (
        (name, task, [_row(row, task, policies) for row in answered if row.benchmark == name and task in row.labels])
        for name in names
        for task in TASKS
    )
    return recorded(policies, rows, lambda name, task: np.random.default_rng(seed_of(seed, 0, "policies", name, task)))


def _row(row: AnsweredRow, task: Task, policies: PolicySet) -> PolicyRow:
    named = shown_policies.ids_in(row.source_categories, row.policy, policies)
    return PolicyRow(named, row.labels[task], row.verdict.get(task), normalize(row.prompt))
