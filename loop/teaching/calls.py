"""One question to one teacher: its key, its bound, and whether it is asked again. Sends nothing.

This is the only layer that retries. Ledger rows are written in `bookkeeping`.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from wizloop.backends.teachers.base import OUTCOMES, Answer, Question, Teacher
from wizloop.backends.teachers.batch_teacher import BatchTeacher
from wizloop.loop.context import Context
from wizloop.loop.teaching.limiter import backoff
from wizloop.loop.teaching.masking import Mask, masked
from wizloop.loop.teaching.prices import Tariff
from wizloop.loop.words import Declaration
from wizloop.recipes.teaching import Batching, Remote, Teachers
from wizloop.store import batches, samples, spending
from wizloop.store.db import Connection
from wizloop.store.samples import Sample
from wizloop.store.teacher_calls import Call

Labels = dict[str, str | None]
RETRIED = ("overloaded", "rate_limited")
_SECOND_ASK = ("invalid", "truncated")
HERE = ("policy", "recorded", "traces")
"""Teachers that are rules or files here: they answer the same each time."""
STOPS = {
    "spend_limit": "its spend limit is reached: raise it with the provider, then start again",
    "unauthorised": "it rejects the key, or has no such model: see `wizloop doctor`",
    "account_disabled": "it has disabled the account: nothing is sent to it until you start again",
    "account": "its account cannot be used: fix it with the provider, then start again",
    "parameter": "it does not take the request: see its model and settings in the recipe, then start again",
}
"""Outcomes that are the teacher's fault and no sample's: it is out for this run, and its samples stay unasked."""


@dataclass(frozen=True)
class TeacherClient:
    """A teacher with its price and settings.

    Without a tariff it is free, or its price is unknown and there is no cap.
    """

    teacher: Teacher
    tariff: Tariff | None = None
    settings: Remote | None = None
    """The recipe's section on a remote teacher; None for a local one."""
    batches: BatchTeacher | None = None
    """The same teacher, if it is to be asked in batches."""
    for_kept_back: bool = False
    """Whether it is asked only about samples that are kept back from the other teachers."""

    @property
    def name(self) -> str:
        """Return the teacher's name."""
        return self.teacher.name

    @property
    def mode(self) -> str:
        """Return live, batch or flex."""
        if self.batches is not None:
            return "batch"
        return self.settings.mode if isinstance(self.settings, Batching) else "live"

    @property
    def discounted(self) -> bool:
        """Return whether the provider's price for work that can wait applies."""
        return self.mode in ("batch", "flex")

    @cached_property
    def price_json(self) -> str | None:
        """Return the price as stored with every call."""
        return None if self.tariff is None else json.dumps(self.tariff.as_json(), sort_keys=True)

    def raised_max_tokens(self) -> int | None:
        """Return the token limit of an answer after one that was cut off: doubled, up to the model's limit."""
        if self.settings is None:
            return None
        doubled = 2 * self.settings.max_tokens
        most = None if self.tariff is None else self.tariff.most_output
        return max(self.settings.max_tokens, min(doubled, most or doubled))

    def worst_micro(self, question: Question) -> int:
        """Return the most that a question can cost, in micro-dollars."""
        if self.tariff is None:
            return 0
        return self.tariff.worst_micro(self.teacher.worst_usage(question), batch=self.discounted)


@dataclass(frozen=True)
class Job:
    """A question to send, its attempt number, and the earliest time to send it."""

    sample: Sample
    question: Question
    attempt: int = 1
    not_before: datetime | None = None


def question(
    teacher: Teacher,
    sample: Sample,
    policies: str,
    labels: Labels | None,
    *,
    attempt: int = 1,
    complaint: str | None = None,
    max_tokens: int | None = None,
    mask: Mask | None = None,
) -> Question:
    """Build the question on a sample; its key hashes everything that decides the answer, and the attempt number.

    `policies` is the policies' hash; `complaint` tells the teacher what was wrong with the previous answer;
    `max_tokens` is this answer's limit, if it differs from the teacher's own; `mask` is what the teacher must not see.
    Raises TooSlow.
    """
    sent = masked(mask, sample.prompt, sample.response)
    decides: list[Any] = [teacher.name, teacher.model, teacher.version, policies, sample.hash, labels, attempt]
    decides += [value for value in (complaint, max_tokens) if value is not None]
    # Only where something is masked: the keys of all other calls stay what they were.
    decides += [{"sent": sent}] if sent != (sample.prompt, sample.response) else []
    key = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()
    return Question(key, *sent, labels, complaint, max_tokens)


def shown_labels(settings: Teachers, sample: Sample, declared: Declaration) -> Labels | None:
    """Return the known labels that a teacher is shown: the seed's or all, if the recipe allows it."""
    if not settings.sees_label or (settings.sees_label != "all" and sample.split != "seed"):
        return None
    known = {str(task): getattr(sample, samples.LABELS[task]) for task in declared.tasks_of(sample)}
    return {task: label for task, label in known.items() if label is not None} or None


def stored_answer(teacher: Teacher, call: Call, asked: Question) -> Answer:
    """Return the answer of a received call, with the outcome it arrived with.

    Only an answer with a trace is parsed again, or one stored by an older wizloop, which noted no outcome.
    """
    outcome = OUTCOMES.get(call.outcome, "ok")
    if outcome == "ok":
        return teacher.read(call.raw or "", call.stop_reason, asked)
    return Answer(outcome, call.raw or "", call.model, stop_reason=call.stop_reason, category=call.category)


def next_job(
    db: Connection,
    client: TeacherClient,
    sample: Sample,
    past: Sequence[Call],
    policies: str,
    settings: Teachers,
    mask: Mask | None = None,
    labels: Labels | None = None,
) -> Job | None:
    """Return what to ask a teacher about a sample now; None if it has answered or a call is ambiguous.

    `past` are all calls about the sample so far, in order; `labels` is what the teacher is shown. Raises TooSlow.
    """
    if any(call.state in ("ambiguous", "sent") for call in past):
        return None
    own = [call for call in past if (call.teacher, call.model) == (client.name, client.teacher.model)]
    last = own[-1] if own else None
    attempt, not_before = 1, None
    if last is not None and last.state == "failed":
        if not _may_retry(client, own, settings):
            return None
        attempt, not_before = last.attempt + 1, batches.retry_at(db, last.id)
    elif last is not None and last.state in ("planned", "reserved", "received"):
        attempt, own = last.attempt, own[:-1]
    elif last is not None:
        return None
    unusable = last_unusable(own)
    asked = question(
        client.teacher,
        sample,
        policies,
        labels,
        attempt=attempt,
        complaint=complaint_about(unusable),
        max_tokens=client.raised_max_tokens() if unusable is not None and unusable.outcome == "truncated" else None,
        mask=mask,
    )
    return Job(sample, asked, attempt, not_before)


def _may_retry(client: TeacherClient, own: Sequence[Call], settings: Teachers) -> bool:
    outcome = own[-1].outcome
    if outcome in RETRIED:
        return sum(call.outcome in RETRIED for call in own) < settings.tries
    if outcome in _SECOND_ASK:
        # A rule would answer the same again.
        may = settings.second_ask and client.name not in HERE
        return may and sum(call.outcome in _SECOND_ASK for call in own) < 2
    return outcome in STOPS


def last_unusable(own: Sequence[Call]) -> Call | None:
    """Return the last of a teacher's calls about a sample whose answer could not be used, or None."""
    return next((call for call in reversed(own) if call.outcome in _SECOND_ASK), None)


def complaint_about(unusable: Call | None) -> str | None:
    """Return what a teacher is told about its last answer, or None."""
    if unusable is None:
        return None
    return "it was cut off before its end" if unusable.outcome == "truncated" else unusable.category or "it did not fit"


def stop_reason(answer: Answer) -> str:
    """Return why a teacher is no longer asked, from an outcome in STOPS."""
    detail = f" ({answer.category})" if answer.category else ""
    return f"{STOPS[answer.outcome]}{detail}"


def is_out(why: str) -> bool:
    """Return whether a teacher was given up for a fault of its own, and not for money or a long wait."""
    return why.startswith(tuple(STOPS.values()))


def wait_s(answer: Answer, tries: int, settings: Teachers, jitter: float) -> float:
    """Return the seconds until a question may be sent again; `jitter` is a random number from 0 to 1."""
    own = backoff(settings.backoff_s, tries) * (0.5 + jitter)
    return max(own, answer.retry_after_s + own / 4) if answer.retry_after_s else own


def over_budget(ctx: Context) -> str:
    """Return why no further call may be sent, with the figures."""
    with ctx.store.read() as db:
        money = spending.budget(db)
    spent, reserved, cap = (micro / 1e6 for micro in (money.settled_micro, money.reserved_micro, money.cap_micro or 0))
    figures = f"${spent:.4f} is spent and ${reserved:.4f} reserved"
    return f"one more call could pass the budget of ${cap:.4f}: {figures}; `wizloop start --budget` raises it"
