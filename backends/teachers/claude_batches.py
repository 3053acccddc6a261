"""Anthropic's message batches: half the price, and a list that tells everything about a batch but its owner.

A batch object does not carry our name for it. A batch that may have been submitted is recognized by the keys in its
results, so a running batch of the same size can neither be taken nor ruled out: it raises Undecided, and time decides.
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any, ClassVar

from wizloop.backends.http.exchange import dig, list_at, text_at
from wizloop.backends.teachers.base import Answer, Question
from wizloop.backends.teachers.batch_teacher import BatchFault, RemoteBatches, Undecided
from wizloop.backends.teachers.claude import Claude
from wizloop.backends.teachers.rejections import error_message
from wizloop.backends.teachers.replies import count

CLOCK_SKEW = timedelta(hours=1)
PAGE = 100
_FAILED = ("errored", "canceled", "expired")
_COUNTS = ("processing", "succeeded", *_FAILED)


class ClaudeBatches(RemoteBatches, Claude):
    """A BatchTeacher."""

    cache: ClassVar[dict[str, str]] = {"type": "ephemeral", "ttl": "1h"}
    """A batch may take longer than five minutes."""
    row_key: ClassVar[str] = "custom_id"

    def submit(self, questions: Sequence[Question], tag: str) -> str:
        """Submit questions, the key of each as its custom id. The provider keeps no tag."""
        return self.adapting(lambda: self._submit(questions))

    def _submit(self, questions: Sequence[Question]) -> str:
        rows = [{"custom_id": one.key, "params": self.request(one)} for one in questions]
        batch_id = text_at(self.batch_json(lambda sdk: _api(sdk).create(requests=rows)), "id")
        if not batch_id:
            raise self.overloaded("a batch without an id", "unknown")
        return batch_id

    def find(self, tag: str, keys: Sequence[str], *, since: datetime, known: Collection[str]) -> str | None:
        """Return the batch whose results hold these keys. Raises Undecided while one of that size is running."""
        running = False
        for batch in self._list(since - CLOCK_SKEW):
            batch_id = str(dig(batch, "id"))
            if batch_id in known or sum(_counts(batch).values()) != len(keys) or dig(batch, "archived_at"):
                continue
            if dig(batch, "processing_status") != "ended":
                running = True
            elif self._first_key(batch_id) in keys:
                return batch_id
        if running:
            raise Undecided("a batch of the same size is running there")
        return None

    def ended(self, batch_id: str) -> bool:
        """Return whether a batch has ended."""
        return bool(dig(self._get(batch_id), "processing_status") == "ended")

    def results(self, batch_id: str) -> tuple[list[dict[str, Any]], Answer | None]:
        """Return the complete rows of the results, and the fault if they broke off.

        Uses the documented path: an address named in a reply could lead elsewhere.
        """
        if re.fullmatch(r"[\w-]{1,128}", batch_id) is None:
            raise self.overloaded(f"the batch's id is {batch_id[:80]!r}")
        return self.batch_rows(lambda sdk: sdk.get(f"/v1/messages/batches/{batch_id}/results", cast_to=object))

    def row_answer(self, row: dict[str, Any], question: Question) -> Answer:
        """Return the answer in a row."""
        kind = dig(row, "result", "type")
        if kind == "succeeded":
            message = dig(row, "result", "message")
            if isinstance(message, dict) and (answer := self.answer(message, question)) is not None:
                return answer
            return Answer("invalid", json.dumps(row), self.model, category="the row has no message in it")
        found = dig(row, "result", "error")
        error = found if kind == "errored" and isinstance(found, dict) else {}
        said = error_message(error)[:300]
        return self.failed_row(row, error, f"{kind}: {said}" if said else str(kind))

    def missing_rows(
        self, batch_id: str, missing: Collection[str], rows: Sequence[dict[str, Any]]
    ) -> Iterator[tuple[str, Answer]]:
        """Yield missing questions that the batch's counts hold to be failures."""
        counts = _counts(self._get(batch_id))
        failed_rows = sum(dig(row, "result", "type") != "succeeded" for row in rows)
        failed = sum(counts[name] for name in _FAILED)
        return self.lost_rows(missing, rows=len(rows), failed=failed, failed_rows=failed_rows)

    def _get(self, batch_id: str) -> dict[str, Any]:
        return self.batch_json(lambda sdk: _api(sdk).retrieve(batch_id))

    def _first_key(self, batch_id: str) -> str:
        """Return the key of one row of an ended batch. Raises BatchFault: an unreadable batch is not ruled out."""
        rows, fault = self.results(batch_id)
        if not rows:
            raise BatchFault(fault) if fault is not None else self.overloaded("empty results")
        return str(dig(rows[0], self.row_key))

    def _list(self, since: datetime) -> Iterator[dict[str, Any]]:
        """Yield the provider's batches created since a time, newest first."""
        after: dict[str, str] = {}
        while True:
            page = self.batch_json(partial(_page, after))
            for batch in list_at(page, "data"):
                created = text_at(batch, "created_at")
                if created is not None and datetime.fromisoformat(created) < since:
                    return
                yield batch
            last = text_at(page, "last_id")
            if not dig(page, "has_more") or last is None:
                return
            after = {"after_id": last}


def _api(sdk: Any) -> Any:
    return sdk.messages.batches.with_raw_response


def _page(after: Mapping[str, str], sdk: Any) -> object:
    return _api(sdk).list(limit=PAGE, **after)


def _counts(batch: object) -> Mapping[str, int]:
    return {name: count(dig(batch, "request_counts", name)) for name in _COUNTS}
