"""The three tasks, their labels, and their names in the answer block."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Literal

Task = Literal["request", "completion", "response"]

Verdict = Mapping[Task, str | None]
"""Label by task; None or no entry where there is nothing to judge or nothing is known."""

TASKS: Final[tuple[Task, ...]] = ("request", "completion", "response")
"""In the order of the answer block."""

LABELS: Final[Mapping[Task, tuple[str, str]]] = MappingProxyType(
    {"request": ("harmful", "unharmful"), "completion": ("refusal", "compliance"), "response": ("harmful", "unharmful")}
)
"""The two labels of a task; the first is the positive class."""

FIELD: Final[Mapping[Task, str]] = MappingProxyType(
    {"request": "Request", "completion": "Completion", "response": "Response"}
)
"""Name of the task's line in the answer block."""

LETS_THROUGH: Final[Mapping[Task, str]] = MappingProxyType(
    {"request": "unharmful", "completion": "compliance", "response": "unharmful"}
)
"""The label that allows a sample; the other label blocks it."""

NONE: Final = "None"
"""The word for a task with nothing to judge; valid for `completion` and `response`."""


def by_task(values: Mapping[Any, Any]) -> dict[str, Any]:
    """Return the value of each task, None where there is none: a file of rows has the same keys in every row."""
    return {task: values.get(task) for task in TASKS}
