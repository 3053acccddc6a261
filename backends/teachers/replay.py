"""A teacher that replays recorded calls by key, without a network and without cost.

It stands in for one provider's model under its name, so that the keys match. A question that was not asked then is
blocked.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from io import TextIOWrapper
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from wizloop import regular_file
from wizloop.backends.teachers.base import (
    OUR_WORDS,
    OWN_FAULTS,
    Answer,
    LocalTeacher,
    Outcome,
    Question,
    Words,
    answer_from_raw,
)
from wizloop.backends.teachers.small import answer_from_small

NOT_KEPT = "not among the kept calls"


class BadRecording(ValueError):
    """The file of recorded calls cannot be used."""


@dataclass(frozen=True)
class Kept:
    """One ended call: `outcome` and `category` as in an Answer, `raw` as received."""

    key: str
    teacher: str
    model: str
    version: str
    outcome: Outcome
    raw: str
    category: str | None = None
    stop_reason: str | None = None

    def as_line(self) -> str:
        """Return the call as a line of a file."""
        return json.dumps(asdict(self), ensure_ascii=False)


_ADAPTER = TypeAdapter(Kept)


def load(path: Path) -> dict[str, Kept]:
    """Read a file of JSON lines into calls by key. Raises BadRecording, which names the line."""
    found: dict[str, Kept] = {}
    number = 0
    try:
        with regular_file.opened(path) as file, TextIOWrapper(file, "utf-8") as lines:
            for line in lines:
                number += 1
                call = _ADAPTER.validate_json(line)
                found[call.key] = call
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        fault = f"line {number}: {'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise BadRecording(f"{path}: {fault}: `wizloop teach --keep` writes such a file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadRecording(f"{path}: cannot be read: {error}: `wizloop teach --keep` writes such a file") from error
    return found


class ReplayTeacher(LocalTeacher):
    """A Teacher that stands in for `name` and `model`, whose answers are `small` or full."""

    def __init__(
        self,
        name: str,
        model: str,
        version: str,
        calls: Mapping[str, Kept],
        *,
        small: bool = False,
        words: Words = OUR_WORDS,
    ) -> None:
        self.words = words
        self.name, self.model, self.version = name, model, version
        self._calls, self._small = calls, small

    def ask(self, question: Question) -> Answer:
        """Return the recorded answer, or blocked if there is none."""
        call = self._calls.get(question.key)
        if call is None:
            return Answer("blocked", "", self.model, category=NOT_KEPT)
        if call.outcome == "ok":
            return self.read(call.raw, call.stop_reason, question)
        # The run that was kept asked again after the mend, and a replay has nothing to mend.
        outcome = "overloaded" if call.outcome in OWN_FAULTS else call.outcome
        return Answer(outcome, call.raw, self.model, stop_reason=call.stop_reason, category=call.category)

    def read(self, raw: str, stop_reason: str | None, question: Question) -> Answer:
        """Parse a recorded answer."""
        build = answer_from_small if self._small else answer_from_raw
        return build(raw, question, self.words, model=self.model, stop_reason=stop_reason)
