"""A group of calls in the ledger: planned and reserved before they are sent, kept as they came, then ended.

Each step takes as many statements for sixteen calls as for one, in a transaction of its caller's; only `record` makes
its own. Nothing is sent here, and what is asked again is decided in `calls`.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import timedelta

from wizloop.backends.teachers.base import Answer
from wizloop.loop.context import Context
from wizloop.loop.teaching.calls import WAITS, Job, Seat
from wizloop.store import batches, events, ledger, teacher_calls, teacher_calls_bulk
from wizloop.store.db import Connection
from wizloop.store.teacher_calls_bulk import Ended, Held, NewCall, NewTrace, Received

Came = tuple[Held, Answer]
"""A call as it stands, and its answer."""
Kept = tuple[Held, Answer, float | None]
"""The same of an answer that is kept, and the seconds until the question may be asked again."""
WARN_AT = 0.8
"""Share of the cap at which the person is warned."""


def plan(ctx: Context, db: Connection, seat: Seat, jobs: Sequence[Job]) -> dict[str, int]:
    """Write calls down and hold their money; the ids, by key, of those that may leave.

    The others are planned only: there is too little money.
    """
    standing = teacher_calls_bulk.plan(db, [_new(ctx, seat, job) for job in jobs], ctx.now())
    paid = _reserve(db, seat, jobs, standing)
    return {key: one.id for key, one in standing.items() if one.id in paid or one.state != "planned"}


def send(ctx: Context, db: Connection, seat: Seat, jobs: Sequence[Job]) -> dict[str, Held]:
    """The same for calls that leave as soon as this is committed; how those stand that do, by key."""
    if not jobs:
        return {}
    worst = {job.question.key: seat.worst_micro(job.question) for job in jobs}
    made, there = teacher_calls_bulk.send(db, [_new(ctx, seat, job) for job in jobs], worst, ctx.now())
    left = {key: one for key, one in made.items() if one.state == "sent"}
    _note_price(db, seat, [one.id for one in left.values()])
    if there:
        paid = _reserve(db, seat, [job for job in jobs if job.question.key in there], there)
        again = [one.id for one in there.values() if one.id in paid or one.state != "planned"]
        teacher_calls.mark_sent(db, again, ctx.now())
        left |= {one.key: one for one in teacher_calls_bulk.held(db, again).values()}
    return left


def record(ctx: Context, seat: Seat, came: Sequence[tuple[int, Answer]]) -> str | None:
    """Keep answers, by the ids of their calls, and end the calls after it; returns what `keep` returns."""
    ids = [call_id for call_id, _ in came]
    with ctx.store.write() as db:
        standing = teacher_calls_bulk.held(db, ids)
        now_there, why = keep(ctx, db, seat, [(standing[call_id], answer) for call_id, answer in came])
    with ctx.store.write() as db:
        end(ctx, db, [(now_there[call_id], answer, None) for call_id, answer in came])
    return why


def keep(ctx: Context, db: Connection, seat: Seat, came: Sequence[Came]) -> tuple[dict[int, Held], str | None]:
    """Store answers as they came, with their outcomes, and settle their costs, before anything is made of them.

    After a kill this is all that is known of them: for how long a provider asked for patience is noted too.

    Returns how the calls stand now, by id, and why the teacher must not be asked any more, where one cost more than was
    thought possible.
    """
    standing = {call.id: call for call, _ in came}
    fresh = [(call, answer) for call, answer in came if call.state != "received"]
    for call, answer in fresh:
        if answer.model not in ("", seat.teacher.model):
            batches.note(db, call.id, answered_by=answer.model)
        if answer.billed == "unknown":
            seen = {"outcome": answer.outcome, "category": answer.category, "raw": answer.raw or None}
            teacher_calls.mark_ambiguous(db, [call.id], **seen)
            standing[call.id] = replace(call, state="ambiguous")
    received = [(call, answer, _cost(seat, answer, call)) for call, answer in fresh if answer.billed != "unknown"]
    before, spent = ledger.budget(db), sum(cost for _, _, cost in received)
    new = [_received(call.id, answer, cost) for call, answer, cost in received]
    standing |= teacher_calls_bulk.receive(db, standing, new, ctx.now())
    for call, answer, _ in received:
        if answer.outcome in WAITS and answer.retry_after_s:
            batches.note(db, call.id, retry_at=ctx.now() + timedelta(seconds=answer.retry_after_s))
    _warn(ctx, db, before, replace(before, settled_micro=before.settled_micro + spent))
    dear = ((call, cost) for call, _, cost in received if seat.tariff is not None and cost > call.reserved_micro)
    return standing, next((_too_dear(call, cost) for call, cost in dear), None)


def end(ctx: Context, db: Connection, kept: Sequence[Kept]) -> None:
    """End calls that were kept: with a trace, refused (or blocked), or failed; seconds until each is asked again."""
    standing = {call.id: call for call, _, _ in kept}
    open_ = [(call.id, answer, retry_in_s) for call, answer, retry_in_s in kept if call.state == "received"]
    teacher_calls_bulk.finish(db, standing, [_ended(call_id, answer) for call_id, answer, _ in open_])
    traces = [found for call_id, answer, _ in open_ if (found := _trace(call_id, answer)) is not None]
    teacher_calls_bulk.add_traces(db, standing, traces, ctx.now())
    for call_id, answer, retry_in_s in open_:
        if answer.trace is None and retry_in_s is not None:
            batches.note(db, call_id, retry_at=ctx.now() + timedelta(seconds=retry_in_s))


def _reserve(db: Connection, seat: Seat, jobs: Sequence[Job], standing: Mapping[str, Held]) -> set[int]:
    """Hold the money of those that are planned, as far as it suffices; their ids."""
    asked = [(standing[job.question.key], job) for job in jobs]
    worst = {one.id: seat.worst_micro(job.question) for one, job in asked if one.state == "planned"}
    paid = teacher_calls_bulk.reserve(db, {one.id: one for one in standing.values()}, worst)
    _note_price(db, seat, paid)
    return paid


def _note_price(db: Connection, seat: Seat, call_ids: Collection[int]) -> None:
    if seat.price_json is not None:
        batches.note_price(db, call_ids, seat.price_json)


def _new(ctx: Context, seat: Seat, job: Job) -> NewCall:
    request = {"version": seat.teacher.version, "labels": job.question.labels, "sample": job.sample.hash}
    told, asked = json.dumps(request, sort_keys=True), seat.teacher
    return NewCall(job.question.key, job.sample.id, ctx.round, seat.name, asked.model, job.attempt, told)


def _received(call_id: int, answer: Answer, cost_micro: int) -> Received:
    usage = json.dumps(asdict(answer.usage), sort_keys=True)
    bill = (usage, answer.request_id, answer.stop_reason, cost_micro)
    return Received(call_id, answer.raw, *bill, answer.outcome, answer.category)


def _cost(seat: Seat, answer: Answer, call: Held) -> int:
    """Micro-dollars of an answer; what was billed without a word on its tokens is charged at the worst."""
    if seat.tariff is None or answer.billed == "no":
        return 0
    usage = answer.usage
    told = usage.input_tokens + usage.output_tokens + usage.cached_tokens + usage.cache_write_tokens
    return seat.tariff.cost_micro(usage, batch=seat.reduced) if told else call.reserved_micro


def _too_dear(call: Held, cost: int) -> str:
    most = call.reserved_micro / 1e6
    return f"call {call.id} cost ${cost / 1e6:.4f} where at most ${most:.4f} was thought possible"


def _warn(ctx: Context, db: Connection, before: ledger.Budget, after: ledger.Budget) -> None:
    """Tell, in the transaction that does it, that a settlement passes the share at which a person wants to know."""
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
