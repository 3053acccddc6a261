"""What all teachers behind a network have in common: one try, one deadline, a reply read whatever it is.

It knows no provider: `claude`, `gemini` and `openai_server` say how theirs is asked and what its replies mean.
"""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

from wizloop.backends.http.exchange import Exchange
from wizloop.backends.teachers import prompt as teacher_prompt
from wizloop.backends.teachers.base import Answer, Outcome, Question, Usage
from wizloop.backends.teachers.batch_api import BatchFault
from wizloop.backends.teachers.reach import Model, Reach
from wizloop.backends.teachers.replies import Kind, Told, bad_frame, fault_of, finished, limits, row_of

MOST_RESULT_BYTES = 400_000_000
"""Of the results of a batch."""

Stop = tuple[Outcome, str | None]
"""What a stop reason means, and its category."""


class RemoteTeacher(ABC):
    """A Teacher that is asked with an SDK, which is loaded with the first question."""

    name: ClassVar[str]
    base_url: ClassVar[str]
    """Where the provider listens, if the reach names no other place."""
    limit_headers: ClassVar[tuple[str, str]]
    """The headers on requests and on tokens, with {} for "remaining" and "reset"."""

    def __init__(self, reach: Reach) -> None:
        self.reach = reach
        self.model = reach.model
        self.version = teacher_prompt.version(reach.told, reach.max_tokens, reach.effort)
        self._seen: int | None = None
        self._opening = threading.Lock()
        self._opened: tuple[Any, Any, tuple[type[Exception], ...]] | None = None

    @property
    def free(self) -> bool:
        """Whether its answers cost nothing."""
        return False

    def worst_usage(self, question: Question) -> Usage:
        """Every byte of the sample a token, and an answer of full length; less since an answer has told what the
        instruction takes.
        """
        return teacher_prompt.worst_usage(self.reach.told, question, self.room(question), self._seen)

    def learn(self, usage: Usage) -> None:
        """Take note of what an answer was billed for that this version gave, now or before a restart."""
        prompt = usage.input_tokens + usage.cached_tokens + usage.cache_write_tokens
        if prompt:
            self._seen = min(prompt, self._seen or prompt)

    def room(self, question: Question) -> int:
        """The most tokens that the answer to a question may have."""
        return question.max_tokens or self.reach.max_tokens

    def ask(self, question: Question) -> Answer:
        """One question, one try, within the deadline."""
        exchange = self.call(lambda sdk: self.send(sdk, question), self.reach.deadline_s)
        answer = self.fault(exchange) or self.answer(exchange.told() or {}, question)
        if answer is None:
            answer = bad_frame(exchange, self.model, "answer in it")
        found = limits(exchange.headers, *self.limit_headers)
        known = answer.request_id or exchange.headers.get("request-id") or exchange.headers.get("x-request-id")
        return replace(answer, limits=found, request_id=known)

    def read(self, raw: str, stop_reason: str | None, question: Question) -> Answer:
        """A kept answer once more."""
        return self.finish(raw, question, stop_reason, model=self.model, usage=Usage())

    def look(self) -> Model | Answer:
        """What the provider says of the model, for nothing; or the answer that says why it does not."""
        exchange = self.call(self.inquire, self.reach.deadline_s)
        return self.fault(exchange) or self.described(exchange.told() or {})

    def fault(self, exchange: Exchange, *, lines: bool = False) -> Answer | None:
        """What is wrong with a reply before its content is looked at; `lines`: it is not one JSON object but many."""
        found = fault_of(exchange, self.model, self.meaning, paid=not self.free, lines=lines)
        if found is None or found.retry_after_s is not None:
            return found
        return replace(found, retry_after_s=self.asks_for(exchange.told() or {}))

    def finish(self, raw: str, question: Question, reason: str | None, category: object = None, **known: Any) -> Answer:
        """The answer for a text and a stop reason; `known` are model, usage and request_id."""
        stop = self.stop(reason, category)
        answer = replace(finished(self.json_in(raw), question, stop, stop_reason=reason, **known), raw=raw)
        if answer.outcome == "ok":
            self.learn(answer.usage)
        return answer

    def json_in(self, raw: str) -> str:
        """Where in a text the answer's JSON stands: it is all of it, where the provider keeps to a schema."""
        return raw

    def asks_for(self, told: Told) -> float | None:
        """Seconds of patience that an error's body asks for."""
        return None

    def call(self, do: Callable[[Any], object], deadline_s: float, **how: Any) -> Exchange:
        """Let the SDK make a request, and give what came of it."""
        with self._opening:
            if self._opened is None:
                from wizloop.backends.http.transport import Line

                line = Line(self.reach.base_url or self.base_url, self.reach.secret)
                self._opened = (line, *self.open(line.client))
        line, sdk, faults = self._opened
        exchange: Exchange = line.call(lambda: do(sdk), deadline_s, faults=faults, **how)
        return exchange

    def of_batches(self, do: Callable[[Any], object], **how: Any) -> Exchange:
        """A request about batches, which takes longer than one answer."""
        return self.call(do, self.reach.long_s, **how)

    def told_of_batches(self, do: Callable[[Any], object]) -> dict[str, Any]:
        """The JSON of a reply about batches. Raises BatchFault."""
        exchange = self.of_batches(do)
        fault = self._fault_of_batches(exchange)
        if fault is not None:
            raise BatchFault(fault)
        return exchange.told() or {}

    def rows_of_batches(self, do: Callable[[Any], object]) -> tuple[list[dict[str, Any]], Answer | None]:
        """The rows of a batch's results that came whole, and what is wrong where they broke off."""
        exchange = self.of_batches(do, most_bytes=MOST_RESULT_BYTES)
        fault = self._fault_of_batches(exchange, lines=True)
        lines = [line for line in exchange.text.split("\n") if line.strip()] if exchange.status == 200 else []
        rows = [row for row in map(row_of, lines) if row is not None]
        if fault is None and len(rows) < len(lines):
            fault = Answer("overloaded", "", self.model, category="results that break off", billed="no")
        return rows, fault

    def _fault_of_batches(self, exchange: Exchange, *, lines: bool = False) -> Answer | None:
        """The same as `fault`; a batch or a file that is not to be seen may be there a little later."""
        fault = self.fault(exchange, lines=lines)
        return replace(fault, outcome="overloaded") if fault is not None and exchange.status == 404 else fault

    def close(self) -> None:
        """Close the connections; the next question opens them again."""
        with self._opening:
            if self._opened is not None:
                self._opened[0].client.close()
                self._opened = None

    @abstractmethod
    def request(self, question: Question) -> dict[str, Any]:
        """What is sent for a question, as it can be shown."""

    @abstractmethod
    def open(self, client: Any) -> tuple[Any, tuple[type[Exception], ...]]:
        """The SDK over this HTTP client with its retries off, and what it raises when a request breaks."""

    @abstractmethod
    def send(self, sdk: Any, question: Question) -> object:
        """Ask the question; what the SDK makes of the reply is not looked at."""

    @abstractmethod
    def answer(self, told: Told, question: Question) -> Answer | None:
        """The answer in a reply's JSON; None where it is no reply of this provider."""

    @abstractmethod
    def meaning(self, status: int, told: Told) -> Kind:
        """What an HTTP status and the JSON with it mean."""

    @abstractmethod
    def stop(self, reason: str | None, category: object = None) -> Stop:
        """What a stop reason means."""

    @abstractmethod
    def inquire(self, sdk: Any) -> object:
        """Ask what the provider says of the model."""

    @abstractmethod
    def described(self, told: Told) -> Model:
        """The model in the reply to that."""
