"""Phase review: screens and the rule approve a teacher's trace, or leave it for a person. Nothing is rejected.

A waiting trace does not hold the run up: it is trained on in the round after its approval.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Literal

from wizloop.loop.context import Context
from wizloop.loop.phases import model_roles
from wizloop.loop.teaching import clients, screens
from wizloop.loop.words import LABELS, TASKS
from wizloop.store import predictions, reviews, samples, sending
from wizloop.store.teacher_calls import TeacherTrace

Rule = Literal["nothing", "everything", "doubtful"]
PIECE = 200
_KEPT_BACK = "The text is kept back from the teachers: the verdict is the policy reasoner's, and only a person decides."


def run(ctx: Context) -> str:
    """Decide on every trace without a decision."""
    with ctx.store.read() as db:
        champion = model_roles.champion(db)
        pending = reviews.unreviewed(db, ctx.round)
    review = ctx.recipe.review
    done = waiting = 0
    stopped: Counter[str] = Counter()
    for piece in ctx.batches(pending, PIECE):
        ctx.progress(done, len(pending))
        ids = [trace.sample_id for trace in piece]
        with ctx.store.read() as db:
            known = {one.id: one for one in samples.get(db, ids)}
            held = set() if "policy" in ctx.recipe.teacher.names else sending.kept_back(db, ids)
            seen = predictions.for_samples(db, champion.id, ids) if champion else []
        guard = {one.sample_id: one.probability for one in seen}
        # A template is no reasoning that could be judged.
        failed = {
            one.id: [] if one.teacher in clients.TEMPLATES else screens.screened(review, known[one.sample_id], one)
            for one in piece
        }
        stopped.update(failure.screen for each in failed.values() for failure in each)
        against = {
            one.id: screens.reason(failed[one.id])
            or (_KEPT_BACK if one.sample_id in held and one.teacher == "policy" else None)
            or doubt(review.rule, one, _labels(known[one.sample_id]), guard.get(one.sample_id, {}), review.confident_at)
            for one in piece
        }
        with ctx.store.write() as db:
            reviews.rule_all(db, review.rule, against, ctx.now())
        waiting += sum(reason is not None for reason in against.values())
        done += len(piece)
    screened = ", ".join(f"{n} {name}" for name, n in stopped.most_common())
    return f"{done - waiting} approved, {waiting} wait for a person" + (f"; screens: {screened}" if screened else "")


def doubt(
    rule: Rule,
    trace: TeacherTrace,
    labels: Mapping[str, str],
    guard: Mapping[str, float],
    confident_at: float,
) -> str | None:
    """Return why a trace must wait, or None. `guard` is P(positive) by task, `labels` are the known labels."""
    if rule == "nothing":
        return None
    if rule == "everything":
        return "Every trace waits for a person."
    for task in TASKS:
        verdict = trace.verdict.get(task)
        if verdict is None:
            continue
        if labels.get(task) not in (None, verdict):
            return f"The teacher calls the {task} {verdict}, the known label is {labels[task]}."
        positive, negative = LABELS[task]
        p, other = guard.get(task), negative if verdict == positive else positive
        against = None if p is None else p if other == positive else 1 - p
        if against is not None and against >= confident_at:
            return (
                f"The teacher calls the {task} {verdict}, the guard is {100 * against:.0f} % sure that it is {other}."
            )
    return "The teacher calls its own confidence low." if trace.confidence_word == "low" else None


def _labels(sample: samples.Sample) -> dict[str, str]:
    known = {task: getattr(sample, column) for task, column in samples.LABELS.items()}
    return {task: label for task, label in known.items() if label is not None}
