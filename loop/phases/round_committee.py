"""The committee of a round: fitted on what was taught through it, it stands in where the guard has no other members.

It is fitted anew in each phase that asks it, by seeds of the recipe and the round alone: that takes seconds and stores
nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wizloop.loop.context import Context, seed_of
from wizloop.loop.measures import committee
from wizloop.loop.measures.committee import Committee
from wizloop.loop.measures.features import Floats, Space, drawn
from wizloop.loop.measures.uncertainty import auroc
from wizloop.loop.phases import model_roles, vectors
from wizloop.loop.phases.taught_lessons import Labeled, lessons_of
from wizloop.loop.stored_samples import labels_of
from wizloop.loop.words import Declaration, Task
from wizloop.store import models, samples, steps
from wizloop.store.predictions import Prediction
from wizloop.store.samples import Sample

Signals = Mapping[str, float | None]


@dataclass(frozen=True)
class RoundCommittee:
    """A fitted committee for each task whose labels have both classes."""

    ctx: Context
    round: int
    space: Space
    by_task: Mapping[Task, Committee]
    labels: Mapping[Task, int]
    """How many labels each learned from."""

    def read(self, samples: Sequence[Sample]) -> None:
        """Read the base's vectors of samples that have none yet, all at once: the guard stays loaded after."""
        if self.space.center is not None:
            vectors.read(self.ctx, samples)

    def signals(self, samples: Sequence[Sample]) -> dict[int, Signals]:
        """Return by sample id `committee_p_TASK`, `committee_margin_TASK` and `committee_disagreement_TASK`."""
        if not samples:
            return {}
        told = {task: _told(task, p) for task, p in self._p(samples).items()}
        found: dict[int, Signals] = {}
        for at, sample in enumerate(samples):
            of = [told[task] for task in self.ctx.declared.tasks_of(sample) if task in told]
            found[sample.id] = {name: float(values[at]) for named in of for name, values in named.items()}
        return found

    def disagreement(self, samples: Sequence[Sample]) -> dict[int, float | None]:
        """Return how far the copies are apart on each sample's main task, by sample id."""
        told = {task: committee.spread(p).tolist() for task, p in self._p(samples).items()}
        main = [self.ctx.declared.main_task(one) for one in samples]
        return {
            one.id: told[task][at] if task in told else None
            for at, (one, task) in enumerate(zip(samples, main, strict=True))
        }

    def _p(self, samples: Sequence[Sample]) -> dict[Task, Floats]:
        """Return P(positive) by task, of shape (copies, samples)."""
        if not samples:
            return {}
        weights = np.concatenate([one.weights for one in self.by_task.values()], axis=1)
        product = self.space.product([text_of(one) for one in samples], vectors.of(self.ctx, samples), weights)
        parts = np.split(product, len(self.by_task), axis=1)
        return {task: one.of_product(part) for (task, one), part in zip(self.by_task.items(), parts, strict=True)}

    def record(self) -> dict[str, Any]:
        """Return for the record of a round: whose committee it is, and the labels that it learned from."""
        return {"round": self.round, "labels": dict(self.labels)}

    def sentence(self) -> str:
        """Return the record in words."""
        labels = ", ".join(f"{n:,} {task}" for task, n in self.labels.items())
        return f"the committee of round {self.round} learned from these labels: {labels}"


def is_on(ctx: Context) -> bool:
    """Return whether a committee stands in: the recipe has no members, neither adapters nor others."""
    return not ctx.recipe.members.count and not ctx.recipe.members.others


def of_round(ctx: Context, round: int) -> RoundCommittee | None:
    """Return the committee of a round; None where members stand beside the guard, or nothing could be learned."""
    lessons = lessons_of(ctx, model_roles.sft_name(round)) if is_on(ctx) else []
    if not lessons:
        return None
    space = _space(ctx, round, lessons)
    found = {task: _fitted(ctx, round, space, task, lessons) for task in ctx.declared.tasks}
    by_task = {task: one for task, one in found.items() if one is not None}
    labels = {task: sum(task in one.labels for one in lessons) for task in by_task}
    return RoundCommittee(ctx, round, space, by_task, labels) if by_task else None


def newest(ctx: Context) -> RoundCommittee | None:
    """Return the committee of the last round before this one in which something was taught."""
    for round in range(ctx.round - 1, -1, -1):
        with ctx.store.read() as db:
            taught = models.by_name(db, model_roles.sft_name(round))
        if taught is not None:
            return of_round(ctx, round)
    return None


def figures(found: Sequence[Prediction], dev: Mapping[int, Sample], declared: Declaration) -> dict[str, Any]:
    """Return by task the AUROC of the committee's mean probability on dev, and the rows; empty without a committee."""
    told: dict[str, Any] = {}
    for task in declared.tasks:
        given = [(one.signals.get(f"committee_p_{task}"), labels_of(dev[one.sample_id], declared)) for one in found]
        rows = [(p, labels[task] == declared.positive(task)) for p, labels in given if p is not None and task in labels]
        if rows:
            told[task] = {"auroc": auroc(*zip(*rows, strict=True)), "n": len(rows)}
    return {"committee": told} if told else {}


def text_of(sample: Sample) -> str:
    """Return what the features read of a sample, whatever the task."""
    return sample.prompt if sample.response is None else f"{sample.prompt}\n{sample.response}"


def _told(task: Task, p: Floats) -> dict[str, Floats]:
    return {
        f"committee_p_{task}": committee.mean(p),
        f"committee_margin_{task}": committee.margin(p),
        f"committee_disagreement_{task}": committee.spread(p),
    }


def _space(ctx: Context, round: int, lessons: Sequence[Labeled]) -> Space:
    """Fit the space on the pool as it was when the round began, or on the lessons in a run without one."""
    seed, pool = seed_of(ctx.recipe.seed, "space"), _pool(ctx, round) or [one.sample.id for one in lessons]
    with ctx.store.read() as db:
        rows = samples.get(db, [pool[at] for at in drawn(len(pool), seed)])
    return Space.fit([text_of(one) for one in rows], vectors.of(ctx, rows), seed)


def _pool(ctx: Context, round: int) -> list[int]:
    """Return the ids of the pool's usable samples. Round 0 has the pool of round 1, the first that is chosen from."""
    with ctx.store.read() as db:
        begun, known = steps.get_round(db, max(round, 1)), samples.ids(db, "pool")
    last = None if begun is None else begun.record.get(steps.LAST_SAMPLE)
    return [id for id in known if last is None or id <= last]


def _fitted(ctx: Context, round: int, space: Space, task: Task, lessons: Sequence[Labeled]) -> Committee | None:
    taught = [one for one in lessons if task in one.labels]
    if not taught:
        return None
    rows = [one.sample for one in taught]
    positive = ctx.declared.positive(task)
    labels = [one.labels[task] == positive for one in taught]
    X = space.matrix([text_of(one) for one in rows], vectors.of(ctx, rows))
    return committee.fit(X, labels, seed=seed_of(ctx.recipe.seed, "committee", round, task))
