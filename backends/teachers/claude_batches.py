"""Anthropic's message batches: half the price, and a list that tells everything about a batch but whose it is.

A batch object carries no name of ours. What was perhaps handed in is known again by the keys in its results, so that
a running batch of the same size can neither be taken nor ruled out: NotYetTold says so, and time decides.
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any, ClassVar

from wizloop.backends.http.exchange import dig
from wizloop.backends.teachers.base import Answer, Question, Usage
from wizloop.backends.teachers.batch_api import BatchFault, BatchStatus, NotYetTold, absent
from wizloop.backends.teachers.claude import Claude
from wizloop.backends.teachers.replies import count, dig_message

CLOCKS_DIFFER = timedelta(hours=1)
PAGE = 100
_FAILED = ("errored", "canceled", "expired")
_COUNTS = ("processing", "succeeded", *_FAILED)


class ClaudeBatches(Claude):
    """A BatchTeacher."""

    cache: ClassVar[dict[str, str]] = {"type": "ephemeral", "ttl": "1h"}
    """A batch takes its time."""

    def submit(self, questions: Sequence[Question], tag: str) -> str:
        """Hand them in, the key of each as its custom id. The provider keeps no tag."""
        rows = [{"custom_id": one.key, "params": self.request(one)} for one in questions]
        told = self.told_of_batches(lambda sdk: sdk.messages.batches.with_raw_response.create(requests=rows))
        batch_id = dig(told, "id")
        if not isinstance(batch_id, str) or not batch_id:
            raise BatchFault(Answer("overloaded", "", self.model, category="a batch without an id", billed="unknown"))
        return batch_id

    def find(self, tag: str, keys: Sequence[str], *, since: datetime, known: Collection[str]) -> str | None:
        """The batch whose results speak of these keys. Raises NotYetTold while one of that size is still running."""
        running = False
        for one in self._listed(since - CLOCKS_DIFFER):
            batch_id = str(dig(one, "id"))
            if batch_id in known or sum(_counts(one).values()) != len(keys) or dig(one, "archived_at"):
                continue
            if dig(one, "processing_status") != "ended":
                running = True
            elif self._first_key(batch_id) in keys:
                return batch_id
        if running:
            raise NotYetTold("a batch of the same size is running there")
        return None

    def poll(self, batch_id: str) -> BatchStatus:
        """How far it is. The counts move only when the whole batch ends."""
        told = self.told_of_batches(lambda sdk: sdk.messages.batches.with_raw_response.retrieve(batch_id))
        counts, ends = _counts(told), dig(told, "expires_at")
        ended = dig(told, "processing_status") == "ended"
        done = ended and counts["succeeded"] == sum(counts.values())
        return BatchStatus(done, ended, counts, datetime.fromisoformat(ends) if isinstance(ends, str) else None)

    def collect(self, batch_id: str, questions: Mapping[str, Question]) -> Iterator[tuple[str, Answer]]:
        """Every row that came, then BatchFault where the results broke off, or what the counts say of the others."""
        rows, fault = self._rows(batch_id)
        missing = set(questions)
        for row in rows:
            question = questions.get(str(dig(row, "custom_id")))
            if question is not None:
                missing.discard(question.key)
                yield question.key, self._row(row, question)
        if fault is not None:
            raise BatchFault(fault)
        if missing:
            counts = self.poll(batch_id).counts
            seen = sum(dig(row, "result", "type") != "succeeded" for row in rows)
            failed = sum(counts[name] for name in _FAILED)
            yield from absent(missing, self.model, rows=len(rows), failed=failed, failed_seen=seen)

    def cancel(self, batch_id: str) -> None:
        """Ask the provider to stop; what is finished by then can still be collected."""
        self.told_of_batches(lambda sdk: sdk.messages.batches.with_raw_response.cancel(batch_id))

    def _row(self, row: dict[str, Any], question: Question) -> Answer:
        kind = dig(row, "result", "type")
        if kind == "succeeded":
            answer = self.answer(dig(row, "result", "message"), question)
            return answer or Answer("invalid", json.dumps(row), self.model, category="the row has no message in it")
        error = dig(row, "result", "error") or {}
        raw = json.dumps(row, ensure_ascii=False)[:2000]
        if kind == "errored" and dig(error, "error", "type") == "invalid_request_error":
            said = f"the request was not accepted: {dig_message(error)[:200]}"
            return Answer("blocked", raw, self.model, category=said, billed="no")
        told = f"{kind}: {dig_message(error)[:200]}" if dig_message(error) else str(kind)
        return Answer("overloaded", raw, self.model, usage=Usage(), category=told, billed="no")

    def _first_key(self, batch_id: str) -> str:
        """The key of one row of a batch that ended. Raises BatchFault: what cannot be read is not ruled out."""
        rows, fault = self._rows(batch_id)
        if not rows:
            raise BatchFault(fault or Answer("overloaded", "", self.model, category="empty results", billed="no"))
        return str(dig(rows[0], "custom_id"))

    def _rows(self, batch_id: str) -> tuple[list[dict[str, Any]], Answer | None]:
        """The rows of the results that came whole, and what is wrong where they broke off.

        They are fetched from the documented path: an address that a reply names could lead elsewhere.
        """
        path = f"/v1/messages/batches/{_safe(batch_id)}/results"
        return self.rows_of_batches(lambda sdk: sdk.get(path, cast_to=object))

    def _listed(self, since: datetime) -> Iterator[dict[str, Any]]:
        """The provider's batches that are not older, newest first."""
        after: dict[str, str] = {}
        while True:
            told = self.told_of_batches(partial(_page, after=after))
            for one in dig(told, "data") or []:
                created = dig(one, "created_at")
                if isinstance(created, str) and datetime.fromisoformat(created) < since:
                    return
                yield one
            last = dig(told, "last_id")
            if not dig(told, "has_more") or not isinstance(last, str):
                return
            after = {"after_id": last}


def _page(sdk: Any, after: Mapping[str, str]) -> object:
    found: object = sdk.messages.batches.with_raw_response.list(limit=PAGE, **after)
    return found


def _counts(told: object) -> dict[str, int]:
    return {name: count(dig(told, "request_counts", name)) for name in _COUNTS}


def _safe(batch_id: str) -> str:
    """An id that can stand in a path. Raises BatchFault for one that the provider cannot have meant."""
    if re.fullmatch(r"[\w-]{1,128}", batch_id) is None:
        raise BatchFault(Answer("overloaded", "", "", category=f"the batch's id is {batch_id[:80]!r}", billed="no"))
    return batch_id
