"""Google's batch jobs: half the price; questions and answers travel in files, and the job carries our tag."""

import contextlib
import io
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

from wizloop.backends.http.exchange import dig
from wizloop.backends.teachers.base import Answer, Question
from wizloop.backends.teachers.batch_api import BatchFault, BatchStatus, absent
from wizloop.backends.teachers.gemini import Gemini
from wizloop.backends.teachers.gemini_clients import Clients
from wizloop.backends.teachers.replies import dig_message

PAGE, MOST_PAGES = 100, 200
_GOES_ON = ("", "UNSPECIFIED", "PENDING", "QUEUED", "RUNNING", "UPDATING", "PAUSED", "CANCELLING")
_COUNTS = ("requestCount", "successfulRequestCount", "failedRequestCount", "pendingRequestCount")
_BAD_REQUEST = (3, 400)


class GeminiBatches(Gemini):
    """A BatchTeacher."""

    def submit(self, questions: Sequence[Question], tag: str) -> str:
        """Hand them in as a file of rows, the key of each beside it, in a job that is displayed as `tag`."""
        file = self._upload(questions, tag)
        told = self.told_of_batches(partial(_create, model=self.model, file=file, tag=tag))
        return self._id(dig(told, "name"), "unknown")

    def find(self, tag: str, keys: Sequence[str], *, since: datetime, known: Collection[str]) -> str | None:
        """The job that is displayed as `tag`."""
        page = ""
        for _ in range(MOST_PAGES):
            told = self.told_of_batches(partial(_page, token=page))
            for one in dig(told, "operations") or []:
                if dig(one, "metadata", "displayName") == tag and dig(one, "name") not in known:
                    return self._id(dig(one, "name"), "no")
            page = str(dig(told, "nextPageToken") or "")
            if not page:
                return None
        return None

    def poll(self, batch_id: str) -> BatchStatus:
        """How far it is; a job that failed, expired or was cancelled has ended too."""
        told = self.told_of_batches(partial(_get, name=self._id(batch_id, "no")))
        counts = {name: _int(dig(told, "metadata", "batchStats", name)) for name in _COUNTS}
        state = _state(told)
        return BatchStatus(state == "SUCCEEDED", state not in _GOES_ON, counts)

    def collect(self, batch_id: str, questions: Mapping[str, Question]) -> Iterator[tuple[str, Answer]]:
        """Every row of the answers' file; then, of a job that did not succeed, every other question as overloaded, with
        the job's state, and of one that did, what its counts say of them: its file may be there later than its end.

        What came is given before a BatchFault is raised for what broke off.
        """
        told = self.told_of_batches(partial(_get, name=self._id(batch_id, "no")))
        file = _responses(told)
        rows, fault = ([], None) if file is None else self.rows_of_batches(partial(_download, file=file))
        missing = set(questions)
        for row in rows:
            question = questions.get(str(dig(row, "key")))
            if question is not None:
                missing.discard(question.key)
                yield question.key, self._row(row, question)
        if fault is not None:
            raise BatchFault(fault)
        if _state(told) != "SUCCEEDED":
            yield from ((key, self._lost(told)) for key in sorted(missing))
        elif missing:
            failed, seen = _int(dig(told, "metadata", "batchStats", "failedRequestCount")), sum(map(_failed, rows))
            yield from absent(missing, self.model, rows=len(rows), failed=failed, failed_seen=seen)

    def cancel(self, batch_id: str) -> None:
        """Ask the provider to stop; what is finished by then can still be collected."""
        self.told_of_batches(partial(_cancel, name=self._id(batch_id, "no")))

    def _upload(self, questions: Sequence[Question], tag: str) -> str:
        """The name of the file that holds the questions. Nothing is billed for it, and it is deleted in two days."""
        rows = "".join(f"{json.dumps({'key': one.key, 'request': self.request(one)})}\n" for one in questions)
        exchange = self.of_batches(partial(_upload, data=rows.encode(), tag=tag), hands_on=True)
        fault = self.fault(exchange)
        name = dig(exchange.told(), "file", "name")
        if fault is None and not (isinstance(name, str) and re.fullmatch(r"files/[\w.-]{1,80}", name)):
            fault = Answer("overloaded", exchange.text[:500], self.model, category="an upload without a file's name")
        if fault is not None:
            raise BatchFault(replace(fault, billed="no"))
        return str(name)

    def _row(self, row: dict[str, Any], question: Question) -> Answer:
        told, error = dig(row, "response"), dig(row, "error") or dig(row, "status")
        raw = json.dumps(row, ensure_ascii=False)[:2000]
        if isinstance(told, dict):
            answer = self.answer(told, question)
            return answer or Answer("invalid", raw, self.model, category="the row has no answer in it")
        said = dig_message({"error": error})[:200]
        if dig(error, "code") in _BAD_REQUEST:
            return Answer("blocked", raw, self.model, category=f"the request was not accepted: {said}", billed="no")
        return Answer("overloaded", raw, self.model, category=f"errored: {said}", billed="no")

    def _lost(self, told: dict[str, Any]) -> Answer:
        said = dig_message(told)[:200]
        category = f"{_state(told).lower()}{f': {said}' if said else ''}"
        return Answer("overloaded", "", self.model, category=category, billed="no")

    def _id(self, name: object, billed: Any) -> str:
        if isinstance(name, str) and re.fullmatch(r"batches/[\w.-]{1,120}", name):
            return name
        said = f"the job is called {str(name)[:80]!r}"
        raise BatchFault(Answer("overloaded", "", self.model, category=said, billed=billed))


def _create(sdk: Clients, *, model: str, file: str, tag: str) -> None:
    sdk.plain.batches.create(model=model, src=file, config={"display_name": tag})


def _page(sdk: Clients, *, token: str) -> None:
    sdk.plain.batches.list(config={"page_size": PAGE, "page_token": token} if token else {"page_size": PAGE})


def _get(sdk: Clients, *, name: str) -> None:
    sdk.plain.batches.get(name=name)


def _cancel(sdk: Clients, *, name: str) -> None:
    sdk.plain.batches.cancel(name=name)


def _download(sdk: Clients, *, file: str) -> None:
    sdk.plain.files.download(file=file)


def _upload(sdk: Clients, *, data: bytes, tag: str) -> None:
    from google.genai import errors

    # What went wrong is read from the reply itself.
    with contextlib.suppress(errors.APIError, KeyError, ValueError):
        sdk.plain.files.upload(file=io.BytesIO(data), config={"display_name": tag, "mime_type": "jsonl"})


def _state(told: object) -> str:
    return str(dig(told, "metadata", "state") or "").removeprefix("BATCH_STATE_").removeprefix("JOB_STATE_")


def _failed(row: object) -> bool:
    return not isinstance(dig(row, "response"), dict)


def _responses(told: object) -> str | None:
    """The name of the answers' file of a job."""
    for path in (("metadata", "output"), ("response",)):
        name = dig(told, *path, "responsesFile")
        if isinstance(name, str) and re.fullmatch(r"files/[\w.-]{1,120}", name):
            return name
    return None


def _int(told: object) -> int:
    """Counts of 64 bits travel as text."""
    return int(told) if isinstance(told, str | int) and re.fullmatch(r"\d{1,18}", str(told)) else 0
