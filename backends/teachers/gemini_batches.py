"""Google's batch jobs: half the price; questions and answers travel in files, and the job carries our tag."""

import contextlib
import io
import json
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any, ClassVar

from wizloop.backends.http.exchange import dig, list_at, text_at
from wizloop.backends.teachers.base import Answer, Billed, Question
from wizloop.backends.teachers.batch_teacher import BatchFault, RemoteBatches
from wizloop.backends.teachers.gemini import Clients, Gemini
from wizloop.backends.teachers.rejections import error_message

PAGE, MAX_PAGES = 100, 200
_OPEN = ("", "UNSPECIFIED", "PENDING", "QUEUED", "RUNNING", "UPDATING", "PAUSED", "CANCELLING")


class GeminiBatches(RemoteBatches, Gemini):
    """A BatchTeacher."""

    row_key: ClassVar[str] = "key"

    def submit(self, questions: Sequence[Question], tag: str) -> str:
        """Submit a file of rows, each with its key, as a job with the display name `tag`."""
        return self.adapting(lambda: self._submit(questions, tag))

    def _submit(self, questions: Sequence[Question], tag: str) -> str:
        file = self._upload(questions, tag)
        config = {"display_name": tag}
        job = self.batch_json(lambda sdk: sdk.plain.batches.create(model=self.model, src=file, config=config))
        return self._id(dig(job, "name"), "unknown")

    def find(self, tag: str, keys: Sequence[str], *, since: datetime, known: Collection[str]) -> str | None:
        """Return the job with the display name `tag`."""
        config: dict[str, Any] = {"page_size": PAGE}
        for _ in range(MAX_PAGES):
            page = self.batch_json(partial(_page, config))
            for job in list_at(page, "operations"):
                if dig(job, "metadata", "displayName") == tag and dig(job, "name") not in known:
                    return self._id(dig(job, "name"))
            token = text_at(page, "nextPageToken")
            if not token:
                return None
            config = {"page_size": PAGE, "page_token": token}
        return None

    def ended(self, batch_id: str) -> bool:
        """Return whether a job has ended, also if it failed, expired or was canceled."""
        return _state(self._get(batch_id)) not in _OPEN

    def results(self, batch_id: str) -> tuple[list[dict[str, Any]], Answer | None]:
        """Return the complete rows of the answers' file, and the fault if it broke off."""
        file = _responses_file(self._get(batch_id))
        return ([], None) if file is None else self.batch_rows(lambda sdk: sdk.plain.files.download(file=file))

    def row_answer(self, row: dict[str, Any], question: Question) -> Answer:
        """Return the answer in a row."""
        reply, error = dig(row, "response"), dig(row, "error") or dig(row, "status")
        if isinstance(reply, dict):
            answer = self.answer(reply, question)
            raw = json.dumps(row, ensure_ascii=False)[:2000]
            return answer or Answer("invalid", raw, self.model, category="the row has no answer in it")
        failed = {"error": error} if isinstance(error, dict) else {}
        return self.failed_row(row, failed, f"errored: {error_message(failed)[:300]}")

    def missing_rows(
        self, batch_id: str, missing: Collection[str], rows: Sequence[dict[str, Any]]
    ) -> Iterator[tuple[str, Answer]]:
        """Yield every missing question of a failed job with its state, or what a successful job's counts say of them.

        The file of a successful job may appear after its end.
        """
        job = self._get(batch_id)
        if _state(job) == "SUCCEEDED":
            failed = _int(dig(job, "metadata", "batchStats", "failedRequestCount"))
            failed_rows = sum(not isinstance(dig(row, "response"), dict) for row in rows)
            yield from self.lost_rows(missing, rows=len(rows), failed=failed, failed_rows=failed_rows)
            return
        message = error_message(job)[:300]
        category = f"{_state(job).lower()}{f': {message}' if message else ''}"
        why = {"error": dig(job, "error")} if isinstance(dig(job, "error"), dict) else {}
        for key in sorted(missing):
            yield key, replace(self.failed_row({}, why, category), raw="")

    def _get(self, batch_id: str) -> dict[str, Any]:
        name = self._id(batch_id)
        return self.batch_json(lambda sdk: sdk.plain.batches.get(name=name))

    def _upload(self, questions: Sequence[Question], tag: str) -> str:
        """Upload the questions; return the file's name. An upload is not billed and is deleted after two days."""
        rows = "".join(f"{json.dumps({'key': one.key, 'request': self.request(one)})}\n" for one in questions)
        exchange = self.batch_request(lambda sdk: _upload(sdk, rows.encode(), tag), pass_reply=True)
        fault = self.fault(exchange)
        if fault is not None:
            raise BatchFault(replace(fault, billed="no"))
        name = text_at(exchange.json(), "file", "name") or ""
        if not re.fullmatch(r"files/[\w.-]{1,80}", name):
            raise self.overloaded("an upload without a file's name")
        return name

    def _id(self, name: object, billed: Billed = "no") -> str:
        if isinstance(name, str) and re.fullmatch(r"batches/[\w.-]{1,120}", name):
            return name
        raise self.overloaded(f"the job is called {str(name)[:80]!r}", billed)


def _upload(sdk: Clients, data: bytes, tag: str) -> None:
    from google.genai import errors

    # The fault is read from the reply itself.
    with contextlib.suppress(errors.APIError, KeyError, ValueError):
        sdk.plain.files.upload(file=io.BytesIO(data), config={"display_name": tag, "mime_type": "jsonl"})


def _page(config: dict[str, Any], sdk: Clients) -> None:
    sdk.plain.batches.list(config=config)


def _state(job: object) -> str:
    return str(dig(job, "metadata", "state") or "").removeprefix("BATCH_STATE_").removeprefix("JOB_STATE_")


def _responses_file(job: object) -> str | None:
    """Return the name of the answers' file of a job."""
    names = (text_at(job, *path, "responsesFile") or "" for path in (("metadata", "output"), ("response",)))
    return next((name for name in names if re.fullmatch(r"files/[\w.-]{1,120}", name)), None)


def _int(value: object) -> int:
    """Parse a count: 64-bit integers travel as text."""
    return int(value) if isinstance(value, str | int) and re.fullmatch(r"\d{1,18}", str(value)) else 0
