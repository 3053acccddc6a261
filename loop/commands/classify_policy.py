"""`classify --guard policy`: the policy reasoner at a prompt, with the score of every policy and its steps.

It is no model: it counts wording. A policy file is read again whenever it changes, so that policies are edited in one
window and tried in another.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from wizloop.backends.teachers.base import Question
from wizloop.backends.teachers.policy.reasoner import PolicyReasoner
from wizloop.backends.teachers.policy.scoring import Depth, Policy, Score, overall
from wizloop.backends.teachers.policy.wording import write_trace
from wizloop.loop.commands.common import put, refuse, say
from wizloop.loop.teaching import teachers
from wizloop.loop.words import TASKS, by_task
from wizloop.recipes import policies as files
from wizloop.store.display import shown

if TYPE_CHECKING:
    from wizloop.loop.commands.classify_files import Asked

_LINE = 4000
"""Maximum bytes of a line on a terminal."""
_POLICY = 28
"""Columns of a policy's name."""


@dataclass
class Reasoner:
    """The policy reasoner on a file that may change, or on the shipped policies. Raises PolicyError for a bad file."""

    file: Path | None
    depth: Depth
    _seen: tuple[int, ...] = field(default=(), init=False)
    _known: PolicyReasoner = field(init=False)

    def __post_init__(self) -> None:
        self._seen = self._stamp()
        self._known = PolicyReasoner(self._read(), self.depth)

    def row(self, asked: "Asked", *, texts: bool) -> dict[str, Any]:
        """Return what is decided on a text, and why."""
        self._refresh()
        question = Question(asked.row, asked.text.prompt, asked.text.response)
        found = self._known.assess(question)
        trace = write_trace(question, found, self.depth)
        state, sure = overall(found.scores)
        row = {
            "line": asked.text.line,
            "verdict": {"request": found.request, "completion": found.completion, "response": found.response},
            "state": state,
            "sure": round(sure, 4),
            "confidence": found.confidence,
            "depth": self.depth,
            "policies": [_scored(one) for one in found.scores],
            "reasoning": {task: list(getattr(trace, f"{task}_steps")) for task in TASKS},
            "explanation": trace.explanation,
            "row": asked.row,
            "label": by_task(asked.labels),
        }
        return row | {"prompt": asked.text.prompt, "response": asked.text.response} if texts else row

    def _read(self) -> tuple[Policy, ...]:
        found = tuple(map(teachers.plain, files.load(self.file)))
        teachers.refuse_wordless(found, "the policy reasoner")
        return found

    def _refresh(self) -> None:
        """Read a changed file again; one that cannot be used is named, and the policies stay."""
        if (stamp := self._stamp()) == self._seen:
            return
        self._seen = stamp
        try:
            self._known = PolicyReasoner(self._read(), self.depth)
            say(f"{self.file}: read again, {len(self._known.policies)} policies")
        except files.PolicyError as error:
            say(f"{error}; the policies read before stay")

    def _stamp(self) -> tuple[int, ...]:
        if self.file is None:
            return ()
        try:
            found = self.file.stat()
        except OSError:
            return ()
        return found.st_mtime_ns, found.st_size, found.st_ino


def reasoner(file: Path | None, depth: str) -> Reasoner:
    """Return the reasoner of a file, or of the shipped policies; a bad file ends the command with a sentence."""
    try:
        return Reasoner(file, depth)  # type: ignore[arg-type]
    except files.PolicyError as error:
        refuse(str(error))


def run(found: Reasoner, asked: "Iterable[Asked]", to: TextIO, *, readable: bool, texts: bool) -> int:
    """Judge texts one by one, and write a row for each as JSON or, `readable`, as lines; return how many."""
    n = 0
    for one in asked:
        row = found.row(one, texts=texts)
        if readable:
            # The texts' own words are among the markers: no control character may reach the terminal.
            print("\n".join(shown(line, _LINE) for line in _lines(row)), flush=True, file=to)
        else:
            put(row, to)
        n += 1
    return n


def _scored(one: Score) -> dict[str, Any]:
    steps = [asdict(step) | {"found": list(step.found)} for step in one.steps]
    return {
        "policy": one.policy.id,
        "name": one.policy.name,
        "score": one.points,
        "state": one.state,
        "steps": steps,
    }


def _lines(row: dict[str, Any]) -> Iterator[str]:
    """Yield a row as a person reads it: verdicts, every policy with its steps, the reasoning."""
    verdicts = ", ".join(f"{task} {label}" for task, label in row["verdict"].items() if label is not None)
    yield f"{verdicts}: {row['state']}, {100 * row['sure']:.0f} % sure, confidence {row['confidence']}"
    for one in row["policies"]:
        yield f"  {one['name']:<{_POLICY}} {one['score']:>3}  {one['state']:<7}  {_steps(one['steps'])}"
    for task, steps in row["reasoning"].items():
        for number, step in enumerate(steps or (), start=1):
            yield f"  {task} {number}. {step}"
    yield f"  {row['explanation']}"
    yield ""


def _steps(steps: Sequence[dict[str, Any]]) -> str:
    return "; ".join(f"{step['name']} {step['points']:+d}{_found(step['found'])}" for step in steps)


def _found(markers: Sequence[str]) -> str:
    return f" ({', '.join(markers)})" if markers else ""
