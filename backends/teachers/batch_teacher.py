"""Batches of questions: submit, find again, wait, collect. Keeps no state: the loop remembers the batches."""

import json
from abc import abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, ClassVar, Protocol

from wizloop.backends.http.exchange import Exchange, dig
from wizloop.backends.teachers.base import Answer, Billed, Question, Teacher
from wizloop.backends.teachers.remote import RemoteTeacher
from wizloop.backends.teachers.replies import Body, of_error

MAX_RESULT_BYTES = 400_000_000
"""Limit of a batch's results."""


class BatchFault(Exception):
    """A request about a batch failed; `answer` describes the fault in the terms of a live call.

    Its `billed` is "unknown" if a submission broke off after it was sent: the provider may have the batch.
    """

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"{answer.outcome}: {answer.category or 'no details'}")
        self.answer = answer


class Undecided(Exception):
    """Not known yet: a running batch may be the one wanted, or its results are not there yet."""


class BatchTeacher(Teacher, Protocol):
    """A teacher that also takes questions in batches. Every method raises BatchFault."""

    def submit(self, questions: Sequence[Question], tag: str) -> str:
        """Submit questions, each under its key, and the batch under `tag` if the provider keeps one; return its id."""

    def find(self, tag: str, keys: Sequence[str], *, since: datetime, known: Collection[str]) -> str | None:
        """Return the id of the batch submitted as `tag` with these keys, or None if the provider lists none.

        It was made after `since` and is none of the `known` ids. Raises Undecided.
        """

    def ended(self, batch_id: str) -> bool:
        """Return whether a batch has ended, so that it can be collected."""

    def collect(self, batch_id: str, questions: Mapping[str, Question]) -> Iterator[tuple[str, Answer]]:
        """Yield key and answer of every row, in any order, for the open questions, by key.

        A row that expired or failed is overloaded and not billed. Rows before a fault are yielded first. Raises
        Undecided.
        """


class RemoteBatches(RemoteTeacher):
    """The batch requests and rows that the providers share; a BatchTeacher together with its provider's teacher."""

    row_key: ClassVar[str]
    """Field of a result's row that holds the question's key."""

    def collect(self, batch_id: str, questions: Mapping[str, Question]) -> Iterator[tuple[str, Answer]]:
        """Yield every row that arrived, then raise BatchFault if the results broke off, or yield the missing rows."""
        rows, fault = self.results(batch_id)
        missing, used = set(questions), self.adapted
        for row in rows:
            question = questions.get(str(dig(row, self.row_key)))
            if question is not None and question.key in missing:
                missing.discard(question.key)
                yield question.key, self._asked_otherwise(self.row_answer(row, question), used)
        if fault is not None:
            raise BatchFault(fault)
        if missing:
            yield from self.missing_rows(batch_id, missing, rows)

    def _asked_otherwise(self, answer: Answer, used: frozenset[str]) -> Answer:
        """Return a row's answer; one whose parameter is changed now is asked again, like any row that failed."""
        if not self.adapts(answer, used):
            return replace(answer, adapted=tuple(sorted(used)))
        return replace(answer, outcome="overloaded", category=f"asked again in another way: {answer.category}")

    def adapting(self, submit: Callable[[], str]) -> str:
        """Submit a batch, again where the model does not take a parameter. Raises BatchFault."""
        while True:
            used = self.adapted
            try:
                return submit()
            except BatchFault as fault:
                if not self.adapts(fault.answer, used):
                    raise

    def batch_request(self, do: Callable[[Any], object], **how: Any) -> Exchange:
        """Make a request about batches, which takes longer than one answer."""
        return self.call(do, self.access.batch_deadline_s, **how)

    def batch_json(self, do: Callable[[Any], object]) -> dict[str, Any]:
        """Return the JSON of a reply about batches. Raises BatchFault."""
        exchange = self.batch_request(do)
        fault = self._batch_fault(exchange)
        if fault is not None:
            raise BatchFault(fault)
        return exchange.json() or {}

    def batch_rows(self, do: Callable[[Any], object]) -> tuple[list[dict[str, Any]], Answer | None]:
        """Return the complete rows of a batch's results, and the fault if they broke off."""
        exchange = self.batch_request(do, max_bytes=MAX_RESULT_BYTES)
        fault = self._batch_fault(exchange, lines=True)
        lines = exchange.lines() if exchange.status == 200 else []
        rows = [row for row in lines if row is not None]
        if fault is None and len(rows) < len(lines):
            fault = Answer("overloaded", "", self.model, category="results that break off", billed="no")
        return rows, fault

    def overloaded(self, category: str, billed: Billed = "no") -> BatchFault:
        """Build a fault of an unusable reply about batches."""
        return BatchFault(Answer("overloaded", "", self.model, category=category, billed=billed))

    def failed_row(self, row: dict[str, Any], error: Body, category: str) -> Answer:
        """Build the answer of a row that failed and is not billed; `error` is what a live call would have got."""
        outcome, why = of_error(error, self.error) if error.get("error") else ("overloaded", category)
        raw = json.dumps(row, ensure_ascii=False)[:2000]
        # A row has no status, and waits for no limit of its own.
        why = why.replace("status 400: ", "", 1)
        outcome = "overloaded" if outcome == "rate_limited" else outcome
        return Answer(outcome, raw, self.model, category=category if outcome == "overloaded" else why, billed="no")

    def lost_rows(
        self, missing: Iterable[str], *, rows: int, failed: int, failed_rows: int
    ) -> Iterator[tuple[str, Answer]]:
        """Yield the questions that an ended batch's results leave out, if the provider counts them as failures.

        Of `rows` results, `failed_rows` are failures; the provider counts `failed`. If all missing questions are
        failures, they were not answered and are not billed; otherwise nothing is yielded. Raises Undecided if there
        are no results at all: they hold a row for every request, so they are not there yet.
        """
        keys = sorted(missing)
        if failed - failed_rows >= len(keys):
            why = "not in the results, and counted as a failure"
            yield from ((key, Answer("overloaded", "", self.model, category=why, billed="no")) for key in keys)
        elif rows == 0:
            raise Undecided(f"its results are empty, and {failed} of its rows count as failures")

    def _batch_fault(self, exchange: Exchange, *, lines: bool = False) -> Answer | None:
        """Return a reply's fault; a batch or file that is not found may appear a little later."""
        fault = self.fault(exchange, lines=lines)
        return replace(fault, outcome="overloaded") if fault is not None and exchange.status == 404 else fault

    @abstractmethod
    def results(self, batch_id: str) -> tuple[list[dict[str, Any]], Answer | None]:
        """Return the complete rows of an ended batch's results, and the fault if they broke off."""

    @abstractmethod
    def row_answer(self, row: dict[str, Any], question: Question) -> Answer:
        """Return the answer in a row."""

    @abstractmethod
    def missing_rows(
        self, batch_id: str, missing: Collection[str], rows: Sequence[dict[str, Any]]
    ) -> Iterator[tuple[str, Answer]]:
        """Yield what is known of the questions that the results leave out. Raises Undecided."""
