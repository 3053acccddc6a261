"""The declaration of a run's tasks and label words, and its default: the three tasks with their own words.

A recipe's [tasks] declares other words, more classes or fewer tasks. Whoever knows a guard, a run or a recipe takes
the declaration from it and hands it on; what is given none has the default.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from types import MappingProxyType
from typing import Any, Final, Literal, Protocol

Task = Literal["request", "completion", "response"]
Blocks = Literal["first", "all but last"]

Verdict = Mapping[Task, str | None]
"""Label by task; None or no entry where there is nothing to judge or nothing is known."""

TASKS: Final[tuple[Task, ...]] = ("request", "completion", "response")
"""In the order of the answer block."""

FIELD: Final[Mapping[Task, str]] = MappingProxyType(
    {"request": "Request", "completion": "Completion", "response": "Response"}
)
"""Name of the task's line in the answer block."""

NONE: Final = "None"
"""The word for a task with nothing to judge; valid for `completion` and `response`."""


class Answerable(Protocol):
    """Anything with an optional response."""

    @property
    def response(self) -> str | None:
        """The assistant's response, or None."""


@dataclass(frozen=True)
class Declaration:
    """The label words of each task: the positive label, which blocks, first, and the one that lets through last.

    A task without words is not judged; `request` always is.
    """

    request: tuple[str, ...] = ("harmful", "unharmful")
    completion: tuple[str, ...] = ("refusal", "compliance")
    response: tuple[str, ...] = ("harmful", "unharmful")
    blocks: Blocks = "first"
    """The labels that block a sample, where a task has more than two (Qwen3Guard's loose and strict reading)."""

    @classmethod
    def of(cls, section: Any) -> "Declaration":
        """Return what the section [tasks] of a recipe declares."""
        return cls(**{one.name: getattr(section, one.name) for one in fields(cls)})

    def __getitem__(self, task: Task) -> tuple[str, ...]:
        """Return the label words of a task; none for a task that is not judged."""
        return self._words[task]

    @cached_property
    def _words(self) -> Mapping[Task, tuple[str, ...]]:
        return {"request": self.request, "completion": self.completion, "response": self.response}

    @cached_property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks that are judged, in the order of the answer block."""
        return tuple(task for task in TASKS if self[task])

    @cached_property
    def by_task(self) -> Mapping[Task, tuple[str, ...]]:
        """The label words of the tasks that are judged."""
        return {task: self[task] for task in self.tasks}

    def positive(self, task: Task) -> str:
        """Return the first label, whose probability is P(positive)."""
        return self[task][0]

    def passes(self, task: Task, label: str | None) -> bool:
        """Return whether a label lets a sample through; no label does not."""
        words = self[task]
        return label in (words[1:] if self.blocks == "first" else words[-1:])

    def classes(self, task: Task) -> tuple[str, ...]:
        """Return the labels of a task that has more than two, else nothing: one figure then says it all."""
        return self[task] if len(self[task]) > 2 else ()

    def known(self, task: Task, word: str) -> str | None:
        """Return the label that a word in any case is, or None."""
        return next((label for label in self[task] if label.casefold() == word.casefold()), None)

    def tasks_of(self, sample: Answerable) -> tuple[Task, ...]:
        """Return the tasks that apply: without a response only the request."""
        return ("request",) if sample.response is None else self.tasks

    def main_task(self, sample: Answerable) -> Task:
        """Return the task that decides whether a sample is allowed: the response if it is judged, else the request."""
        return "request" if sample.response is None or not self.response else "response"

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


DEFAULT: Final = Declaration()

LABELS: Final = DEFAULT.by_task
"""The default's two labels of each task; the first is the positive class."""


def share_of(task: Task, label: str) -> str:
    """Return the name of P(label), beside a task's P(positive), where the task has more than two labels."""
    return f"{task}:{label}"


def by_task(values: Mapping[Any, Any]) -> dict[str, Any]:
    """Return the value of each task, None where there is none: a file of rows has the same keys in every row."""
    return {task: values.get(task) for task in TASKS}
