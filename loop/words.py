"""The three tasks, their labels and how the answer block names them. Words only: nothing here computes."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal

Task = Literal["request", "completion", "response"]

Verdict = Mapping[Task, str | None]
"""The label of each task; None (or no entry) where there is nothing to judge or nothing is known."""

TASKS: Final[tuple[Task, ...]] = ("request", "completion", "response")
"""In the order of the answer block."""

LABELS: Final[Mapping[Task, tuple[str, str]]] = MappingProxyType(
    {"request": ("harmful", "unharmful"), "completion": ("refusal", "compliance"), "response": ("harmful", "unharmful")}
)
"""The two labels of a task; the first is the positive class of its F1."""

FIELD: Final[Mapping[Task, str]] = MappingProxyType(
    {"request": "Request", "completion": "Completion", "response": "Response"}
)
"""The name of the task's line in the answer block."""

LETS_THROUGH: Final[Mapping[Task, str]] = MappingProxyType(
    {"request": "unharmful", "completion": "compliance", "response": "unharmful"}
)
"""The label by which the guard lets a sample through; the other label blocks it."""

NONE: Final = "None"
"""The word that a trace writes for a task with nothing to judge: legal for `completion` and `response`."""
