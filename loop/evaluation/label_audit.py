"""Labels that are likely wrong: a confident guard, its members and a teacher agree against them.

Ranked by self-confidence, the ensemble's probability of the given label, lowest first (Northcutt, Jiang and Chuang,
"Confident learning", JAIR 2021, section 3.2). A teacher that costs nothing is asked about what it never saw; without
a teacher's word most of what the guards alone are against is the guards' own error, and is listed on request. It
changes nothing: a label is somebody's to mend.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from wizloop.backends.teachers.base import Question
from wizloop.loop.context import Context
from wizloop.loop.evaluation.comparing import OneTrace
from wizloop.loop.measures.calibration import Calibration, value_of
from wizloop.loop.pages import usable
from wizloop.loop.phases.scores import labels_of
from wizloop.loop.teaching import teachers
from wizloop.loop.words import LABELS, TASKS, Task
from wizloop.store import models, reviews, steps, teacher_calls
from wizloop.store.db import Connection
from wizloop.store.samples import Sample

PIECE = 128
_SURE = 0.5
"""Half of the way from the threshold to certainty, where dev has chosen another measure of confidence."""


@dataclass(frozen=True)
class Opinion:
    """What everybody says of one label."""

    sample_id: int
    split: str
    source: str
    row_ref: str
    prompt: str
    response: str | None
    task: Task
    label: str
    guard: str
    """Its verdict."""
    confident: bool
    guard_p: float
    """The guard's probability of the given label."""
    members_p: tuple[float, ...]
    """Each member's."""
    teacher: str | None
    """Its verdict; None: it was not asked, or gave none."""

    @property
    def p(self) -> float:
        """Self-confidence: the mean probability of the given label over the guard and its members."""
        return float(np.mean([self.guard_p, *self.members_p]))

    @property
    def against(self) -> bool:
        """Whether all who speak are against the label, the guard surely."""
        guards = self.guard != self.label and all(p < 0.5 for p in self.members_p)
        return self.confident and guards and self.teacher != self.label


def suspects(opinions: Iterable[Opinion], *, untaught: bool = False) -> list[Opinion]:
    """The labels that are likely wrong, best first; with `untaught`, after them those that no teacher speaks of."""
    found = [one for one in opinions if one.against and (untaught or one.teacher is not None)]
    return sorted(found, key=lambda one: (one.teacher is None, one.p, one.sample_id, TASKS.index(one.task)))


def opinions(
    ctx: Context, model: models.Model, splits: Sequence[str], traces: Sequence[OneTrace] = ()
) -> list[Opinion]:
    """What the guard, the members of its round and the teacher say of every known label of the splits.

    `traces` are more words of a teacher, for samples that it was not asked about in the run.
    """
    with ctx.store.read() as db:
        members = list(models.members(db, model.round))
        taught = _taught(db)
    asked = [one for split in splits for one in usable(ctx.store, split) if labels_of(one)]
    _add_traces(taught, asked, traces)
    _ask_for_free(ctx, taught, asked)
    found: list[Opinion] = []
    known = Calibration.from_json(model.calibration_json)
    for piece in ctx.pieces(asked, PIECE):
        by_guard, *by_members = [_direct(ctx, each, piece) for each in (model, *members)]
        for at, sample in enumerate(piece):
            others = [answers[at] for answers in by_members]
            found += _of_sample(sample, by_guard[at], others, known, taught.get(sample.id, {}))
    return found


def _taught(db: Connection) -> dict[int, Mapping[str, str | None]]:
    """The last teacher's verdicts on each sample, less the traces that a person rejected."""
    traces = [one for each in steps.rounds(db) for one in teacher_calls.traces(db, each.number)]
    return {one.sample_id: one.verdict for one in traces if not _rejected(reviews.standing(db, one.id))}


def _add_traces(
    taught: dict[int, Mapping[str, str | None]], asked: Sequence[Sample], traces: Sequence[OneTrace]
) -> None:
    said: dict[tuple[str, str | None], dict[str, str | None]] = {}
    for one in traces:
        said.setdefault((one.text, one.response), {})[one.task] = one.predicted
    for sample in asked:
        if sample.id not in taught and (sample.prompt, sample.response) in said:
            taught[sample.id] = said[sample.prompt, sample.response]


def _ask_for_free(ctx: Context, taught: dict[int, Mapping[str, str | None]], asked: Sequence[Sample]) -> None:
    """Ask the run's policy reasoner about the samples of which no teacher has spoken: it costs nothing."""
    if "policy" not in ctx.recipe.teacher.names:
        return
    reasoner = teachers.here(ctx.recipe, "policy")
    for sample in asked:
        if sample.id not in taught:
            trace = reasoner.ask(Question(str(sample.id), sample.prompt, sample.response)).trace
            if trace is not None:
                taught[sample.id] = {task: getattr(trace, task) for task in TASKS}


def _rejected(standing: reviews.Standing | None) -> bool:
    return standing is not None and standing.decision == "reject" and standing.by.startswith("person:")


def _direct(ctx: Context, model: models.Model, piece: Sequence[Sample]) -> list[Mapping[Task, float]]:
    return [one.p for one in ctx.judge(model).direct(piece)]


def _of_sample(
    sample: Sample,
    direct: Mapping[Task, float],
    members: Sequence[Mapping[Task, float]],
    known: Calibration,
    taught: Mapping[str, str | None],
) -> list[Opinion]:
    """One opinion for each task with a known label."""
    found = []
    for task, label in labels_of(sample).items():
        positive, negative = LABELS[task]
        threshold = known.threshold(task, "direct")
        margin = value_of("margin_direct", {f"p_direct_{task}": direct[task]}, task, known) or 0.0
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
                guard=positive if direct[task] >= threshold else negative,
                confident=margin >= (known.own_cut if known.own == "margin_direct" else _SURE),
                guard_p=_of_label(direct[task], label == positive),
                members_p=tuple(_of_label(each[task], label == positive) for each in members),
                teacher=taught.get(task),
            )
        )
    return found


def _of_label(p: float, is_positive: bool) -> float:
    return p if is_positive else 1 - p
