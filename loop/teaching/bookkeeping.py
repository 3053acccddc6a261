"""A group of calls in the ledger: planned and reserved before they are sent, kept as they came, then ended.

Each step is one transaction of its caller's, with as many statements for sixteen calls as for one. Nothing is sent
here, and what is asked again is decided in `calls`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime, timedelta

from wizloop.backends.teacher import Answer
from wizloop.loop.context import Context
from wizloop.loop.teaching.calls import Job, Seat
from wizloop.store import batches, call_groups, events, ledger, teaching
from wizloop.store.call_groups import Ended, Held, NewCall, NewTrace, Received
from wizloop.store.db import Connection

Came = tuple[int, Answer]
"""A call's id, and its answer."""
Kept = tuple[int, Answer, float | None]
"""The same, and the seconds until the question may be asked again."""
WARN_AT = 0.8
"""Share of the cap at which the person is warned."""


def plan(ctx: Context, db: Connection, seat: Seat, jobs: Sequence[Job]) -> dict[str, int]:
    """Write calls down and hold their money; the ids, by key, of those that may leave.

    The others are planned only: there is too little money.
    """
    return _plan(ctx, db, seat, jobs, None)[0]


def send(ctx: Context, db: Connection, seat: Seat, jobs: Sequence[Job]) -> dict[str, int]:
    """The same for calls that leave as soon as this is committed: they are noted as sent."""
    if not jobs:
        return {}
    left, reserved_before = _plan(ctx, db, seat, jobs, ctx.now())
    teaching.mark_sent(db, reserved_before, ctx.now())
    return left


def keep(ctx: Context, db: Connection, seat: Seat, came: Sequence[Came]) -> str | None:
    """Store answers as they came and settle their costs, before anything is made of them.

    Returns why the teacher must not be asked any more, where one cost more than was thought possible.
    """
    return _keep(ctx, db, seat, came, call_groups.held(db, [call_id for call_id, _ in came]))


def end(ctx: Context, db: Connection, kept: Sequence[Kept]) -> None:
    """End calls that were kept: with a trace, refused (or blocked), or failed; seconds until each is asked again."""
    _end(ctx, db, kept, call_groups.held(db, [call_id for call_id, _, _ in kept]))


def keep_and_end(ctx: Context, db: Connection, seat: Seat, came: Sequence[Came], kept: Sequence[Kept]) -> str | None:
    """Keep answers, and end other calls that were kept before; returns what `keep` returns."""
    standing = call_groups.held(db, [*(call_id for call_id, _ in came), *(call_id for call_id, _, _ in kept)])
    why = _keep(ctx, db, seat, came, standing)
    _end(ctx, db, kept, standing)
    return why


def _plan(
    ctx: Context, db: Connection, seat: Seat, jobs: Sequence[Job], sent_at: datetime | None
) -> tuple[dict[str, int], list[int]]:
    """The ids, by key, of the calls that may leave, and those of them that had left their plan before."""
    standing = call_groups.plan(db, [_new(ctx, seat, job) for job in jobs], ctx.now())
    fresh = {standing[job.question.key].id: job for job in jobs if standing[job.question.key].state == "planned"}
    by_id = {one.id: one for one in standing.values()}
    worst = {call_id: seat.worst_micro(job.question) for call_id, job in fresh.items()}
    paid = call_groups.reserve(db, by_id, worst, sent_at=sent_at)
    if seat.price_json is not None:
        batches.note_price(db, paid, seat.price_json)
    left = {key: one.id for key, one in standing.items() if one.id in paid or one.id not in fresh}
    return left, [call_id for call_id in left.values() if call_id not in fresh]


def _keep(ctx: Context, db: Connection, seat: Seat, came: Sequence[Came], standing: Mapping[int, Held]) -> str | None:
    fresh = [(standing[call_id], answer) for call_id, answer in came if standing[call_id].state != "received"]
    received = [(call, answer, _cost(seat, answer, call)) for call, answer in fresh if answer.billed != "unknown"]
    for call, answer in fresh:
        if answer.model not in ("", seat.teacher.model):
            batches.note(db, call.id, answered_by=answer.model)
        if answer.billed == "unknown":
            seen = {"outcome": answer.outcome, "category": answer.category, "raw": answer.raw or None}
            teaching.mark_ambiguous(db, [call.id], **seen)
    before, spent = ledger.budget(db), sum(cost for _, _, cost in received)
    call_groups.receive(db, standing, [_received(call.id, answer, cost) for call, answer, cost in received], ctx.now())
    _warn(ctx, db, before, replace(before, settled_micro=before.settled_micro + spent))
    dear = ((call, cost) for call, _, cost in received if seat.tariff is not None and cost > call.reserved_micro)
    return next((_too_dear(call, cost) for call, cost in dear), None)


def _end(ctx: Context, db: Connection, kept: Sequence[Kept], standing: Mapping[int, Held]) -> None:
    open_ = [one for one in kept if standing[one[0]].state == "received"]
    call_groups.finish(db, standing, [_ended(call_id, answer) for call_id, answer, _ in open_])
    traces = [found for call_id, answer, _ in open_ if (found := _trace(call_id, answer)) is not None]
    call_groups.add_traces(db, standing, traces, ctx.now())
    for call_id, answer, retry_in_s in open_:
        if answer.trace is None and retry_in_s is not None:
            batches.note(db, call_id, retry_at=ctx.now() + timedelta(seconds=retry_in_s))


def _new(ctx: Context, seat: Seat, job: Job) -> NewCall:
    request = {"version": seat.teacher.version, "labels": job.question.labels, "sample": job.sample.hash}
    told, asked = json.dumps(request, sort_keys=True), seat.teacher
    return NewCall(job.question.key, job.sample.id, ctx.round, seat.name, asked.model, job.attempt, told)


def _received(call_id: int, answer: Answer, cost_micro: int) -> Received:
    usage = json.dumps(asdict(answer.usage), sort_keys=True)
    return Received(call_id, answer.raw, usage, answer.request_id, answer.stop_reason, cost_micro)


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
