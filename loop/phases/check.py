"""Phase check: measure the teachers on rows of the seed whose labels are hidden from them, before one is believed.

One that is surely right less often than `teacher.least_right` is left out for the run, and the next in `teacher.names`
is checked. The rows are asked about through the ledger, as phase teach asks, and what a believed teacher answered is a
lesson: phase teach asks nobody about it again. It has the seed's labels hidden on these rows too.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain, zip_longest

from wizloop.backends.teachers.base import Question
from wizloop.loop.context import Context
from wizloop.loop.interrupted import NeedsFix
from wizloop.loop.measures.right_share import right_share
from wizloop.loop.phases import teach
from wizloop.loop.stored_samples import usable
from wizloop.loop.teaching import clients
from wizloop.loop.teaching.calls import TeacherClient
from wizloop.recipes.schema import Recipe
from wizloop.store import samples, sending, spending, steps, teacher_calls, teacher_checks
from wizloop.store.checked_teacher import ROWS_WANTED, Checked
from wizloop.store.samples import Sample
from wizloop.store.teacher_calls import TeacherTrace

SPARE = "policy"
"""The teacher that is measured wherever it stands in the recipe's order: it costs nothing, and knows only wording."""
Verdicts = dict[int, str | None]
"""A teacher's verdict on the task that decides, by sample."""


def run(ctx: Context) -> str:
    """Check the recipe's teachers, in its order, up to the first to believe.

    Raises NeedsFix if none is left, clients.NotReady, PriceError, PolicyError, ImportRefused, BadRecording.
    """
    first, *others = ctx.recipe.teacher.names
    with ctx.store.read() as db:
        step, capped = steps.step(db, 0, "teach"), spending.budget(db).cap_micro is not None
    taught = step is not None and step.state == "done"
    if taught or not ctx.recipe.teacher.least_right:
        return "nothing is checked: " + ("the seed was taught before" if taught else "teacher.least_right is 0")
    why = exempt(ctx.recipe, first)
    if why is not None and (SPARE not in others or exempt(ctx.recipe, SPARE) is not None):
        # No client is built, for no file of a teacher need be read.
        _keep(ctx, Checked(first, "", _today(ctx), why=why))
        return _summary(ctx)
    asked = clients.clients_of(ctx.asking, ctx.now(), capped=capped)
    try:
        _check_in_order(ctx, asked)
    finally:
        clients.close(asked)
    return _summary(ctx)


def exempt(recipe: Recipe, name: str) -> str | None:
    """Return why a teacher is believed without a check, or None."""
    if name == "traces":
        return "it hands on reasoning that exists, and asks nobody"
    if recipe.source == "demo" and name in clients.TEMPLATES:
        return "it runs here, and the demo's texts and labels are made with the same policies"
    return None


def _check_in_order(ctx: Context, asked: Sequence[TeacherClient]) -> None:
    believed = False
    for client in asked:
        if (why := exempt(ctx.recipe, client.name)) is not None:
            _keep(ctx, _unmeasured(ctx, client, why))
            believed = True
        elif not believed:
            believed = _check(ctx, client)
        elif client.name == SPARE:
            _keep(ctx, _aside(ctx, client))


def _keep(ctx: Context, checked: Checked, trace_ids: Sequence[int] = ()) -> None:
    with ctx.store.write() as db:
        teacher_checks.keep(db, checked, trace_ids)
    ctx.say(checked.sentence(), "warn" if checked.left_out else "info")


def _summary(ctx: Context) -> str:
    """Return what was found. Raises NeedsFix if every teacher is left out."""
    with ctx.store.read() as db:
        found, out = teacher_checks.every(db), teacher_checks.left_out(db)
    said = "; ".join(one.sentence() for name, one in found.items() if name in ctx.recipe.teacher.names)
    if set(ctx.recipe.teacher.names) <= set(out):
        raise NeedsFix(
            "no teacher is left to believe: name another in teacher.names, or set teacher.least_right lower, and run "
            f"`wizloop start` with that recipe. What the base scored and what was answered is kept. {said}"
        )
    return said


def _rows(ctx: Context) -> list[Sample]:
    """Return the rows that were drawn, or draw them: of each label as many, as far as there are, at most 60 in all."""
    with ctx.store.read() as db:
        kept = teacher_checks.rows(db)
        return _drawn(ctx) if kept is None else samples.get(db, kept)


def _drawn(ctx: Context) -> list[Sample]:
    """Draw labeled rows of the seed that no teacher has answered and that may be sent, from each label in turn."""
    by_label: dict[str, list[Sample]] = {}
    with ctx.store.read() as db:
        ids = samples.ids(db, "seed")
        done = sending.kept_back(db, ids) | set(teacher_calls.by_sample(db, ids))
    for sample in usable(ctx.store, "seed"):
        label = _label(ctx, sample)
        if label is not None and sample.id not in done:
            by_label.setdefault(label, []).append(sample)
    for of_label in by_label.values():
        of_label.sort(key=lambda one: hashlib.sha256(f"check:{ctx.recipe.seed}:{one.hash}".encode()).digest())
    turns: Iterable[Sample | None] = chain.from_iterable(zip_longest(*(by_label[label] for label in sorted(by_label))))
    return [one for one in turns if one is not None][:ROWS_WANTED]


def _label(ctx: Context, sample: Sample) -> str | None:
    """Return the known label of the task that decides about a sample."""
    label: str | None = getattr(sample, samples.LABELS[ctx.declared.main_task(sample)])
    return label


def _check(ctx: Context, client: TeacherClient) -> bool:
    """Ask a teacher about the rows, through the ledger; return whether it is to be believed."""
    rows = _rows(ctx)
    with ctx.store.write() as db:
        teacher_checks.keep_rows(db, [sample.id for sample in rows])
    rows = _without_answer(ctx, rows, client)
    teach.begin(ctx, [client])
    why = teach.ask(ctx, client, [sample.id for sample in rows])
    made = _own_traces(ctx, rows, client)
    main = {sample.id: ctx.declared.main_task(sample) for sample in rows}
    checked = _judged(ctx, client, rows, {one.sample_id: one.verdict.get(main[one.sample_id]) for one in made}, why)
    _keep(ctx, checked, [one.id for one in made])
    return checked.right is not None and not checked.left_out


def _without_answer(ctx: Context, rows: Sequence[Sample], client: TeacherClient) -> list[Sample]:
    """Return the rows that no other teacher, believed or not measured, has answered: no lesson is paid for twice."""
    own = {one.id for one in _own_traces(ctx, rows, client)}
    with ctx.store.read() as db:
        others = own | teacher_checks.disbelieved(db)
        answered = {one.sample_id for one in teacher_calls.traces(db, 0) if one.id not in others}
    return [sample for sample in rows if sample.id not in answered]


def _own_traces(ctx: Context, rows: Sequence[Sample], client: TeacherClient) -> list[TeacherTrace]:
    """Return the traces on these rows by this teacher's model."""
    with ctx.store.read() as db:
        made = teacher_calls.by_sample(db, [sample.id for sample in rows])
        own = {
            call.id
            for calls in made.values()
            for call in calls
            if (call.teacher, call.model) == (client.name, client.teacher.model)
        }
        return [one for one in teacher_calls.traces(db, 0) if one.call_id in own]


def _aside(ctx: Context, client: TeacherClient) -> Checked:
    """Measure the policy reasoner, which costs nothing, where another teacher's answers are the lessons."""
    verdicts, rows = Verdicts(), _rows(ctx)
    for sample in rows:
        trace = client.teacher.ask(Question(str(sample.id), sample.prompt, sample.response)).trace
        if trace is not None:
            verdicts[sample.id] = getattr(trace, ctx.declared.main_task(sample))
    return _judged(ctx, client, rows, verdicts, None)


def _judged(
    ctx: Context, client: TeacherClient, rows: Sequence[Sample], verdicts: Verdicts, stopped: str | None
) -> Checked:
    """Compare verdicts with the known labels; a row without an answer counts for nothing, whatever the reason."""
    labels = {sample.id: _label(ctx, sample) or "" for sample in rows}
    total = Counter(labels[id] for id in verdicts)
    right = Counter(labels[id] for id, verdict in verdicts.items() if verdict == labels[id])
    by_label = {label: (right[label], total[label]) for label in sorted(set(labels.values()))}
    share, bound = right_share(list(by_label.values())), ctx.recipe.teacher.least_right
    if share is None:
        answered = ", ".join(f"{label} {n}" for label, (_, n) in by_label.items())
        why = f"it answered {len(verdicts)} of {len(rows)} rows ({answered})"
        why = why if len(by_label) > 1 else "the seed has no two labels to tell apart"
        return _unmeasured(ctx, client, f"{why}; {stopped}" if stopped else why)
    found = (len(rows), share.n, share.right, share.low, share.high, by_label)
    return Checked(client.name, client.teacher.model, _today(ctx), *found, share.high < bound, bound)


def _unmeasured(ctx: Context, client: TeacherClient, why: str) -> Checked:
    return Checked(client.name, client.teacher.model, _today(ctx), why=why)


def _today(ctx: Context) -> str:
    return f"{ctx.now():%Y-%m-%d}"
