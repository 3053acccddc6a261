"""A teacher that answers from kept calls, by key: a run is repeated without a network, and without cost.

It stands in for one provider's model under its name, so that the keys are those of the first time. What was not asked
then is blocked: it invents nothing.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from wizloop.backends.teachers.base import Answer, Outcome, Question, Usage, answer_from_raw

NOT_KEPT = "not among the kept calls"
_WAY_OUT = "`wizloop teach --keep` writes such a file"


class BadRecording(ValueError):
    """The file of kept calls cannot be used."""


@dataclass(frozen=True)
class Kept:
    """One call as it ended: `outcome` and `category` as in an Answer, `raw` as it came."""

    key: str
    teacher: str
    model: str
    version: str
    outcome: Outcome
    raw: str
    category: str | None = None
    stop_reason: str | None = None

    def as_line(self) -> str:
        """As it stands in a file."""
        return json.dumps(asdict(self), ensure_ascii=False)


_READS = TypeAdapter(Kept)


def load(path: Path) -> dict[str, Kept]:
    """The kept calls of a file of JSON lines, by key. Raises BadRecording, which names the line."""
    found: dict[str, Kept] = {}
    number = 0
    try:
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                number += 1
                one = _READS.validate_json(line)
                found[one.key] = one
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise BadRecording(
            f"{path}: line {number}: {place}: {first['msg']}: `wizloop teach --keep` writes it"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadRecording(f"{path}: cannot be read: {error}: {_WAY_OUT}") from error
    return found


class ReplayTeacher:
    """A Teacher that stands in for `name` and `model`."""

    free = True

    def __init__(self, name: str, model: str, version: str, kept: Mapping[str, Kept]) -> None:
        self.name, self.model, self.version = name, model, version
        self._kept = kept

    def worst_usage(self, question: Question) -> Usage:
        """Nothing: it runs here."""
        return Usage()

    def ask(self, question: Question) -> Answer:
        """The kept answer, or blocked where there is none."""
        kept = self._kept.get(question.key)
        if kept is None:
            return Answer("blocked", "", self.model, category=NOT_KEPT)
        if kept.outcome == "ok":
            return self.read(kept.raw, kept.stop_reason, question)
        return Answer(kept.outcome, kept.raw, self.model, stop_reason=kept.stop_reason, category=kept.category)

    def read(self, raw: str, stop_reason: str | None, question: Question) -> Answer:
        """A kept answer once more."""
        return answer_from_raw(raw, question, model=self.model, usage=Usage(), stop_reason=stop_reason)
