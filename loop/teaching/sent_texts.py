"""What was sent to which teacher: one row for each call, with the text exactly as it left. Sends nothing."""

import json
from collections.abc import Iterator
from typing import Any

from wizloop.backends.teachers import prompt as teacher_prompt
from wizloop.backends.teachers.base import Question, Words
from wizloop.loop.context import recipe_of
from wizloop.loop.teaching import calls, clients, teachers
from wizloop.store import samples, sending, teacher_calls
from wizloop.store.db import Connection
from wizloop.store.sending import Sent


def rows(db: Connection) -> Iterator[dict[str, Any]]:
    """Yield a row for each call that left this process, in the order of planning.

    `text` is the message; the instruction, which is the same for all samples, has the name `instruction`. An installed
    teacher words its own request: its `text` holds the sample's texts as it got them.
    """
    words = teachers.words_of(recipe_of(db))
    for call in sending.sent(db):
        if call.teacher not in clients.HERE:
            yield _row(db, call, words)


def _row(db: Connection, call: Sent, words: Words) -> dict[str, Any]:
    (sample,) = samples.get(db, [call.sample_id])
    told = json.loads(call.request_json)
    prompt, response = told.get("sent") or (sample.prompt, sample.response)
    complaint = told.get("complaint") or _complaint(db, call)
    asked = Question(call.key, prompt, response, told.get("labels"), complaint)
    own_words = clients.runs_here(call.teacher)
    return {
        "time": call.at.isoformat(),
        "provider": call.teacher,
        "model": call.model,
        "sample": {"id": sample.id, "split": sample.split, "source": sample.source, "row": sample.row_ref},
        "text": "\n\n".join(filter(None, (prompt, response))) if own_words else teacher_prompt.message(asked, words),
        "masked": "sent" in told,
        "labels": told.get("labels"),
        "instruction": told.get("version"),
        "call": call.id,
        "round": call.round,
        "attempt": call.attempt,
        "outcome": call.outcome or call.state,
    }


def _complaint(db: Connection, call: Sent) -> str | None:
    """Return what a call of an older wizloop told about the answer before it, which was not stored."""
    if call.attempt == 1:
        return None
    past = teacher_calls.by_sample(db, [call.sample_id])[call.sample_id]
    own = [one for one in past if (one.teacher, one.model) == (call.teacher, call.model) and one.attempt < call.attempt]
    return calls.complaint_about(calls.last_unusable(own))
