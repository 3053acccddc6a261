"""Find labels that are likely wrong: a confident guard, its members and a teacher contradict them.

Ranked by self-confidence, the ensemble's probability of the given label, lowest first (Northcutt, Jiang and Chuang,
"Confident learning", JAIR 2021, section 3.2). A teacher that costs nothing is asked about samples without a trace.
Labels that only the guards contradict are listed on request: most of these are the guards' own errors. Changes no
label.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from wizloop.backends.teachers.base import Question
from wizloop.loop.context import Context
from wizloop.loop.evaluation.compare_traces import TeacherTrace
from wizloop.loop.measures.calibration import Calibration
from wizloop.loop.measures.confidence import value_of
from wizloop.loop.phases import model_roles
from wizloop.loop.stored_samples import labels_of, usable
from wizloop.loop.teaching import teachers
from wizloop.loop.words import TASKS, Declaration, Task, share_of
from wizloop.store import models, reviews, steps, teacher_calls
from wizloop.store.db import Connection
from wizloop.store.samples import Sample

BATCH = 128
"""Samples judged together."""
_Shares = Mapping[Task, Mapping[str, float]]
"""Probability of each label, by task."""
_SURE = 0.5
"""Halfway from the threshold to certainty; used if dev chose another measure of confidence."""


@dataclass(frozen=True)
class Opinion:
    """One label, and the verdicts of guard, members and teacher on it."""

    sample_id: int
    split: str
    source: str
    row_ref: str
    prompt: str
    response: str | None
    task: Task
    label: str
    guard: str
    """The guard's verdict."""
    confident: bool
    guard_p: float
    """The guard's probability of the given label."""
    members_p: tuple[float, ...]
    """Each member's probability of the given label."""
    teacher: str | None
    """The teacher's verdict; None if it was not asked or gave none."""

    @property
    def p(self) -> float:
        """Self-confidence: the mean probability of the given label over the guard and its members."""
        return float(np.mean([self.guard_p, *self.members_p]))

    @property
    def contradicted(self) -> bool:
        """True if a confident guard, all members, and the teacher if asked contradict the label."""
        guards = self.guard != self.label and all(p < 0.5 for p in self.members_p)
        return self.confident and guards and self.teacher != self.label


def suspects(opinions: Iterable[Opinion], *, untaught: bool = False) -> list[Opinion]:
    """Return the labels that are likely wrong, most likely first; `untaught` appends those that no teacher judged."""
    found = [one for one in opinions if one.contradicted and (untaught or one.teacher is not None)]
    return sorted(found, key=lambda one: (one.teacher is None, one.p, one.sample_id, TASKS.index(one.task)))


def opinions(
    ctx: Context, model: models.Model, splits: Sequence[str], traces: Sequence[TeacherTrace] = ()
) -> list[Opinion]:
    """Collect the verdicts of the guard, the members of its round and the teacher on every label of the splits.

    `traces` add a teacher's verdicts on samples that it was not asked about in the run.
    """
    with ctx.store.read() as db:
        members = model_roles.members(db, model.round)
        taught = _taught(db)
    asked = [one for split in splits for one in usable(ctx.store, split) if labels_of(one, ctx.declared)]
    _add_verdicts(ctx, taught, asked, traces)
    found: list[Opinion] = []
    calibration = Calibration.from_json(model.calibration_json, ctx.declared)
    for piece in ctx.batches(asked, BATCH):
        by_guard, *by_members = [
            [_by_label(one.p, ctx.declared) for one in ctx.judge(each).direct(piece)] for each in (model, *members)
        ]
        for at, sample in enumerate(piece):
            others = [answers[at] for answers in by_members]
            found += _of_sample(sample, by_guard[at], others, calibration, taught.get(sample.id, {}))
    return found


def _taught(db: Connection) -> dict[int, Mapping[str, str | None]]:
    """Return the last teacher's verdicts on each sample, without traces that a person rejected."""
    taught: dict[int, Mapping[str, str | None]] = {}
    for trace in (one for each in steps.rounds(db) for one in teacher_calls.traces(db, each.number)):
        review = reviews.standing(db, trace.id)
        if review is None or review.decision != "reject" or not review.by.startswith("person:"):
            taught[trace.sample_id] = trace.verdict
    return taught


def _add_verdicts(
    ctx: Context,
    taught: dict[int, Mapping[str, str | None]],
    asked: Sequence[Sample],
    traces: Sequence[TeacherTrace],
) -> None:
    """Add verdicts on the samples without any: those of `traces`, else the run's policy reasoner's, which are free."""
    given: dict[tuple[str, str | None], dict[str, str | None]] = {}
    for one in traces:
        given.setdefault((one.text, one.response), {})[one.task] = one.predicted
    reasoner = teachers.here(ctx.asking, "policy") if "policy" in ctx.recipe.teacher.names else None
    for sample in (one for one in asked if one.id not in taught):
        if (sample.prompt, sample.response) in given:
            taught[sample.id] = given[sample.prompt, sample.response]
        elif reasoner is not None:
            trace = reasoner.ask(Question(str(sample.id), sample.prompt, sample.response)).trace
            if trace is not None:
                taught[sample.id] = {task: getattr(trace, task) for task in TASKS}


def _of_sample(
    sample: Sample,
    direct: _Shares,
    members: Sequence[_Shares],
    calibration: Calibration,
    taught: Mapping[str, str | None],
) -> list[Opinion]:
    """Return an opinion for each task with a known label."""
    found = []
    declared = calibration.declared
    for task, label in labels_of(sample, declared).items():
        signals = {f"p_direct_{task}": direct[task][declared.positive(task)]}
        signals |= {f"p_direct_{share_of(task, other)}": p for other, p in direct[task].items()}
        margin = value_of("margin_direct", signals, task, calibration) or 0.0
        found.append(
            Opinion(
                sample_id=sample.id,
                split=sample.split,
                source=sample.source,
                row_ref=sample.row_ref,
                prompt=sample.prompt,
                response=sample.response,
                task=task,
                label=label,
                guard=calibration.direct_verdict(signals, task),
                confident=margin >= (calibration.own_cut if calibration.own == "margin_direct" else _SURE),
                guard_p=direct[task][label],
                members_p=tuple(each[task][label] for each in members),
                teacher=taught.get(task),
            )
        )
    return found


def _by_label(p: Mapping[str, float], declared: Declaration) -> _Shares:
    """Return the probability of each label of each task in a direct answer."""
    found: dict[Task, dict[str, float]] = {}
    for task, (positive, *others) in declared.by_task.items():
        if task in p:
            rest = {other: p.get(share_of(task, other), 1 - p[task]) for other in others}
            found[task] = {positive: p[task], **rest}
    return found
