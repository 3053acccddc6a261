"""What all remote teachers share: one try, one deadline, and a reply that is read whatever it holds.

Knows no provider: `claude`, `gemini` and `openai_server` build the requests and interpret the replies.
"""

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import SecretStr

from wizloop.backends.http.exchange import Exchange
from wizloop.backends.teachers import prompt as teacher_prompt
from wizloop.backends.teachers.base import OUR_WORDS, Answer, Outcome, Question, Usage, Words, answer_from_raw
from wizloop.backends.teachers.replies import (
    MAX_RAW,
    Body,
    Fault,
    error_inside,
    fault_of,
    limits,
    request_id,
    retry_after_s,
)
from wizloop.backends.teachers.small import answer_from_small

if TYPE_CHECKING:
    from wizloop.backends.http.transport import Session

Effort = Literal["minimal", "low", "medium", "high"]
Stop = tuple[Outcome, str | None]
"""The outcome that a stop reason means, and its category."""


@dataclass(frozen=True)
class Access:
    """How to reach a remote teacher: model, instruction, key, address and limits."""

    model: str
    instruction: str
    """The same for every question."""
    secret: SecretStr | None = field(default=None, repr=False)
    base_url: str | None = None
    """None: the provider's own."""
    max_tokens: int = 3000
    """Limit of an answer's tokens, thinking included."""
    deadline_s: float = 120.0
    """Wall-clock seconds for one question."""
    batch_deadline_s: float = 600.0
    """Wall-clock seconds for a request about a batch, which may carry megabytes."""
    effort: Effort | None = None
    """How much the model thinks before it answers; None leaves it to the provider."""
    flex: bool = False
    """Whether to use the provider's cheaper tier that waits for spare capacity, if it has one."""
    length: teacher_prompt.Length = "medium"
    """How much the instruction asks for; only for an estimate."""
    small: bool = False
    """Whether an answer is the verdicts and one short rationale."""
    words: Words = OUR_WORDS
    """The labels to choose from."""
    categories: tuple[str, ...] = ()
    """Categories that an answer names; empty asks for none."""

    @property
    def form(self) -> tuple[bool, Words, tuple[str, ...]]:
        """What decides an answer's schema: whether it is small, its labels, and its categories."""
        return self.small, self.words, self.categories


@dataclass(frozen=True)
class ModelInfo:
    """A provider's free description of a model."""

    name: str
    lifecycle: str
    """active, deprecated, retired, or unknown if the provider does not say."""
    note: str = ""
    """Anything else worth knowing, such as the day on which it ends."""


class RemoteTeacher(ABC):
    """A Teacher that uses an SDK, which is loaded with the first question."""

    name: ClassVar[str]
    base_url: ClassVar[str]
    """The provider's address, if `access` names no other."""
    limit_headers: ClassVar[tuple[str, str]]
    """Header names for requests and for tokens, with {} for "remaining" and "reset"."""
    free = False
    """Whether its answers cost nothing."""

    def __init__(self, access: Access) -> None:
        self.access = access
        self.model = access.model
        told, (small, words, categories) = (access.max_tokens, access.effort), access.form
        self.version = teacher_prompt.version(
            access.instruction, *told, small=small, words=words, categories=categories
        )
        self.adapted: frozenset[str] = frozenset()
        """What is changed in the requests because the model does not take it. No part of a call's key."""
        self._seen: int | None = None
        self._opening = threading.Lock()
        self._opened: tuple[Session, Any, tuple[type[Exception], ...]] | None = None

    def worst_usage(self, question: Question) -> Usage:
        """Return the bound of a question: a token for each byte of the sample, and an answer of full length.

        The bound falls once an answer shows how many tokens the instruction takes.
        """
        (small, words, categories), room = self.access.form, self.max_tokens(question)
        return teacher_prompt.worst_usage(
            self.access.instruction, question, room, self._seen, small=small, words=words, categories=categories
        )

    def learn(self, usage: Usage) -> None:
        """Note the billed usage of an answer by this version, now or before a restart."""
        if usage.prompt_tokens:
            self._seen = min(usage.prompt_tokens, self._seen or usage.prompt_tokens)

    def max_tokens(self, question: Question) -> int:
        """Return the limit of the answer's tokens."""
        return question.max_tokens or self.access.max_tokens

    def ask(self, question: Question) -> Answer:
        """Ask one question, within the deadline: once, or again where the model does not take a parameter.

        Such a request is not billed. What was changed stays changed for every later question.
        """
        until = time.monotonic() + self.access.deadline_s
        while True:
            used = self.adapted
            answer = self._ask_once(question, until - time.monotonic())
            if not (self.adapts(answer, used) and until - time.monotonic() > 0):
                return replace(answer, adapted=tuple(sorted(used)))

    def _ask_once(self, question: Question, deadline_s: float) -> Answer:
        exchange = self.call(lambda sdk: self.send(sdk, question), deadline_s)
        answer = self.fault(exchange)
        if answer is None:
            body = exchange.json() or {}
            # JSON of another shape: billed, for an unknown number of tokens.
            raw, category = exchange.text[:MAX_RAW], "the reply has no answer in it"
            answer = self._error_inside(exchange, body) or self.answer(body, question)
            answer = answer or Answer("invalid", raw, self.model, category=category, usage=self.usage(body))
        left = limits(exchange.headers, *self.limit_headers)
        return replace(answer, limits=left, request_id=answer.request_id or request_id(exchange.headers))

    def adapts(self, answer: Answer, used: frozenset[str]) -> bool:
        """Change the requests as an answer asks for; return whether they differ now from one sent as `used`."""
        if answer.outcome == "parameter" and answer.billed == "no":
            change = self.adaptation((answer.category or "").casefold(), used)
            self.adapted |= {change} if change is not None else set()
        return answer.outcome == "parameter" and not self.adapted <= used

    def adaptation(self, error: str, used: frozenset[str]) -> str | None:
        """Return the change of the requests that an error, in small letters, asks for; None if there is none.

        `used` are the changes that the rejected request had.
        """
        return None

    def _error_inside(self, exchange: Exchange, body: Body) -> Answer | None:
        """Return the error in a reply of status 200; it is billed only if it counts tokens."""
        found, usage = error_inside(body, self.error), self.usage(body)
        if found is None:
            return None
        wait_s = retry_after_s(exchange.headers)
        return Answer(
            *(found[0], exchange.text[:MAX_RAW], self.model),
            category=found[1],
            usage=usage,
            billed="no" if self.free or usage == Usage() else "yes",
            retry_after_s=self.retry_delay_s(body) if wait_s is None else wait_s,
        )

    def read(self, raw: str, stop_reason: str | None, question: Question) -> Answer:
        """Parse a stored answer."""
        return self.finish(raw, question, stop_reason, model=self.model, usage=Usage())

    def model_info(self) -> ModelInfo | Answer:
        """Return the provider's description of the model, for free, or the answer that says why there is none."""
        exchange = self.call(self.get_model, self.access.deadline_s)
        return self.fault(exchange) or self.describe(exchange.json() or {})

    def fault(self, exchange: Exchange, *, lines: bool = False) -> Answer | None:
        """Return what is wrong with a reply before its content is read; with `lines` it is many JSON objects."""
        found = fault_of(exchange, self.error, lines=lines)
        if found is None:
            return None
        (outcome, category), billed = found
        wait_s = retry_after_s(exchange.headers)
        return Answer(
            outcome,
            exchange.text[:MAX_RAW],
            self.model,
            request_id=request_id(exchange.headers),
            stop_reason=None if exchange.status is None else f"status {exchange.status}",
            category=category,
            billed="no" if self.free else billed,
            retry_after_s=self.retry_delay_s(exchange.json() or {}) if wait_s is None else wait_s,
        )

    def finish(self, raw: str, question: Question, reason: str | None, detail: object = None, **known: Any) -> Answer:
        """Build the answer for a text and a stop reason; `known` are model, usage and request_id."""
        outcome, category = self.stop(reason, detail)
        if outcome != "ok":
            return Answer(outcome, raw, category=category, stop_reason=reason, **known)
        build = answer_from_small if self.access.small else answer_from_raw
        answer = build(raw, question, self.access.words, stop_reason=reason, **known)
        if answer.outcome == "ok":
            self.learn(answer.usage)
        return answer

    def retry_delay_s(self, body: Body) -> float | None:
        """Return the seconds that an error's body asks to wait, or None."""
        return None

    def call(self, do: Callable[[Any], object], deadline_s: float, **how: Any) -> Exchange:
        """Let the SDK make a request, and return the exchange."""
        with self._opening:
            if self._opened is None:
                from wizloop.backends.http.transport import Session

                session = Session(self.access.base_url or self.base_url, self.access.secret)
                self._opened = (session, *self.open(session.client))
        session, sdk, faults = self._opened
        return session.call(lambda: do(sdk), deadline_s, faults=faults, **how)

    def close(self) -> None:
        """Close the connections; the next question opens them again."""
        with self._opening:
            if self._opened is not None:
                self._opened[0].client.close()
                self._opened = None

    @abstractmethod
    def request(self, question: Question) -> dict[str, Any]:
        """Return the body of the request for a question, as it can be shown."""

    @abstractmethod
    def open(self, client: Any) -> tuple[Any, tuple[type[Exception], ...]]:
        """Build the SDK over this HTTP client, without retries; return it with what it raises on a broken request."""

    @abstractmethod
    def send(self, sdk: Any, question: Question) -> object:
        """Ask the question; the SDK's parsed reply is ignored."""

    @abstractmethod
    def answer(self, body: Body, question: Question) -> Answer | None:
        """Return the answer in a reply's JSON; None if it is not a reply of this provider."""

    @abstractmethod
    def usage(self, body: Body) -> Usage:
        """Return the tokens that a reply's JSON counts; none for anything else."""

    @abstractmethod
    def error(self, status: int, body: Body) -> Fault:
        """Return the meaning of an HTTP status and the JSON with it."""

    @abstractmethod
    def stop(self, reason: str | None, detail: object = None) -> Stop:
        """Return the meaning of a stop reason."""

    @abstractmethod
    def get_model(self, sdk: Any) -> object:
        """Request the provider's description of the model."""

    @abstractmethod
    def describe(self, body: Body) -> ModelInfo:
        """Return the model in the reply to `get_model`."""
