"""One question to one teacher, and its row in the ledger: planned, reserved, sent, received, ended. It sends nothing.

What becomes of an answer is decided here and nowhere else: this is the one layer that tries again.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property

from wizloop.backends.batches import BatchTeacher
from wizloop.backends.teacher import Answer, Question, Teacher
from wizloop.loop.context import Context
from wizloop.loop.limiter import backoff
from wizloop.loop.prices import Tariff
from wizloop.loop.rendering import tasks_of
from wizloop.recipes.teaching import Batching, Remote, Teachers
from wizloop.store import batches, errors, events, ledger, samples, teaching
from wizloop.store.db import Connection
from wizloop.store.samples import Sample

WARN_AT = 0.8
"""Share of the cap at which the person is warned."""

WAITS = ("overloaded", "rate_limited")
_ASKED_ONCE_MORE = ("invalid", "truncated")
STOPS = {
    "spend_limit": "its spend limit is reached: raise it with the provider, then start again",
    "unauthorised": "it does not take the key, or has no such model: see `wizloop doctor`",
    "account_disabled": "it has disabled the account: nothing is sent to it again before you start again",
}


@dataclass(frozen=True)
class Seat:
    """A teacher, how it is reached, and what it costs. One of `live` and `batches` is set, or neither: it runs here.

    `tariff` None: free, or of a price that is not known, and then there is no cap.
    """

    teacher: Teacher
    tariff: Tariff | None = None
    live: Remote | None = None
    batches: tuple[BatchTeacher, Batching] | None = None
    """The teacher again, as one that takes batches."""

    @property
    def name(self) -> str:
        return self.teacher.name

    @property
    def by_batch(self) -> bool:
        return self.batches is not None

    @cached_property
    def price_json(self) -> str | None:
        """The price as it is kept with every call."""
        return None if self.tariff is None else json.dumps(self.tariff.as_json(), sort_keys=True)

    def worst_micro(self, question: Question) -> int:
        """The most that a question can cost, in micro-dollars."""
        return (
            0
            if self.tariff is None
            else self.tariff.worst_micro(self.teacher.worst_usage(question), batch=self.by_batch)
        )


@dataclass(frozen=True)
class Job:
    """One question that is to be asked, for the how-manieth time, and not before when."""

    sample: Sample
    question: Question
    attempt: int = 1
    not_before: datetime | None = None


def question(
    teacher: Teacher,
    sample: Sample,
    policies: str,
    *,
    shows_labels: bool,
    attempt: int = 1,
    complaint: str | None = None,
) -> Question:
    """The question on a sample; its key is a hash of everything that decides the answer, and of the attempt.

    `complaint` is what was wrong with the answer before, and is shown to the teacher.
    """
    labels = labels_of(sample) if shows_labels else None
    decides = [teacher.name, teacher.model, teacher.version, policies, sample.hash, labels, attempt]
    if complaint is not None:
        decides.append(complaint)
    key = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()
    return Question(key, sample.prompt, sample.response, labels, complaint=complaint)


def asked_as(call: teaching.Call, sample: Sample, *, shows_labels: bool) -> Question:
    """The question of a call that was sent, as far as its answer is checked against it."""
    return Question(call.key, sample.prompt, sample.response, labels_of(sample) if shows_labels else None)


def next_job(
    db: Connection, seat: Seat, sample: Sample, policies: str, settings: Teachers, *, shows_labels: bool
) -> Job | None:
    """What to ask a teacher about a sample now; None where it had its say or nobody knows what became of a call."""
    past = teaching.calls_for(db, sample.id)
    if any(call.state in ("ambiguous", "sent") for call in past):
        return None
    own = [call for call in past if (call.teacher, call.model) == (seat.name, seat.teacher.model)]
    last = own[-1] if own else None
    attempt, complaint, not_before = 1, None, None
    if last is not None and last.state == "failed":
        if not _may_try_again(own, settings):
            return None
        noted = batches.sending(db, last.id)
        attempt, not_before = last.attempt + 1, noted.retry_at if noted else None
        complaint = _complaint(last)
    elif last is not None and last.state in ("planned", "reserved", "received"):
        attempt = last.attempt
        complaint = _complaint(own[-2]) if len(own) > 1 else None
    elif last is not None:
        return None
    asked = question(seat.teacher, sample, policies, shows_labels=shows_labels, attempt=attempt, complaint=complaint)
    return Job(sample, asked, attempt, not_before)


def labels_of(sample: Sample) -> dict[str, str | None] | None:
    known = {str(task): getattr(sample, samples.LABELS[task]) for task in tasks_of(sample)}
    return {task: label for task, label in known.items() if label is not None} or None


def _may_try_again(own: Sequence[teaching.Call], settings: Teachers) -> bool:
    outcome = own[-1].outcome
    if outcome in WAITS:
        return sum(call.outcome in WAITS for call in own) < settings.tries
    if outcome in _ASKED_ONCE_MORE:
        return settings.second_ask and sum(call.outcome in _ASKED_ONCE_MORE for call in own) < 2
    return outcome in STOPS


def _complaint(call: teaching.Call) -> str | None:
    if call.outcome not in _ASKED_ONCE_MORE:
        return None
    return "it was cut off before its end" if call.outcome == "truncated" else call.category or "it did not fit"


def plan(ctx: Context, db: Connection, seat: Seat, job: Job) -> int | None:
    """Write a call down and hold its money; its id, or None where there is too little: it is then planned only."""
    request = {"version": seat.teacher.version, "labels": job.question.labels, "sample": job.sample.hash}
    call_id = teaching.plan(
        db,
        key=job.question.key,
        sample_id=job.sample.id,
        round=ctx.round,
        teacher=seat.name,
        model=seat.teacher.model,
        attempt=job.attempt,
        request_json=json.dumps(request, sort_keys=True),
        now=ctx.now(),
    )
    if teaching.call(db, call_id).state != "planned":
        return call_id
    try:
        teaching.reserve(db, call_id, seat.worst_micro(job.question))
    except errors.OverBudget:
        return None
    if seat.price_json is not None:
        batches.note(db, call_id, price_json=seat.price_json)
    return call_id


def keep(ctx: Context, db: Connection, seat: Seat, call_id: int, answer: Answer) -> str | None:
    """Store an answer as it came and settle its cost, before anything is made of it.

    Returns why the teacher must not be asked any more, where it cost more than was thought possible.
    """
    held = teaching.call(db, call_id)
    if held.state == "received":
        return None
    if answer.model not in ("", seat.teacher.model):
        batches.note(db, call_id, answered_by=answer.model)
    if answer.billed == "unknown":
        teaching.mark_ambiguous(db, [call_id], outcome=answer.outcome, category=answer.category, raw=answer.raw or None)
        return None
    before, cost = ledger.budget(db), _cost(seat, answer, held.reserved_micro)
    teaching.mark_received(
        db,
        call_id,
        raw=answer.raw,
        usage_json=json.dumps(asdict(answer.usage), sort_keys=True),
        request_id=answer.request_id,
        stop_reason=answer.stop_reason,
        cost_micro=cost,
        now=ctx.now(),
    )
    after = replace(before, settled_micro=before.settled_micro + cost)
    _warn(ctx, db, before, after)
    if seat.tariff is None or cost <= held.reserved_micro:
        return None
    return f"call {call_id} cost ${cost / 1e6:.4f} where at most ${held.reserved_micro / 1e6:.4f} was thought possible"


def _cost(seat: Seat, answer: Answer, reserved_micro: int) -> int:
    """Micro-dollars of an answer; what was billed without a word on its tokens is charged at the worst."""
    if seat.tariff is None or answer.billed == "no":
        return 0
    usage = answer.usage
    told = usage.input_tokens + usage.output_tokens + usage.cached_tokens + usage.cache_write_tokens
    return seat.tariff.cost_micro(usage, batch=seat.by_batch) if told else reserved_micro


def _warn(ctx: Context, db: Connection, before: ledger.Budget, after: ledger.Budget) -> None:
    """Tell, in the transaction that does it, that a settlement passes the share at which a person wants to know."""
    if not after.cap_micro or not before.settled_micro < WARN_AT * after.cap_micro <= after.settled_micro:
        return
    spent = f"${after.settled_micro / 1e6:.2f} of ${after.cap_micro / 1e6:.2f}"
    message = f"{100 * WARN_AT:.0f} % of the budget is spent: {spent}"
    events.add(db, level="warn", message=message, now=ctx.now(), phase=ctx.phase, round=ctx.round)


def stop_sentence(answer: Answer) -> str:
    """Why a teacher is not asked any more, from the outcome that says so."""
    told = f" ({answer.category})" if answer.category else ""
    return f"{STOPS[answer.outcome]}{told}"


def wait_s(answer: Answer, tries: int, settings: Teachers, spread: float) -> float:
    """Seconds until a question may be sent again; `spread`, 0 to 1, is the part that is left to chance."""
    own = backoff(settings.backoff_s, tries) * (0.5 + spread)
    return max(own, (answer.retry_after_s or 0.0) + own / 4) if answer.retry_after_s else own


def end(ctx: Context, db: Connection, call_id: int, answer: Answer, retry_in_s: float | None = None) -> None:
    """End a call that was kept: with a trace, refused (or blocked), or failed."""
    if teaching.call(db, call_id).state != "received":
        return
    trace = answer.trace
    if trace is None:
        ended = "refused" if answer.outcome in ("refused", "blocked") else "failed"
        teaching.finish(db, call_id, ended, answer.outcome, answer.category)
        if retry_in_s is not None:
            batches.note(db, call_id, retry_at=ctx.now() + timedelta(seconds=retry_in_s))
        return
    teaching.finish(db, call_id, "parsed", answer.outcome)
    by_task = {"request": trace.request_steps, "completion": trace.completion_steps, "response": trace.response_steps}
    teaching.add_trace(
        db,
        call_id=call_id,
        verdict={"request": trace.request, "completion": trace.completion, "response": trace.response},
        confidence_word=trace.confidence,
        trace_json=trace.model_dump_json(),
        explanation=trace.explanation,
        steps_json=json.dumps(by_task),
        now=ctx.now(),
    )


def over_budget(ctx: Context) -> str:
    """Why no call may leave any more, with the figures."""
    with ctx.store.read() as db:
        money = ledger.budget(db)
    spent, held, cap = (micro / 1e6 for micro in (money.settled_micro, money.reserved_micro, money.cap_micro or 0))
    return f"one more call could pass the budget of ${cap:.4f}: ${spent:.4f} is spent and ${held:.4f} reserved"
