"""Phase teach: every picked sample is put to the teachers, through the ledger. The teachers are in backends.

What one teacher refuses, blocks or cannot answer goes to the next of the recipe; what is left after the last is with a
person (`wizloop teach --unanswered`). How a call is asked live or in a batch is in `live` and `batching`.
"""

import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

from wizloop.backends.teachers.base import Answer, Question, Usage
from wizloop.backends.teachers.remote import RemoteTeacher
from wizloop.loop.context import Context
from wizloop.loop.teaching import bookkeeping, calls, teachers
from wizloop.loop.teaching import clients as made_ready
from wizloop.loop.teaching.batching import InBatches
from wizloop.loop.teaching.calls import Job, Seat
from wizloop.loop.teaching.live import Live
from wizloop.store import batches, samples, selections, steps, teacher_calls, teacher_calls_bulk
from wizloop.store.db import Connection
from wizloop.store.samples import Sample

TOGETHER = 16
"""Questions to a teacher that runs here in one transaction."""
LOOKED_AT = 64
"""Answers of before a restart that tell what a prompt takes."""


def run(ctx: Context) -> str:
    """Ask the recipe's teachers. Raises seats.NotReady, PriceError, PolicyError, ImportRefused, BadRecording."""
    with ctx.store.read() as db:
        capped = teacher_calls.budget(db).cap_micro is not None
    asked = made_ready.seats(ctx.recipe, ctx.now(), capped=capped)
    try:
        return teach(ctx, asked)
    finally:
        made_ready.close(asked)


def teach(ctx: Context, asked: Sequence[Seat]) -> str:
    """Ask the teachers, in this order, about what is not taught yet; what is left is told."""
    _settle_in_flight(ctx, asked)
    for seat in asked:
        _finish_received(ctx, seat)
    policies = teachers.policies_hash(teachers.policies_of(ctx.recipe))
    given_up: dict[str, str] = {}
    for seat in asked:
        why = _ask(ctx, seat, policies)
        if why:
            given_up[seat.name] = why
            ctx.say(f"{seat.name} is not asked any more: {why}", "warn")
    with ctx.store.read() as db:
        picked, untaught = selections.of_round(db, ctx.round), selections.untaught(db, ctx.round)
        made = teacher_calls.calls(db, ctx.round)
    outcomes = {name: Counter(_ended(one) for one in made if one.teacher == name) for name in _names(made)}
    with ctx.store.write() as db:
        told = {"outcomes": outcomes, "untaught": len(untaught), "given_up": given_up}
        steps.merge_record(db, ctx.round, {"teach": told})
    left = f"; {len(untaught)} without an answer" if untaught else ""
    return f"{len(picked) - len(untaught)} of {len(picked)} taught{left}"


def _settle_in_flight(ctx: Context, asked: Sequence[Seat]) -> None:
    """Calls that were under way when a process died: a free teacher is asked again, of a paid one nobody knows.

    A batch is neither: the provider is asked what became of it.
    """
    free = {seat.name for seat in asked if seat.teacher.free}
    with ctx.store.write() as db:
        flying = teacher_calls.in_flight(db)
        held = batches.in_a_batch(db, [call.id for call in flying])
        lost = [call for call in flying if call.id not in held]
        teacher_calls.replan(db, [call.id for call in lost if call.teacher in free])
        teacher_calls.mark_ambiguous(db, [call.id for call in lost if call.teacher not in free])


def _ask(ctx: Context, seat: Seat, policies: str) -> str | None:
    """Ask one teacher; why it was given up before everything was asked, or None."""
    if why := _patience(ctx, seat):
        return why
    _recall(ctx, seat)
    if seat.batches is not None:
        return InBatches(ctx, seat, *seat.batches, lambda: _jobs(ctx, seat, policies), partial(_asked, ctx)).ask()
    if seat.live is not None:
        pool = Live(ctx, seat, seat.live, lambda job: _job(ctx, seat, job.sample, policies))
        return pool.ask(_jobs(ctx, seat, policies))
    _ask_here(ctx, seat, policies)
    return None


def _patience(ctx: Context, seat: Seat) -> str | None:
    """Why a provider is left alone in this round: it has asked for a longer wait than the recipe allows."""
    with ctx.store.read() as db:
        until = batches.retry_at(db, seat.name)
    if until is None or until - ctx.now() <= timedelta(seconds=ctx.recipe.teacher.patience_s):
        return None
    return f"it has asked for patience until {until.astimezone():%H:%M}"


def _recall(ctx: Context, seat: Seat) -> None:
    """Let a teacher learn from its answers of before a restart what its prompts take, so that less money is held."""
    if not isinstance(seat.teacher, RemoteTeacher):
        return
    with ctx.store.read() as db:
        past = teacher_calls.answered(db, seat.name, seat.teacher.model, LOOKED_AT)
    for call in past:
        if call.usage_json is not None and json.loads(call.request_json).get("version") == seat.teacher.version:
            seat.teacher.learn(Usage(**json.loads(call.usage_json)))


def _ask_here(ctx: Context, seat: Seat, policies: str) -> None:
    """Ask a teacher that runs in this process, in pieces of one transaction each."""
    waiting = _jobs(ctx, seat, policies)
    done = 0
    for piece in ctx.batches(waiting, TOGETHER):
        ctx.progress(done, len(waiting))
        with ctx.store.write() as db:
            left = bookkeeping.send(ctx, db, seat, piece)
        sent = [(left[job.question.key].id, job) for job in piece if job.question.key in left]
        bookkeeping.record(ctx, seat, [(call_id, seat.teacher.ask(job.question)) for call_id, job in sent])
        done += len(piece)
    ctx.progress(done, len(waiting))


def _finish_received(ctx: Context, seat: Seat) -> None:
    """End the calls whose answers were stored before a crash: they end as they would have, and are not asked again."""
    with ctx.store.read() as db:
        found = [call for call in teacher_calls.received(db) if call.teacher == seat.name]
        known = {one.id: one for one in samples.get(db, [call.sample_id for call in found])}
        waits = {call.id: noted.retry_at for call in found if (noted := batches.sending(db, call.id)) is not None}
    asked, spread = _questions(ctx, found, known), random.Random(ctx.seed("spread", seat.name))
    for start in range(0, len(found), TOGETHER):
        piece = found[start : start + TOGETHER]
        answers = [calls.as_judged(seat.teacher, call, asked[call.key]) for call in piece]
        pauses = [
            _pause_s(ctx, seat, answer, call.attempt, waits.get(call.id), spread.random())
            for call, answer in zip(piece, answers, strict=True)
        ]
        with ctx.store.write() as db:
            held = teacher_calls_bulk.held(db, [call.id for call in piece])
            standing = [held[call.id] for call in piece]
            bookkeeping.end(ctx, db, list(zip(standing, answers, pauses, strict=True)))


def _pause_s(
    ctx: Context, seat: Seat, answer: Answer, tries: int, until: datetime | None, spread: float
) -> float | None:
    """Seconds until a question may be asked again, as a live call has them; `until` is the provider's word for it."""
    if seat.live is None or answer.outcome not in calls.WAITS:
        return None
    left_s = 0.0 if until is None else max((until - ctx.now()).total_seconds(), 0.0)
    return calls.wait_s(replace(answer, retry_after_s=left_s), tries, ctx.recipe.teacher, spread)


def _asked(ctx: Context, sent: Sequence[teacher_calls.Call]) -> dict[str, Question]:
    """The questions of calls that were sent, by key."""
    with ctx.store.read() as db:
        known = {one.id: one for one in samples.get(db, [call.sample_id for call in sent])}
    return _questions(ctx, sent, known)


def _questions(ctx: Context, sent: Sequence[teacher_calls.Call], known: Mapping[int, Sample]) -> dict[str, Question]:
    about = [(call, known[call.sample_id]) for call in sent]
    return {call.key: calls.asked_as(call, one, shows_labels=_shows(ctx, one)) for call, one in about}


def _shows(ctx: Context, sample: Sample) -> bool:
    return ctx.recipe.teacher.sees_label and sample.split == "seed"


def _job(ctx: Context, seat: Seat, sample: Sample, policies: str) -> Job | None:
    with ctx.store.read() as db:
        return _next(ctx, db, seat, sample, teacher_calls.calls_for(db, sample.id), policies)


def _jobs(ctx: Context, seat: Seat, policies: str) -> list[Job]:
    """What this teacher is to be asked now: picked samples without a trace, by rank, and what a person wants again."""
    with ctx.store.read() as db:
        picked = [one.sample_id for one in selections.untaught(db, ctx.round)]
        planned = [call.sample_id for call in teacher_calls.calls(db, ctx.round, ("planned",))]
        picked = list(dict.fromkeys([*picked, *planned]))
        known = {one.id: one for one in samples.get(db, picked)}
        open_ = [known[sample_id] for sample_id in picked if known[sample_id].excluded is None]
        past = teacher_calls.calls_about(db, picked)
        jobs = [_next(ctx, db, seat, one, past.get(one.id, []), policies) for one in open_]
    return [job for job in jobs if job is not None]


def _next(
    ctx: Context, db: Connection, seat: Seat, sample: Sample, past: Sequence[teacher_calls.Call], policies: str
) -> Job | None:
    shown = _shows(ctx, sample)
    return calls.next_job(db, seat, sample, past, policies, ctx.recipe.teacher, shows_labels=shown)


def _ended(call: teacher_calls.Call) -> str:
    return teacher_calls.came_to(call.state, call.outcome)


def _names(made: Sequence[teacher_calls.Call]) -> list[str]:
    return sorted({one.teacher for one in made})
