"""Phase teach: ask the teachers about every selected sample, through the ledger. The teachers are in backends.

What one teacher refuses, blocks or cannot answer goes to the recipe's next; what is left after the last is listed by
`wizloop teach --unanswered`. A teacher whose account or settings are at fault is out for this run. Live calls and
batches are in `live` and `batching`.
"""

import json
import random
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

from wizloop.backends.teachers.base import Answer, Question, Usage
from wizloop.backends.teachers.remote import RemoteTeacher
from wizloop.loop.context import Context
from wizloop.loop.guard import kept_rendering
from wizloop.loop.interrupted import NeedsFix
from wizloop.loop.teaching import bookkeeping, calls, clients, teachers
from wizloop.loop.teaching.batching import InBatches
from wizloop.loop.teaching.calls import Job, TeacherClient
from wizloop.loop.teaching.live import Live
from wizloop.loop.teaching.masking import TooSlow, mask_of
from wizloop.recipes.teaching import Batching
from wizloop.store import (
    batches,
    call_writes,
    costs,
    given_up,
    samples,
    selections,
    sending,
    spending,
    steps,
    teacher_calls,
    teacher_checks,
)
from wizloop.store.db import Connection
from wizloop.store.rows import pieces

GROUP = 16
"""Questions to a local teacher, or stored answers, per transaction."""
REASONS = 5
"""Most frequent reasons of failures in a phase's summary; `wizloop costs` has them all."""
RECALLED = 64
"""Earlier answers from which a teacher learns how many tokens a prompt takes."""


def run(ctx: Context) -> str:
    """Ask the recipe's teachers.

    Raises NeedsFix if too few were asked, clients.NotReady, PriceError, PolicyError, ImportRefused, BadRecording.
    """
    with ctx.store.read() as db:
        capped = spending.budget(db).cap_micro is not None
    if edited := kept_rendering.edited(ctx.recipe.guard, ctx.first_record()):
        ctx.say(edited, "warn")
    with ctx.store.read() as db:
        believed = clients.believed(ctx.asking, teacher_checks.left_out(db))
    asked = clients.clients_of(believed, ctx.now(), capped=capped)
    try:
        summary = teach(ctx, [*asked, *clients.for_kept_back(believed)])
    finally:
        clients.close(asked)
    with ctx.store.read() as db:
        failed = costs.failures(db, ctx.round)
        picked, left = len(selections.of_round(db, ctx.round)), len(selections.untaught(db, ctx.round))
        out = given_up.in_round(db, ctx.round)
    if out and left and picked - left < ctx.recipe.teacher.least_answers:
        why = "; ".join(f"{name}: {reason}" for name, reason in out.items())
        raise NeedsFix(
            f"{left} of {picked} samples have no teacher ({why}). Fix that and run `wizloop start`: it asks only these"
        )
    return "; ".join([summary, *(f"{one.teacher}: {one.n} {one.outcome} ({one.category})" for one in failed[:REASONS])])


def teach(ctx: Context, asked: Sequence[TeacherClient]) -> str:
    """Ask the teachers, in this order, about the samples without a trace; return a summary."""
    begin(ctx, asked)
    stopped = {client.name: why for client in asked if (why := ask(ctx, client)) is not None}
    with ctx.store.read() as db:
        picked, untaught = selections.of_round(db, ctx.round), selections.untaught(db, ctx.round)
        made = teacher_calls.calls(db, ctx.round)
    names = sorted({call.teacher for call in made})
    outcomes = {name: Counter(call.result for call in made if call.teacher == name) for name in names}
    record = {"outcomes": outcomes, "untaught": len(untaught), "given_up": stopped}
    with ctx.store.write() as db:
        steps.merge_record(db, ctx.round, {"teach": record})
    left = f"; {len(untaught)} without an answer" if untaught else ""
    return f"{len(picked) - len(untaught)} of {len(picked)} taught{left}"


def begin(ctx: Context, asked: Sequence[TeacherClient]) -> None:
    """Take up what an earlier process left: teachers that were out, calls in flight, answers that were kept."""
    with ctx.store.write() as db:
        given_up.forget(db, ctx.round)
    _settle_in_flight(ctx, asked)
    for client in asked:
        _finish_received(ctx, client)


def ask(ctx: Context, client: TeacherClient, about: Sequence[int] | None = None) -> str | None:
    """Ask one teacher about these samples, or what the rounds selected and nobody answered.

    Returns why it was stopped before everything was asked, or None; a teacher at fault is out for this run.
    """
    why = _ask(ctx, client, about)
    if why:
        ctx.say(f"stopped asking {client.name}: {why}", "warn")
        if calls.is_out(why):
            with ctx.store.write() as db:
                given_up.note(db, ctx.round, client.name, why)
    return why or None


def _settle_in_flight(ctx: Context, asked: Sequence[TeacherClient]) -> None:
    """Settle calls in flight when a process died: a free teacher is asked again, a paid call becomes ambiguous.

    Calls in an open batch stay as they are: the provider is asked what became of the batch.
    """
    free = {client.name for client in asked if client.teacher.free}
    with ctx.store.write() as db:
        sent = teacher_calls.in_state(db, "sent")
        batched = batches.in_open_batch(db, [call.id for call in sent])
        lost = [call for call in sent if call.id not in batched]
        call_writes.replan(db, [call.id for call in lost if call.teacher in free])
        call_writes.mark_ambiguous(db, [call.id for call in lost if call.teacher not in free])


def _ask(ctx: Context, client: TeacherClient, about: Sequence[int] | None) -> str | None:
    """Ask one teacher; return why it was given up before everything was asked, or None."""
    policies = teachers.policies_hash(teachers.policies_of(ctx.asking))
    with ctx.store.write() as db:
        why = given_up.before(db, client.name)
        if why is None:
            # An earlier version held each of them to be its sample's fault.
            bookkeeping.blame_teacher(db, client.name)
    if why := why or _asked_to_wait(ctx, client):
        return why
    _recall(ctx, client)
    jobs = partial(_jobs, ctx, client, policies, about)
    if client.batches is not None:
        assert isinstance(client.settings, Batching)
        return InBatches(ctx, client, client.batches, client.settings, jobs, partial(_questions, ctx)).ask()
    if client.settings is not None:
        return Live(ctx, client, client.settings, partial(_next_job, ctx, client, policies)).ask(jobs())
    return _ask_here(ctx, client, jobs())


def _asked_to_wait(ctx: Context, client: TeacherClient) -> str | None:
    """Return why a provider is not asked in this round: it asked for a longer wait than the recipe allows."""
    with ctx.store.read() as db:
        until = batches.latest_retry_at(db, client.name)
    if until is None or until - ctx.now() <= timedelta(seconds=ctx.recipe.teacher.patience_s):
        return None
    return f"it asked to wait until {until.astimezone():%H:%M}"


def _recall(ctx: Context, client: TeacherClient) -> None:
    """Let a teacher learn from answers before a restart: its prompts' tokens, and what its model does not take."""
    teacher = client.teacher
    if not isinstance(teacher, RemoteTeacher):
        return
    with ctx.store.read() as db:
        past = teacher_calls.parsed(db, client.name, teacher.model, RECALLED)
    for call in past:
        request = json.loads(call.request_json)
        if call.usage_json is not None and request.get("version") == teacher.version:
            teacher.learn(Usage(**json.loads(call.usage_json)))
    if past:
        teacher.adapted |= set(json.loads(past[0].request_json).get("adapted", ()))


def _ask_here(ctx: Context, client: TeacherClient, jobs: Sequence[Job]) -> str | None:
    """Ask a local teacher, in groups of one transaction each; return why it was given up, or None."""
    done = 0
    for group in ctx.batches(jobs, GROUP):
        ctx.progress(done, len(jobs))
        with ctx.store.write() as db:
            sent = bookkeeping.send(ctx, db, client, group)
        asked = [(sent[job.question.key].id, job.question) for job in group if job.question.key in sent]
        answers = [(call_id, client.teacher.ask(question)) for call_id, question in asked]
        if why := bookkeeping.record(ctx, client, answers):
            return why
        done += len(group)
    ctx.progress(done, len(jobs))
    return None


def _finish_received(ctx: Context, client: TeacherClient) -> None:
    """End the calls whose answers were stored before a crash, as they would have ended. They are not asked again."""
    with ctx.store.read() as db:
        received = [call for call in teacher_calls.in_state(db, "received") if call.teacher == client.name]
        retries = {call.id: batches.retry_at(db, call.id) for call in received}
    asked, rng = _questions(ctx, received), random.Random(ctx.seed("spread", client.name))
    for group in pieces(received, GROUP):
        answers = [calls.stored_answer(client.teacher, call, asked[call.key]) for call in group]
        pauses = [
            _pause_s(ctx, client, answer, call.attempt, retries[call.id], rng.random())
            for call, answer in zip(group, answers, strict=True)
        ]
        with ctx.store.write() as db:
            states = call_writes.states(db, [call.id for call in group])
            bookkeeping.end(ctx, db, list(zip([states[call.id] for call in group], answers, pauses, strict=True)))


def _pause_s(
    ctx: Context, client: TeacherClient, answer: Answer, tries: int, until: datetime | None, jitter: float
) -> float | None:
    """Return the seconds until a live question may be asked again; `until` is the time that the provider asked for."""
    if client.settings is None or client.batches is not None or answer.outcome not in calls.RETRIED:
        return None
    left_s = 0.0 if until is None else max((until - ctx.now()).total_seconds(), 0.0)
    return calls.wait_s(replace(answer, retry_after_s=left_s), tries, ctx.recipe.teacher, jitter)


def _questions(ctx: Context, sent: Sequence[teacher_calls.Call]) -> dict[str, Question]:
    """Return the questions of sent calls, by key, as far as an answer is checked against them."""
    with ctx.store.read() as db:
        known = {one.id: one for one in samples.get(db, [call.sample_id for call in sent])}
    settings, asked = ctx.recipe.teacher, dict[str, Question]()
    for call in sent:
        about = known[call.sample_id]
        request = json.loads(call.request_json)
        prompt, response = request.get("sent") or (about.prompt, about.response)
        labels = request["labels"] if "labels" in request else calls.shown_labels(settings, about, ctx.declared)
        asked[call.key] = Question(call.key, prompt, response, labels)
    return asked


def _jobs(ctx: Context, client: TeacherClient, policies: str, about: Sequence[int] | None) -> list[Job]:
    """Return what to ask a teacher now: selected samples without a trace, by rank, and what the user wants again.

    Samples of earlier rounds, whose teachers were out, follow. With `about` it is these samples and no others.
    """
    with ctx.store.read() as db:
        if about is not None:
            return _jobs_about(ctx, db, client, policies, about)
        rounds = [ctx.round, *(number for number in given_up.rounds(db) if number < ctx.round)]
        picked = [one.sample_id for number in rounds for one in selections.untaught(db, number)]
        planned = [call.sample_id for call in teacher_calls.calls(db, ctx.round, ("planned",))]
        return _jobs_about(ctx, db, client, policies, list(dict.fromkeys([*picked, *planned])))


def _next_job(ctx: Context, client: TeacherClient, policies: str, failed: Job) -> Job | None:
    """Return what to ask about the sample of a failed job next, or None."""
    with ctx.store.read() as db:
        return next(iter(_jobs_about(ctx, db, client, policies, [failed.sample.id])), None)


def _jobs_about(
    ctx: Context, db: Connection, client: TeacherClient, policies: str, sample_ids: Sequence[int]
) -> list[Job]:
    known = {one.id: one for one in samples.get(db, sample_ids)}
    kept_back = sending.kept_back(db, sample_ids)
    usable = [known[one] for one in sample_ids if known[one].excluded is None and _may_see(client, one, kept_back)]
    past, settings = teacher_calls.by_sample(db, sample_ids), ctx.recipe.teacher
    mask = None if client.name in clients.HERE else mask_of(settings)
    checked, jobs = set(teacher_checks.rows(db) or ()), []
    for one in usable:
        labels = None if one.id in checked else calls.shown_labels(settings, one, ctx.declared)
        try:
            jobs.append(calls.next_job(db, client, one, past.get(one.id, []), policies, settings, mask, labels))
        except TooSlow as slow:
            ctx.say(f"sample {one.id} is not sent to {client.name}: {slow}", "warn")
    return [job for job in jobs if job is not None]


def _may_see(client: TeacherClient, sample_id: int, kept_back: Collection[int]) -> bool:
    """Return whether a teacher may be asked about a sample: what runs in this process sends nothing."""
    if sample_id in kept_back:
        return client.name in clients.HERE
    return not client.for_kept_back
