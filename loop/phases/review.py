"""Phase review: the rule approves a teacher's trace in its own name, or lets it wait for a person. It never rejects.

What waits does not hold the night up: it is trained on in the round after its approval.
"""

from collections.abc import Mapping
from typing import Literal

from wizloop.loop.context import Context
from wizloop.loop.phases import model_roles
from wizloop.loop.words import LABELS, TASKS
from wizloop.store import predictions, reviews, samples
from wizloop.store.teacher_calls import TeacherTrace

Rule = Literal["nothing", "everything", "doubtful"]
PIECE = 200


def run(ctx: Context) -> str:
    """Decide on every trace on which no decision stands."""
    with ctx.store.read() as db:
        champion = model_roles.champion(db)
        pending = reviews.unreviewed(db, ctx.round)
    done = waiting = 0
    for piece in ctx.batches(pending, PIECE):
        ctx.progress(done, len(pending))
        ids = [trace.sample_id for trace in piece]
        with ctx.store.read() as db:
            known = {one.id: one for one in samples.get(db, ids)}
            seen = predictions.for_samples(db, champion.id, ids) if champion else []
        guard = {one.sample_id: one.probability for one in seen}
        against = {
            trace.id: doubt(
                ctx.recipe.review.rule,
                trace,
                _labels(known[trace.sample_id]),
                guard.get(trace.sample_id, {}),
                ctx.recipe.review.confident_at,
            )
            for trace in piece
        }
        with ctx.store.write() as db:
            reviews.rule_all(db, ctx.recipe.review.rule, against, ctx.now())
        waiting += sum(reason is not None for reason in against.values())
        done += len(piece)
    return f"{done - waiting} approved, {waiting} wait for a person"


def doubt(
    rule: Rule,
    trace: TeacherTrace,
    labels: Mapping[str, str],
    guard: Mapping[str, float],
    confident_at: float,
) -> str | None:
    """Why a trace must wait, in a sentence, or None. `guard` is P(positive) by task, `labels` what is known."""
    if rule == "nothing":
        return None
    if rule == "everything":
        return "Every trace waits for a person."
    for task in TASKS:
        said = trace.verdict.get(task)
        if said is None:
            continue
        if labels.get(task) not in (None, said):
            return f"The teacher calls the {task} {said}, the known label is {labels[task]}."
        p = guard.get(task)
        against = None if p is None else 1 - p if said == LABELS[task][0] else p
        if against is not None and against >= confident_at:
            other = LABELS[task][1 if said == LABELS[task][0] else 0]
            return f"The teacher calls the {task} {said}, the guard is {100 * against:.0f} % sure that it is {other}."
    return "The teacher calls its own confidence low." if trace.confidence_word == "low" else None


def _labels(sample: samples.Sample) -> dict[str, str]:
    known = {task: getattr(sample, column) for task, column in samples.LABELS.items()}
    return {task: label for task, label in known.items() if label is not None}
