"""One question to one teacher: what is asked, what it may cost, and whether it is asked again. It sends nothing.

What becomes of an answer is decided here and nowhere else: this is the one layer that tries again. The rows of the
ledger are written in `bookkeeping`.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from wizloop.backends.teachers.base import OUTCOMES, Answer, Question, Teacher
from wizloop.backends.teachers.batch_api import BatchTeacher
from wizloop.loop.context import Context
from wizloop.loop.guard.rendering import tasks_of
from wizloop.loop.teaching.limiter import backoff
from wizloop.loop.teaching.prices import Tariff
from wizloop.recipes.teaching import Batching, Remote, Teachers
from wizloop.store import batches, ledger, samples, teacher_calls
from wizloop.store.db import Connection
from wizloop.store.samples import Sample

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
    def mode(self) -> str:
        """live, batch or flex."""
        if self.batches is not None:
            return "batch"
        return self.live.mode if isinstance(self.live, Batching) else "live"

    @property
    def reduced(self) -> bool:
        """Whether the provider's price for what may wait holds."""
        return self.mode in ("batch", "flex")

    def more_room(self) -> int | None:
        """The tokens that an answer may have after one that was cut off: twice as many, as far as the model writes."""
        settings = self.live or (self.batches[1] if self.batches else None)
        if settings is None:
            return None
        most = None if self.tariff is None else self.tariff.most_output
        return max(settings.max_tokens, min(2 * settings.max_tokens, most or 2 * settings.max_tokens))

    @cached_property
    def price_json(self) -> str | None:
        """The price as it is kept with every call."""
        return None if self.tariff is None else json.dumps(self.tariff.as_json(), sort_keys=True)

    def worst_micro(self, question: Question) -> int:
        """The most that a question can cost, in micro-dollars."""
        return (
            0
            if self.tariff is None
            else self.tariff.worst_micro(self.teacher.worst_usage(question), batch=self.reduced)
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
    max_tokens: int | None = None,
) -> Question:
    """The question on a sample; its key is a hash of everything that decides the answer, and of the attempt.

    `complaint` is what was wrong with the answer before, and is shown to the teacher; `max_tokens` is the room of this
    answer where it is not the teacher's own.
    """
    labels = labels_of(sample) if shows_labels else None
    decides = [teacher.name, teacher.model, teacher.version, policies, sample.hash, labels, attempt]
    if complaint is not None:
        decides.append(complaint)
    if max_tokens is not None:
        decides.append(max_tokens)
    key = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()
    return Question(key, sample.prompt, sample.response, labels, complaint, max_tokens)


def asked_as(call: teacher_calls.Call, sample: Sample, *, shows_labels: bool) -> Question:
    """The question of a call that was sent, as far as its answer is checked against it."""
    return Question(call.key, sample.prompt, sample.response, labels_of(sample) if shows_labels else None)


def as_judged(teacher: Teacher, call: teacher_calls.Call, asked: Question) -> Answer:
    """The answer of a call that was received, with the outcome that it had when it came.

    Only what holds a trace is read once more, and what an older wizloop kept, which noted no outcome.
    """
    outcome = OUTCOMES.get(call.outcome, "ok")
    if outcome == "ok":
        return teacher.read(call.raw or "", call.stop_reason, asked)
    return Answer(outcome, call.raw or "", call.model, stop_reason=call.stop_reason, category=call.category)


def next_job(
    db: Connection,
    seat: Seat,
    sample: Sample,
    past: Sequence[teacher_calls.Call],
    policies: str,
    settings: Teachers,
    *,
    shows_labels: bool,
) -> Job | None:
    """What to ask a teacher about a sample now; None where it had its say or nobody knows what became of a call.

    `past` are all calls about the sample so far, in order.
    """
    if any(call.state in ("ambiguous", "sent") for call in past):
        return None
    own = [call for call in past if (call.teacher, call.model) == (seat.name, seat.teacher.model)]
    last = own[-1] if own else None
    attempt, not_before = 1, None
    if last is not None and last.state == "failed":
        if not _may_try_again(own, settings):
            return None
        noted = batches.sending(db, last.id)
        attempt, not_before = last.attempt + 1, noted.retry_at if noted else None
    elif last is not None and last.state in ("planned", "reserved", "received"):
        attempt, own = last.attempt, own[:-1]
    elif last is not None:
        return None
    unusable = next((call for call in reversed(own) if call.outcome in _ASKED_ONCE_MORE), None)
    asked = question(
        seat.teacher,
        sample,
        policies,
        shows_labels=shows_labels,
        attempt=attempt,
        complaint=_complaint(unusable),
        max_tokens=seat.more_room() if unusable is not None and unusable.outcome == "truncated" else None,
    )
    return Job(sample, asked, attempt, not_before)


def labels_of(sample: Sample) -> dict[str, str | None] | None:
    known = {str(task): getattr(sample, samples.LABELS[task]) for task in tasks_of(sample)}
    return {task: label for task, label in known.items() if label is not None} or None


def _may_try_again(own: Sequence[teacher_calls.Call], settings: Teachers) -> bool:
    outcome = own[-1].outcome
    if outcome in WAITS:
        return sum(call.outcome in WAITS for call in own) < settings.tries
    if outcome in _ASKED_ONCE_MORE:
        return settings.second_ask and sum(call.outcome in _ASKED_ONCE_MORE for call in own) < 2
    return outcome in STOPS


def _complaint(unusable: teacher_calls.Call | None) -> str | None:
    if unusable is None:
        return None
    return "it was cut off before its end" if unusable.outcome == "truncated" else unusable.category or "it did not fit"


def stop_sentence(answer: Answer) -> str:
    """Why a teacher is not asked any more, from the outcome that says so."""
    told = f" ({answer.category})" if answer.category else ""
    return f"{STOPS[answer.outcome]}{told}"


def wait_s(answer: Answer, tries: int, settings: Teachers, spread: float) -> float:
    """Seconds until a question may be sent again; `spread`, 0 to 1, is the part that is left to chance."""
    own = backoff(settings.backoff_s, tries) * (0.5 + spread)
    return max(own, (answer.retry_after_s or 0.0) + own / 4) if answer.retry_after_s else own


def over_budget(ctx: Context) -> str:
    """Why no call may leave any more, with the figures."""
    with ctx.store.read() as db:
        money = ledger.budget(db)
    spent, held, cap = (micro / 1e6 for micro in (money.settled_micro, money.reserved_micro, money.cap_micro or 0))
    told = f"one more call could pass the budget of ${cap:.4f}: ${spent:.4f} is spent and ${held:.4f} reserved"
    return f"{told}; `wizloop start --budget` raises it"
