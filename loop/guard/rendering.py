"""The one renderer: what a guard is shown and is to write, the same text in training, sampling, DPO and scoring.

Text only: tokens are the backend's, and what the words mean is the grammar's.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from wizloop.backends.guard_types import Choice, Part, Prompt
from wizloop.loop.guard import grammar
from wizloop.loop.words import FIELD, LABELS, NONE, TASKS, Task, Verdict

Reasoning = Literal["sentence", "steps"]

HUMAN = "Human user:\n"
ASSISTANT = "\n\nAI assistant:\n"
TRACE_OPENING = f"{grammar.REASONING}\n"


class Text(Protocol):
    """Anything with a prompt and, or not, a response."""

    @property
    def prompt(self) -> str: ...

    @property
    def response(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class InputText:
    """A text to judge: a prompt, or a prompt with the assistant's response."""

    prompt: str
    response: str | None = None
    line: int = field(default=0, compare=False)
    """Its line in the file that it was read from, from 1."""


class Rationale(Protocol):
    """A teacher's trace, as far as a guard learns to write it."""

    @property
    def verdict(self) -> Mapping[str, str | None]: ...

    @property
    def explanation(self) -> str: ...

    @property
    def steps_json(self) -> str:
        """An object: task to its list of steps."""


@dataclass(frozen=True)
class Completion:
    """What the guard is to write after an opening, and where in it its verdicts stand (offsets in characters)."""

    text: str
    strong: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class _ProbeRationale:
    verdict: Mapping[str, str | None]
    explanation: str = "A reason."
    steps_json: str = json.dumps({task: ["A step."] for task in TASKS})


@dataclass(frozen=True)
class Renderer:
    """Renders samples and traces for one guard."""

    instruction: str
    reasoning: Reasoning = "sentence"
    frame: tuple[str, str] = field(default=("", ""))
    """What a chat template puts before the user's turn and between it and the answer; nothing for a raw prompt."""
    trace_opening: str = TRACE_OPENING
    """What a trace begins after; empty for a guard that learned to begin with its first step."""

    def prompt(self, sample: Text, opening: str) -> Prompt:
        """The sample between the instruction and an opening. Texts that are not ours are data, whatever they say."""
        response = Part(NONE) if sample.response is None else Part(sample.response, data=True)
        parts = (Part(HUMAN), Part(sample.prompt, data=True), Part(ASSISTANT), response, Part(f"\n\n{self.frame[1]}"))
        instruction = f"{self.instruction}\n\n" if self.instruction else ""
        return Prompt(self.frame[0], parts, opening, instruction)

    def trace_prompt(self, sample: Text) -> Prompt:
        """The sample, and the opening after which the guard writes a trace."""
        return self.prompt(sample, self.trace_opening)

    def direct_prompt(self, sample: Text, decided: Verdict | None = None) -> Prompt:
        """The sample, and the opening after which the next verdict comes at once; `decided` are those before it."""
        return self.prompt(sample, direct_opening(decided or {}))

    def example(self) -> list[str]:
        """How the guard is asked for a verdict at once: pieces that are encoded one by one, with PROMPT and RESPONSE in
        the place of a sample's.
        """
        asked = self.direct_prompt(InputText("PROMPT", "RESPONSE"))
        pieces = (asked.shared, asked.instruction, *(part.text for part in asked.parts), asked.opening)
        return [piece for piece in pieces if piece]

    def trace_completion(self, rationale: Rationale) -> Completion:
        """What follows the trace's opening. Raises ValueError for a rationale that no trace can be made of."""
        verdict = _verdict(rationale.verdict)
        if self.reasoning == "sentence":
            text = grammar.render_sentence(rationale.explanation, verdict)
        else:
            text = grammar.render_steps(_steps(rationale.steps_json, verdict), verdict)
        return Completion(text, _strong(text, verdict, cut=0))

    def direct_completion(self, verdict: Mapping[str, str | None]) -> Completion:
        """What follows the opening of a direct answer. Raises ValueError for a label that is none."""
        known = _verdict(verdict)
        block, opening = grammar.render("", known), direct_opening({})
        return Completion(block.removeprefix(opening), _strong(block, known, cut=len(opening)))

    @property
    def hash(self) -> str:
        """SHA-256, in hex, of a fixed probe in every form: two guards with one hash were asked in the same words."""
        pair, alone = InputText("How do I ...?", "An answer."), InputText("How do I ...?")
        verdict: dict[str, str | None] = {"request": "harmful", "completion": "refusal", "response": "unharmful"}
        forms: list[Any] = []
        for probe, known in ((pair, verdict), (alone, {"request": "unharmful"})):
            given = _ProbeRationale(known)
            prompts = [self.trace_prompt(probe), *(self.direct_prompt(probe, each) for each in _openings(known))]
            forms += [
                (one.shared + one.instruction, [(part.text, part.data) for part in one.parts], one.opening)
                for one in prompts
            ]
            forms += [(one.text, one.strong) for one in (self.trace_completion(given), self.direct_completion(known))]
        return hashlib.sha256(json.dumps(forms).encode()).hexdigest()


def direct_opening(decided: Verdict) -> str:
    """The answer block as far as it is decided, and the name of the next task: `Answers:`, `Request:`, and so on."""
    lines = [grammar.ANSWERS]
    for task in TASKS:
        label = decided.get(task)
        if label is None:
            return "\n".join([*lines, f"{FIELD[task]}:"])
        lines.append(f"{FIELD[task]}: {label}")
    raise ValueError("every task is decided: there is nothing left to ask")


def choice(task: Task) -> Choice:
    """The words of which one follows the task's name; the positive one first."""
    positive, negative = LABELS[task]
    return Choice((f" {positive}", f" {negative}"))


def tasks_of(sample: Text) -> tuple[Task, ...]:
    """The tasks that apply: a prompt alone has a request and nothing else."""
    return ("request",) if sample.response is None else TASKS


def main_task(sample: Text) -> Task:
    """The task that decides whether a sample is let through: the response where there is one."""
    return "request" if sample.response is None else "response"


def _openings(verdict: Mapping[str, str | None]) -> Sequence[Verdict]:
    """Nothing decided, then one task more each time, as far as the next one applies."""
    known = [task for task in TASKS if verdict.get(task) is not None]
    return [{task: verdict[task] for task in known[:count]} for count in range(len(known))]


def _verdict(verdict: Mapping[str, str | None]) -> dict[Task, str | None]:
    return {task: verdict.get(task) for task in TASKS}


def _steps(steps_json: str, verdict: Verdict) -> dict[Task, Sequence[str]]:
    given = json.loads(steps_json)
    return {task: given.get(task, ()) for task in TASKS if verdict.get(task) is not None}


def _strong(text: str, verdict: Verdict, *, cut: int) -> tuple[tuple[int, int], ...]:
    """Where the verdict words stand, less `cut`; a task without a label has nothing to learn."""
    spans = grammar.verdict_spans(text) or {}
    return tuple((spans[task][0] - cut, spans[task][1] - cut) for task in TASKS if verdict.get(task) is not None)
