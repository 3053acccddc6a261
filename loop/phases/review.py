"""Phase review: screens and the rule approve a teacher's trace, or leave it for a person. Nothing is rejected.

A waiting trace does not hold the run up: it is trained on in the round after its approval.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

from wizloop.loop.context import Context
from wizloop.loop.measures.calibration import Calibration
from wizloop.loop.phases import model_roles
from wizloop.loop.teaching import clients, screens
from wizloop.loop.words import DEFAULT, Declaration
from wizloop.store import models, predictions, reviews, samples, sending, teacher_checks
from wizloop.store.db import Connection
from wizloop.store.predictions import Prediction
from wizloop.store.teacher_calls import TeacherTrace

Rule = Literal["nothing", "everything", "doubtful"]
PIECE = 200
_PROPOSES = "policy"
"""The teacher that proposes verdicts on samples that are kept back from the others."""
_KEPT_BACK = "The text is kept back from the teachers: the verdict is the policy reasoner's, and only a person decides."


def run(ctx: Context) -> str:
    """Decide on every trace without a decision."""
    with ctx.store.read() as db:
        champion = model_roles.champion(db)
        without = teacher_checks.disbelieved(db)
        pending = [trace for trace in reviews.unreviewed(db, ctx.round) if trace.id not in without]
    done = waiting = 0
    stopped: Counter[str] = Counter()
    for piece in ctx.batches(pending, PIECE):
        ctx.progress(done, len(pending))
        against, failed = _judged(ctx, piece, champion)
        stopped.update(failed)
        with ctx.store.write() as db:
            reviews.rule_all(db, ctx.recipe.review.rule, against, ctx.now())
        waiting += sum(reason is not None for reason in against.values())
        done += len(piece)
    screened = ", ".join(f"{n} {name}" for name, n in stopped.most_common())
    return f"{done - waiting} approved, {waiting} wait for a person" + (f"; screens: {screened}" if screened else "")


def _judged(
    ctx: Context, piece: Sequence[TeacherTrace], champion: models.Model | None
) -> tuple[dict[int, str | None], list[str]]:
    """Return why each trace must wait, or None, by its id; and the names of all failed screens."""
    review, ids = ctx.recipe.review, [trace.sample_id for trace in piece]
    with ctx.store.read() as db:
        known = {one.id: one for one in samples.get(db, ids)}
        seen = predictions.for_samples(db, champion.id, ids) if champion else []
        held, blind = _kept_back(ctx, db, piece), set(teacher_checks.rows(db) or ())
    guard = {one.sample_id: _own(ctx, champion, one) for one in seen}
    against, names = dict[int, str | None](), list[str]()
    for one in piece:
        sample, labels = known[one.sample_id], _labels(known[one.sample_id])
        # A template is no reasoning that could be judged.
        failed = [] if one.teacher in clients.TEMPLATES else screens.screened(review, sample, one, ctx.declared)
        names += [each.screen for each in failed]
        doubted = doubt(review.rule, one, labels, guard.get(sample.id, {}), review.confident_at, ctx.declared)
        proposed = _KEPT_BACK if sample.id in held and not _is_known(one, labels) else None
        # A teacher that was shown no label of a seed row may be wrong on it, whatever the rule.
        wrong = against_label(one, labels, ctx.declared) if sample.id in blind else None
        against[one.id] = screens.reason(failed) or proposed or doubted or wrong
    return against, names


def _own(ctx: Context, champion: models.Model | None, one: Prediction) -> Mapping[str, float]:
    """Return the guard's own P(positive) by task: a linear head is nobody to contradict a teacher."""
    known = Calibration.from_json(None if champion is None else champion.calibration_json, ctx.declared)
    ps = {task: one.signals.get(f"p_direct_{task}") for task in one.probability if known.source.get(task) == "linear"}
    return {**one.probability, **{task: known.scaled(task, "direct", p) for task, p in ps.items() if p is not None}}  # type: ignore[arg-type]


def _kept_back(ctx: Context, db: Connection, piece: Sequence[TeacherTrace]) -> set[int]:
    """Return the samples on which a verdict was only proposed, because they are kept back from the teachers."""
    if _PROPOSES in clients.believed(ctx.recipe, teacher_checks.left_out(db)).teacher.names:
        return set()
    return sending.kept_back(db, [one.sample_id for one in piece if one.teacher == _PROPOSES])


def _is_known(trace: TeacherTrace, labels: Mapping[str, str]) -> bool:
    """Return whether the known labels give each of the trace's verdicts."""
    return all(labels.get(task) == verdict for task, verdict in trace.verdict.items() if verdict is not None)


def doubt(
    rule: Rule,
    trace: TeacherTrace,
    labels: Mapping[str, str],
    guard: Mapping[str, float],
    confident_at: float,
    declared: Declaration = DEFAULT,
) -> str | None:
    """Return why a trace must wait, or None. `guard` is P(positive) by task, `labels` are the known labels."""
    if rule == "nothing":
        return None
    if rule == "everything":
        return "Every trace waits for a person."
    if (wrong := against_label(trace, labels, declared)) is not None:
        return wrong
    for task in declared.tasks:
        verdict = trace.verdict.get(task)
        if verdict is None:
            continue
        p, (positive, *others) = guard.get(task), declared[task]
        against = None if p is None else 1 - p if verdict == positive else p
        other = positive if verdict != positive else others[0] if len(others) == 1 else f"not {positive}"
        if against is not None and against >= confident_at:
            return (
                f"The teacher calls the {task} {verdict}, the guard is {100 * against:.0f} % sure that it is {other}."
            )
    return "The teacher calls its own confidence low." if trace.confidence_word == "low" else None


def against_label(trace: TeacherTrace, labels: Mapping[str, str], declared: Declaration = DEFAULT) -> str | None:
    """Return that a trace's verdict is another than a known label, or None."""
    for task in declared.tasks:
        verdict = trace.verdict.get(task)
        if verdict is not None and labels.get(task) not in (None, verdict):
            return f"The teacher calls the {task} {verdict}, the known label is {labels[task]}."
    return None


def _labels(sample: samples.Sample) -> dict[str, str]:
    known = {task: getattr(sample, column) for task, column in samples.LABELS.items()}
    return {task: label for task, label in known.items() if label is not None}
