"""Render prompts and completions: the same text in training, sampling, DPO and scoring.

Text only: the backend tokenizes, and `grammar` defines the trace format.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from wizloop.backends.guard_types import Choice, Part, Prompt
from wizloop.loop.guard import grammar
from wizloop.loop.words import DEFAULT, FIELD, NONE, TASKS, Declaration, Task, Verdict
from wizloop.recipes.policies import PolicySet

Reasoning = Literal["sentence", "steps"]

HUMAN = "Human user:\n"
ASSISTANT = "\n\nAI assistant:\n"
TRACE_OPENING = f"{grammar.REASONING}\n"


class Text(Protocol):
    """Anything with a prompt and an optional response."""

    @property
    def prompt(self) -> str:
        """The user's request."""

    @property
    def response(self) -> str | None:
        """The assistant's response, or None."""


@dataclass(frozen=True, slots=True)
class InputText:
    """A text to judge: a prompt, or a prompt with the assistant's response."""

    prompt: str
    response: str | None = None
    line: int = field(default=0, compare=False)
    """Line number in its file, from 1; 0 without a file."""


class Rationale(Protocol):
    """The part of a teacher's trace that a guard learns to write."""

    @property
    def verdict(self) -> Mapping[str, str | None]:
        """Label by task."""

    @property
    def explanation(self) -> str:
        """One sentence."""

    @property
    def steps_json(self) -> str:
        """A JSON object of task to list of steps."""


@dataclass(frozen=True)
class Completion:
    """The text that follows an opening, and the spans of its verdict words (character offsets)."""

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
    """A chat template's text before the user's turn and before the answer; empty for a raw prompt."""
    trace_opening: str = TRACE_OPENING
    """The opening of a trace; empty for a guard whose traces begin with the first step."""
    opening_in_turn: bool = False
    """Whether an opening ends the user's turn, for chat endpoints, which begin the answer themselves."""
    policies: PolicySet | None = None
    """The guard's policies, from which `shown_policies` makes the text of each question."""
    shown: str = ""
    """The policies as this prompt shows them, between instruction and sample."""
    declared: Declaration = DEFAULT
    """The tasks and label words of its answers."""
    categories: tuple[str, ...] = ()
    """Names of the categories that answers may end in (see `categories`); empty for a guard without."""

    def prompt(self, sample: Text, opening: str) -> Prompt:
        """Render a sample between instruction and opening. Its texts are marked as data, whatever they contain."""
        response = Part(NONE) if sample.response is None else Part(sample.response, data=True)
        before, after = self.frame
        end, opening = (f"\n\n{opening}", after) if self.opening_in_turn else (f"\n\n{after}", opening)
        # In no shared prefix: it varies from one training example to the next, and is one text everywhere else.
        shown = (Part(f"{self.shown}\n\n", kept=True),) if self.shown else ()
        parts = (*shown, Part(HUMAN), Part(sample.prompt, data=True), Part(ASSISTANT), response, Part(end))
        instruction = f"{self.instruction}\n\n" if self.instruction else ""
        return Prompt(before, parts, opening, instruction)

    def trace_prompt(self, sample: Text) -> Prompt:
        """Render a sample with the opening of a trace."""
        return self.prompt(sample, self.trace_opening)

    def direct_prompt(self, sample: Text, decided: Verdict | None = None) -> Prompt:
        """Render a sample with the opening of a direct answer; `decided` are the verdicts before the next one."""
        return self.prompt(sample, direct_opening(decided or {}, self.declared))

    def example(self) -> list[str]:
        """Return the pieces of a direct prompt, each encoded separately, with the placeholders PROMPT and RESPONSE."""
        prompt = self.direct_prompt(InputText("PROMPT", "RESPONSE"))
        pieces = (prompt.shared, prompt.instruction, *(part.text for part in prompt.parts), prompt.opening)
        return [piece for piece in pieces if piece]

    def trace_completion(self, rationale: Rationale) -> Completion:
        """Render a trace after its opening. Raises ValueError for a rationale that cannot be rendered."""
        verdict = self._verdict(rationale.verdict)
        if self.reasoning == "sentence":
            text = grammar.render_sentence(rationale.explanation, verdict, self.declared)
        else:
            text = grammar.render_steps(_steps(rationale.steps_json, verdict), verdict, self.declared)
        return Completion(text, self._strong(text, verdict, cut=0))

    def direct_completion(self, verdict: Mapping[str, str | None]) -> Completion:
        """Render a direct answer after its opening. Raises ValueError for an unknown label."""
        known = self._verdict(verdict)
        block, opening = grammar.render("", known, self.declared), direct_opening({}, self.declared)
        return Completion(block.removeprefix(opening), self._strong(block, known, cut=len(opening)))

    def _verdict(self, verdict: Mapping[str, str | None]) -> dict[Task, str | None]:
        return {task: verdict.get(task) for task in self.declared.tasks}

    def _strong(self, text: str, verdict: Verdict, *, cut: int) -> tuple[tuple[int, int], ...]:
        """Return the spans of the verdict words, shifted left by `cut`; a task without a label has none."""
        spans = grammar.verdict_spans(text, self.declared) or {}
        return tuple((start - cut, end - cut) for task, (start, end) in spans.items() if verdict.get(task) is not None)

    @property
    def hash(self) -> str:
        """SHA-256 (hex) of a fixed probe in every form: two guards with the same hash get the same prompts."""
        pair, alone = InputText("How do I ...?", "An answer."), InputText("How do I ...?")
        words = self.declared.by_task
        verdict: dict[str, str | None] = {task: words[task][-1 if task == "response" else 0] for task in words}
        forms: list[Any] = [] if self.declared == DEFAULT else [self.declared.to_json()]
        for probe, known in ((pair, verdict), (alone, {"request": self.declared.request[-1]})):
            given = _ProbeRationale(known)
            prompts = [self.trace_prompt(probe), *(self.direct_prompt(probe, each) for each in _openings(known))]
            forms += [
                (one.shared + one.instruction, [(part.text, part.data) for part in one.parts], one.opening)
                for one in prompts
            ]
            forms += [(one.text, one.strong) for one in (self.trace_completion(given), self.direct_completion(known))]
        forms += [self.categories] if self.categories else []
        return hashlib.sha256(json.dumps(forms).encode()).hexdigest()


def direct_opening(decided: Verdict, declared: Declaration = DEFAULT) -> str:
    """Return the decided part of the answer block and the name of the next task: `Answers:`, `Request:`, and so on.

    Raises ValueError if every task is decided.
    """
    lines = [grammar.ANSWERS]
    for task in declared.tasks:
        label = decided.get(task)
        if label is None:
            return "\n".join([*lines, f"{FIELD[task]}:"])
        lines.append(f"{FIELD[task]}: {label}")
    raise ValueError("every task is decided")


def choice(task: Task, declared: Declaration = DEFAULT) -> Choice:
    """Return the words that can follow the task's name, the positive one first."""
    return Choice(tuple(f" {word}" for word in declared[task]))


def _openings(verdict: Mapping[str, str | None]) -> Sequence[Verdict]:
    """Return the verdicts before each task that applies: none, then one more each time."""
    known = [task for task in TASKS if verdict.get(task) is not None]
    return [{task: verdict[task] for task in known[:count]} for count in range(len(known))]


def _steps(steps_json: str, verdict: Verdict) -> dict[Task, Sequence[str]]:
    given = json.loads(steps_json)
    return {task: given[task] for task in TASKS if verdict.get(task) is not None and given.get(task)}
