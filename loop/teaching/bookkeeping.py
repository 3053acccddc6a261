"""Groups of calls in the ledger: planned and reserved before they are sent, stored as received, then ended.

Each step takes as many statements for sixteen calls as for one, in its caller's transaction; only `record` opens its
own. Sends nothing; `calls` decides what is asked again.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import timedelta
from functools import partial
from itertools import takewhile
from typing import Any

from wizloop.backends.teachers.base import Answer
from wizloop.backends.teachers.rejections import REJECTED, TOO_LONG, alike
from wizloop.loop.context import Context
from wizloop.loop.teaching.calls import RETRIED, STOPS, Job, TeacherClient, stop_reason
from wizloop.store import batches, call_writes, events, spending, teacher_calls
from wizloop.store.call_writes import CallState, Ended, NewCall, NewTrace, Received
from wizloop.store.db import Connection
from wizloop.store.teacher_calls import Call

Answered = tuple[CallState, Answer]
"""A call and its answer."""
Kept = tuple[CallState, Answer, float | None]
"""A call whose answer is stored, the answer, and the seconds until the question may be asked again."""
ALIKE = 3
"""Samples in a row that fail alike before they are looked at together."""
_LOOKED_AT = 300
"""The newest calls among which such samples are looked for."""
WARN_AT = 0.8
"""Share of the cap at which the user is warned."""


def plan(ctx: Context, db: Connection, client: TeacherClient, jobs: Sequence[Job]) -> dict[str, int]:
    """Record calls and reserve their money; return the ids, by key, of those that may be sent.

    The others are only planned: the budget does not cover them.
    """
    states = call_writes.plan(db, [_new_call(ctx, client, job) for job in jobs], ctx.now())
    paid = _reserve(db, client, jobs, states)
    return {key: call.id for key, call in states.items() if call.id in paid or call.state != "planned"}


def send(ctx: Context, db: Connection, client: TeacherClient, jobs: Sequence[Job]) -> dict[str, CallState]:
    """Plan and reserve calls that are sent as soon as this is committed; return those, by key."""
    if not jobs:
        return {}
    worst = {job.question.key: client.worst_micro(job.question) for job in jobs}
    made, existing = call_writes.send(db, [_new_call(ctx, client, job) for job in jobs], worst, ctx.now())
    sent = {key: call for key, call in made.items() if call.state == "sent"}
    batches.note_price(db, [call.id for call in sent.values()], client.price_json)
    if existing:
        paid = _reserve(db, client, [job for job in jobs if job.question.key in existing], existing)
        again = [call.id for call in existing.values() if call.id in paid or call.state != "planned"]
        call_writes.mark_sent(db, again, ctx.now())
        sent |= {call.key: call for call in call_writes.states(db, again).values()}
    return sent


def record(ctx: Context, client: TeacherClient, answers: Sequence[tuple[int, Answer]]) -> str | None:
    """Store answers, by the ids of their calls, and end the calls; return why the teacher must not be asked again."""
    with ctx.store.write() as db:
        before = call_writes.states(db, [call_id for call_id, _ in answers])
        after, why = keep(ctx, db, client, [(before[call_id], answer) for call_id, answer in answers])
    with ctx.store.write() as db:
        faulty = end(ctx, db, [(after[call_id], answer, None) for call_id, answer in answers])
    return why or faulty


def keep(
    ctx: Context, db: Connection, client: TeacherClient, answers: Sequence[Answered]
) -> tuple[dict[int, CallState], str | None]:
    """Store answers as received, with their outcomes, and settle their costs, before they are interpreted.

    After a kill this is all that is known of them, so a provider's request to wait is stored too.

    Returns the new states by id, and why the teacher must not be asked again if a call cost more than its bound.
    """
    states = {call.id: call for call, _ in answers}
    new = [(call, answer) for call, answer in answers if call.state != "received"]
    for call, answer in new:
        if answer.model not in ("", client.teacher.model):
            batches.note_model(db, call.id, answer.model)
        if answer.adapted:
            call_writes.note_adapted(db, [call.id], answer.adapted)
        if answer.billed == "unknown":
            kept = {"outcome": answer.outcome, "category": answer.category, "raw": answer.raw or None}
            call_writes.mark_ambiguous(db, [call.id], **kept)
            states[call.id] = replace(call, state="ambiguous")
    received = [(call, answer, _cost(client, answer, call)) for call, answer in new if answer.billed != "unknown"]
    before, spent = spending.budget(db), sum(cost for _, _, cost in received)
    states |= call_writes.receive(db, states, [_received(*each) for each in received], ctx.now())
    for call, answer, _ in received:
        if answer.outcome in RETRIED and answer.retry_after_s:
            batches.note_retry(db, call.id, ctx.now() + timedelta(seconds=answer.retry_after_s))
    _warn(ctx, db, before, replace(before, settled_micro=before.settled_micro + spent))
    over = ((call, cost) for call, _, cost in received if client.tariff is not None and cost > call.reserved_micro)
    return states, next((_over_bound(call, cost) for call, cost in over), None)


def end(ctx: Context, db: Connection, kept: Sequence[Kept]) -> str | None:
    """End calls whose answers are stored: with a trace, refused (or blocked), or failed.

    Returns why their teacher must not be asked again, if the fault is its own.
    """
    states = {call.id: call for call, _, _ in kept}
    received = [
        (call.id, _storable(answer), retry_in_s) for call, answer, retry_in_s in kept if call.state == "received"
    ]
    call_writes.finish(db, states, [_ended(call_id, answer) for call_id, answer, _ in received])
    traces = [trace for call_id, answer, _ in received if (trace := _trace(call_id, answer)) is not None]
    call_writes.add_traces(db, states, traces, ctx.now())
    for call_id, answer, retry_in_s in received:
        if answer.trace is None and retry_in_s is not None:
            batches.note_retry(db, call_id, ctx.now() + timedelta(seconds=retry_in_s))
    own = next((stop_reason(answer) for _, answer, _ in received if answer.outcome in STOPS), None)
    rejected = {
        states[call_id].teacher for call_id, answer, _ in received if _is_rejected(answer.outcome, answer.category)
    }
    return next(filter(None, [own, *(blame_teacher(db, name) for name in rejected)]), None)


def blame_teacher(db: Connection, teacher: str) -> str | None:
    """Look together at a teacher's last samples that were rejected in a row, for one reason that no rule knows.

    Three such are the teacher's fault, and none of theirs: they may be asked again. That samples are too long is
    believed of a teacher that has ever answered one. Returns why the teacher must not be asked again, or None.
    """
    past = teacher_calls.newest_ended(db, teacher, _LOOKED_AT)
    row = list(takewhile(partial(_is_like, past[0]), past)) if past else []
    if len(row) < ALIKE:
        return None
    newest, why = row[0], row[0].category or ""
    if why.startswith(TOO_LONG) and teacher_calls.parsed(db, teacher, newest.model, 1):
        return None
    call_writes.blame_teacher(db, [call.id for call in row])
    said = f"{len(row)} samples in a row: {why}"
    return stop_reason(Answer("parameter", "", newest.model, category=said))


def _is_like(first: Call, call: Call) -> bool:
    return _is_rejected(call.outcome, call.category) and alike(call.category or "") == alike(first.category or "")


def _is_rejected(outcome: str | None, category: str | None) -> bool:
    """Return whether a request was not accepted, for a reason that may be the sample's or the teacher's."""
    return outcome in ("blocked", "parameter") and (category or "").startswith(REJECTED)


def _reserve(
    db: Connection, client: TeacherClient, jobs: Sequence[Job], states: Mapping[str, CallState]
) -> Collection[int]:
    """Reserve the money of planned calls, as far as the budget allows; return the paid ids."""
    asked = [(states[job.question.key], job) for job in jobs]
    worst = {call.id: client.worst_micro(job.question) for call, job in asked if call.state == "planned"}
    paid = call_writes.reserve(db, {call.id: call for call in states.values()}, worst)
    batches.note_price(db, paid, client.price_json)
    return paid


def _new_call(ctx: Context, client: TeacherClient, job: Job) -> NewCall:
    teacher, asked, sample = client.teacher, job.question, job.sample
    told: dict[str, Any] = {"version": teacher.version, "labels": asked.labels, "sample": sample.hash}
    if asked.complaint is not None:
        told["complaint"] = asked.complaint
    if (asked.prompt, asked.response) != (sample.prompt, sample.response):
        told["sent"] = [asked.prompt, asked.response]
    request = json.dumps(told, sort_keys=True)
    return NewCall(asked.key, job.sample.id, ctx.round, teacher.name, teacher.model, job.attempt, request)


def _received(call: CallState, answer: Answer, cost_micro: int) -> Received:
    usage = json.dumps(asdict(answer.usage), sort_keys=True)
    bill = (usage, answer.request_id, answer.stop_reason, cost_micro)
    return Received(call.id, answer.raw, *bill, answer.outcome, answer.category)


def _cost(client: TeacherClient, answer: Answer, call: CallState) -> int:
    """Return an answer's cost in micro-dollars; one without its tokens' counts is charged at the bound.

    A text is written in tokens: if none are counted, the bill is not whole.
    """
    if client.tariff is None or answer.billed == "no":
        return 0
    unseen = answer.usage.output_tokens == 0 and (answer.raw.strip() or answer.usage.prompt_tokens == 0)
    if unseen:
        return call.reserved_micro
    return client.tariff.cost_micro(answer.usage, batch=client.discounted)


def _over_bound(call: CallState, cost: int) -> str:
    return f"call {call.id} cost ${cost / 1e6:.4f}, more than its bound of ${call.reserved_micro / 1e6:.4f}"


def _warn(ctx: Context, db: Connection, before: spending.Budget, after: spending.Budget) -> None:
    """Warn, in the transaction that settles, when spending passes WARN_AT of the cap."""
    if not after.cap_micro or not before.settled_micro < WARN_AT * after.cap_micro <= after.settled_micro:
        return
    spent = f"${after.settled_micro / 1e6:.2f} of ${after.cap_micro / 1e6:.2f}"
    message = f"{100 * WARN_AT:.0f} % of the budget is spent: {spent}"
    events.add(db, level="warn", message=message, now=ctx.now(), phase=ctx.phase, round=ctx.round)


def _ended(call_id: int, answer: Answer) -> Ended:
    if answer.trace is not None:
        return Ended(call_id, "parsed", answer.outcome)
    state = "refused" if answer.outcome in ("refused", "blocked") else "failed"
    return Ended(call_id, state, answer.outcome, answer.category)


def _storable(answer: Answer) -> Answer:
    """Return an answer without a trace that cannot be stored, as one of a plugin may be: no other row goes with it."""
    try:
        if answer.trace is not None:
            answer.trace.model_dump_json()
    except ValueError as error:
        return replace(answer, outcome="invalid", trace=None, category=f"its trace cannot be stored: {error}")
    return answer


def _trace(call_id: int, answer: Answer) -> NewTrace | None:
    trace = answer.trace
    if trace is None:
        return None
    steps = {"request": trace.request_steps, "completion": trace.completion_steps, "response": trace.response_steps}
    return NewTrace(
        call_id,
        verdict={"request": trace.request, "completion": trace.completion, "response": trace.response},
        confidence_word=trace.confidence,
        trace_json=trace.model_dump_json(),
        explanation=trace.explanation,
        steps_json=json.dumps(steps),
    )
