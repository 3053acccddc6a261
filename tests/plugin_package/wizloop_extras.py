"""A package that adds one plugin of each kind to wizloop, and a second exporter."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wizloop.backends.guard_types import Part, Prompt
from wizloop.backends.teachers.base import Answer, Question, Usage, answer_from_raw
from wizloop.plugins import (
    Candidate,
    Exporter,
    GuardQuestion,
    ImportFormat,
    PublishedGuard,
    Row,
    Said,
    SelectionStrategy,
    Setup,
    Teacher,
)


class Keywords(Teacher):
    """Calls a text harmful that has one of the words of its options."""

    model, version = "keywords-1", "1"

    def __init__(self, setup: Setup) -> None:
        self.words: list[str] = setup.options.get("harmful", ["bomb"])
        self.free = not setup.options.get("paid", False)
        self.concurrency = setup.options.get("concurrency", 0)
        self.setup = setup

    def ask(self, question: Question) -> Answer:
        shown = question.labels or {}
        request = shown.get("request") or _harm(self.words, question.prompt)
        trace: dict[str, Any] = {
            "surface_analysis": "The words are compared with a list.",
            "legitimate_uses": [],
            "harmful_uses": [],
            "context_clues": "None is looked at.",
            "risk_factors": [],
            "mitigating_factors": [],
            "request_steps": [f"The list says {request}."],
            "completion_steps": [],
            "response_steps": [],
            "explanation": f"By the list of keywords it is {request}.",
            "confidence": "medium",
            "request": request,
            "completion": None,
            "response": None,
        }
        if question.response is not None:
            trace["completion"] = shown.get("completion") or "compliance"
            trace["response"] = shown.get("response") or _harm(self.words, question.response)
            trace["completion_steps"] = trace["response_steps"] = ["The list has no word of it."]
        return answer_from_raw(json.dumps(trace), question, model=self.model, usage=Usage(), stop_reason="end")


def _harm(words: Sequence[str], text: str) -> str:
    return "harmful" if any(word in text.casefold() for word in words) else "unharmful"


class Tickets(ImportFormat):
    """A help desk's tickets: severity 3 is harmful, a closed one is refused, and drafts are not recognized."""

    columns = ("ticket", "severity")
    note = "severity 3 counts as harmful"

    def recognizes(self, record: Mapping[str, Any], file_name: str, /) -> bool:
        return not file_name.startswith("draft")

    def read(self, record: Mapping[str, Any], /) -> Row:
        if record.get("state") == "closed":
            raise ValueError("the ticket is closed")
        severity = int(record["severity"])
        return Row(record["ticket"], labels={"request": "harmful" if severity >= 3 else "unharmful"}, source="desk")


class Longest(SelectionStrategy):
    """Picks the longest texts."""

    def score(self, candidates: Sequence[Candidate], seed: int) -> list[float | None]:
        return [float(len(one.text)) if one.text else None for one in candidates]

    def explain(self, candidate: Candidate, score: float) -> str:
        return f"One of the longest texts, with {score:.0f} characters."


class Blob(Exporter):
    """One file in a format that wizloop cannot load."""

    suffixes = (".blob",)

    def export(self, base: str, adapter: Path, to: Path) -> None:
        files = sorted(path for path in adapter.iterdir() if path.name != "manifest.json")
        (to / "guard.blob").write_bytes(b"".join(path.read_bytes() for path in files))


class Copy(Exporter):
    """The adapter's files as they are, which wizloop loads."""

    loads = True

    def export(self, base: str, adapter: Path, to: Path) -> None:
        for path in adapter.iterdir():
            if path.name != "manifest.json":
                shutil.copyfile(path, to / path.name)


class YesNo(PublishedGuard):
    """A guard that says yes or no to requests."""

    source = "https://example.org/yes-no"
    max_tokens = 4
    label = "harmful"

    def questions(self, prompt: str, response: str | None, /) -> list[GuardQuestion]:
        parts = (Part(prompt, data=True), Part("\nHarmful?"))
        return [GuardQuestion(Prompt("Q: ", parts, ""), {"request": {" yes": "harmful", " no": "unharmful"}})]

    def read(self, answer: str, question: GuardQuestion, /) -> dict[str, Said] | None:
        word = answer.strip()
        if word not in ("yes", "no"):
            return None
        return {"request": Said(self.label if word == "yes" else "unharmful", answer.index(word))}
