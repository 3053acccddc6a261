"""Phase teach: ask the teachers about every selected sample, through the ledger. The teachers are in backends.

What one teacher refuses, blocks or cannot answer goes to the recipe's next; what is left after the last is listed by
`wizloop teach --unanswered`. Live calls and batches are in `live` and `batching`.
"""

import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

from wizloop.backends.teachers.base import Answer, Question, Usage
from wizloop.backends.teachers.remote import RemoteTeacher
from wizloop.loop.context import Context
from wizloop.loop.teaching import bookkeeping, calls, clients, teachers
from wizloop.loop.teaching.batching import InBatches
from wizloop.loop.teaching.calls import Job, TeacherClient
from wizloop.loop.teaching.live import Live
from wizloop.recipes.teaching import Batching
from wizloop.store import batches, call_writes, samples, selections, spending, steps, teacher_calls
from wizloop.store.db import Connection
from wizloop.store.rows import pieces

GROUP = 16
"""Questions to a local teacher, or stored answers, per transaction."""
RECALLED = 64
"""Earlier answers from which a teacher learns how many tokens a prompt takes."""


def run(ctx: Context) -> str:
    """Ask the recipe's teachers. Raises clients.NotReady, PriceError, PolicyError, ImportRefused, BadRecording."""
    with ctx.store.read() as db:
        capped = spending.budget(db).cap_micro is not None
    asked = clients.clients_of(ctx.recipe, ctx.now(), capped=capped)
    try:
        return teach(ctx, asked)
    finally:
        clients.close(asked)


def teach(ctx: Context, asked: Sequence[TeacherClient]) -> str:
    """Ask the teachers, in this order, about the samples without a trace; return a summary."""
    _settle_in_flight(ctx, asked)
    for client in asked:
        _finish_received(ctx, client)
    policies = teachers.policies_hash(teachers.policies_of(ctx.recipe))
    given_up: dict[str, str] = {}
    for client in asked:
        why = _ask(ctx, client, policies)
        if why:
            given_up[client.name] = why
            ctx.say(f"stopped asking {client.name}: {why}", "warn")
    with ctx.store.read() as db:
        picked, untaught = selections.of_round(db, ctx.round), selections.untaught(db, ctx.round)
        made = teacher_calls.calls(db, ctx.round)
    names = sorted({call.teacher for call in made})
    outcomes = {name: Counter(call.result for call in made if call.teacher == name) for name in names}
    record = {"outcomes": outcomes, "untaught": len(untaught), "given_up": given_up}
    with ctx.store.write() as db:
        steps.merge_record(db, ctx.round, {"teach": record})
    left = f"; {len(untaught)} without an answer" if untaught else ""
    return f"{len(picked) - len(untaught)} of {len(picked)} taught{left}"


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


def _ask(ctx: Context, client: TeacherClient, policies: str) -> str | None:
    """Ask one teacher; return why it was given up before everything was asked, or None."""
    if why := _asked_to_wait(ctx, client):
        return why
    _recall(ctx, client)
    jobs = partial(_jobs, ctx, client, policies)
    if client.batches is not None:
        assert isinstance(client.settings, Batching)
        return InBatches(ctx, client, client.batches, client.settings, jobs, partial(_questions, ctx)).ask()
    if client.settings is not None:
        return Live(ctx, client, client.settings, partial(_next_job, ctx, client, policies)).ask(jobs())
    _ask_here(ctx, client, jobs())
    return None


def _asked_to_wait(ctx: Context, client: TeacherClient) -> str | None:
    """Return why a provider is not asked in this round: it asked for a longer wait than the recipe allows."""
    with ctx.store.read() as db:
        until = batches.latest_retry_at(db, client.name)
    if until is None or until - ctx.now() <= timedelta(seconds=ctx.recipe.teacher.patience_s):
        return None
    return f"it asked to wait until {until.astimezone():%H:%M}"


def _recall(ctx: Context, client: TeacherClient) -> None:
    """Let a teacher learn its prompts' token counts from answers before a restart, so that less money is reserved."""
    teacher = client.teacher
    if not isinstance(teacher, RemoteTeacher):
        return
    with ctx.store.read() as db:
        past = teacher_calls.parsed(db, client.name, teacher.model, RECALLED)
    for call in past:
        if call.usage_json is not None and json.loads(call.request_json).get("version") == teacher.version:
            teacher.learn(Usage(**json.loads(call.usage_json)))


def _ask_here(ctx: Context, client: TeacherClient, jobs: Sequence[Job]) -> None:
    """Ask a local teacher, in groups of one transaction each."""
    done = 0
    for group in ctx.batches(jobs, GROUP):
        ctx.progress(done, len(jobs))
        with ctx.store.write() as db:
            sent = bookkeeping.send(ctx, db, client, group)
        asked = [(sent[job.question.key].id, job.question) for job in group if job.question.key in sent]
        bookkeeping.record(ctx, client, [(call_id, client.teacher.ask(question)) for call_id, question in asked])
        done += len(group)
    ctx.progress(done, len(jobs))


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
    about = [(call.key, known[call.sample_id]) for call in sent]
    settings = ctx.recipe.teacher
    return {key: Question(key, one.prompt, one.response, calls.shown_labels(settings, one)) for key, one in about}


def _jobs(ctx: Context, client: TeacherClient, policies: str) -> list[Job]:
    """Return what to ask a teacher now: selected samples without a trace, by rank, and what the user wants again."""
    with ctx.store.read() as db:
        picked = [one.sample_id for one in selections.untaught(db, ctx.round)]
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
    usable = [known[sample_id] for sample_id in sample_ids if known[sample_id].excluded is None]
    past, settings = teacher_calls.by_sample(db, sample_ids), ctx.recipe.teacher
    jobs = [calls.next_job(db, client, one, past.get(one.id, []), policies, settings) for one in usable]
    return [job for job in jobs if job is not None]
