"""A trace as a file for the user's editor, and the file as an edit. Invisible characters are escaped in the file."""

import json
import os
import shlex
import subprocess
import tempfile
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wizloop.console.words import LABELS
from wizloop.store.teacher_calls import TeacherTrace

_FIELDS = ("verdict", "explanation", "trace", "steps")


class BadEdit(ValueError):
    """The file is not a valid edit of this trace; the message names the field and what it must be."""


def as_file(trace: TeacherTrace) -> str:
    """Return the trace as JSON, with control, invisible and bidirectional characters escaped."""
    text = json.dumps(_values(trace), ensure_ascii=False, indent=2)
    return "".join(map(_escaped, text)) + "\n"


def edit_of(trace: TeacherTrace, text: str, words: Mapping[str, Sequence[str]] = LABELS) -> str | None:
    """Return the changes of an edited file as JSON for a review, or None without changes. Raises BadEdit."""
    try:
        given = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadEdit(f"the file is not valid JSON: {error}") from error
    if not isinstance(given, dict) or sorted(given) != sorted(_FIELDS):
        raise BadEdit(f"the file must keep exactly the fields {', '.join(_FIELDS)}")
    before = _values(trace)
    _check(given, before, words)
    changed = {field: value for field, value in given.items() if value != before[field]}
    return json.dumps(_stored(changed)) if changed else None


def edited_in(text: str) -> str:
    """Let the user edit a text, and return the result. Raises OSError if there is no editor or it fails."""
    named = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    try:
        editor = shlex.split(named)
    except ValueError as error:
        raise OSError(f"{named!r} is not a command: {error}") from error
    with tempfile.TemporaryDirectory(prefix="wizloop-") as folder:
        path = Path(folder) / "trace.json"
        path.write_text(text, encoding="utf-8")
        status = subprocess.run([*editor, str(path)], check=False).returncode
        if status:
            raise OSError(f"{editor[0]} exited with status {status}")
        return path.read_text(encoding="utf-8", errors="replace")


def _values(trace: TeacherTrace) -> dict[str, Any]:
    return {
        "verdict": trace.verdict,
        "explanation": trace.explanation,
        "trace": json.loads(trace.trace_json),
        "steps": json.loads(trace.steps_json),
    }


def _stored(changed: dict[str, Any]) -> dict[str, Any]:
    """Rename and encode the fields as the store has them."""
    names = {"trace": "trace_json", "steps": "steps_json"}
    return {names.get(name, name): json.dumps(value) if name in names else value for name, value in changed.items()}


def _check(given: dict[str, Any], before: dict[str, Any], words: Mapping[str, Sequence[str]]) -> None:
    verdict = given["verdict"]
    if not isinstance(verdict, dict) or sorted(verdict) != sorted(before["verdict"]):
        raise BadEdit(f"verdict must name exactly {', '.join(before['verdict'])}")
    for task, label in verdict.items():
        if (label is None) != (before["verdict"][task] is None) or label not in (None, *words.get(task, ())):
            raise BadEdit(f"verdict.{task} is {json.dumps(label)}: it must be {' or '.join(words.get(task, ()))}")
    if not isinstance(given["explanation"], str) or not given["explanation"].strip():
        raise BadEdit("explanation must be a sentence")
    for field in ("trace", "steps"):
        _same_shape(field, given[field], before[field])


def _same_shape(name: str, now: Any, before: Any) -> None:
    """Check that a value keeps its type; a list may grow and shrink, an object keeps its fields. Raises BadEdit."""
    if isinstance(before, dict):
        if not isinstance(now, dict) or sorted(now) != sorted(before):
            raise BadEdit(f"{name} must keep the fields {', '.join(before)}")
        for key, value in before.items():
            _same_shape(f"{name}.{key}", now[key], value)
    elif isinstance(before, list):
        if not isinstance(now, list) or not all(isinstance(line, str) and line.strip() for line in now):
            raise BadEdit(f"{name} must be a list of sentences")
    elif type(now) is not type(before):
        raise BadEdit(f"{name} must stay a {type(before).__name__}")


def _escaped(character: str) -> str:
    if character == "\n" or unicodedata.category(character) not in ("Cc", "Cf", "Co", "Cs", "Zl", "Zp"):
        return character
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))
