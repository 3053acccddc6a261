"""Writes the calls of a run as a file that can stand in for its teachers: `teacher.replay` in a recipe names it."""

import json
from pathlib import Path

from wizloop.backends.teachers.base import OUTCOMES, Outcome
from wizloop.backends.teachers.replay import Kept
from wizloop.store import steps, teacher_calls
from wizloop.store.db import Connection


def keep(db: Connection, path: Path) -> int:
    """Every call that came to an end, one JSON object a line; how many. The file must not be there yet."""
    kept = [
        _kept(call, OUTCOMES[call.outcome])
        for round in steps.rounds(db)
        for call in teacher_calls.calls(db, round.number)
        if call.state != "received" and call.outcome in OUTCOMES
    ]
    with path.open("x", encoding="utf-8") as file:
        file.writelines(f"{one.as_line()}\n" for one in kept)
    return len(kept)


def _kept(call: teacher_calls.Call, outcome: Outcome) -> Kept:
    version = json.loads(call.request_json).get("version", "1")
    return Kept(call.key, call.teacher, call.model, version, outcome, call.raw or "", call.category, call.stop_reason)
