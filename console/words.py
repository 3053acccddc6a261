"""The loop's names that screens need: phases, tasks, labels, cells. A test compares them with the loop's own."""

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

PHASES: Final = (
    *("import", "prepare", "base", "check"),
    *("classify", "select", "teach", "review", "train", "evaluate", "gate", "export"),
)

LABELS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {"request": ("harmful", "unharmful"), "completion": ("refusal", "compliance"), "response": ("harmful", "unharmful")}
)
"""The two labels of each task, in the order of the answer block."""

TASKS: Final = tuple(LABELS)

CELL_NAMES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "uncertain_pass": "uncertain compliance",
        "uncertain_block": "uncertain block",
        "confident_pass": "confident pass",
        "confident_block": "confident block",
    }
)
"""The four cells, riskiest first."""


def labels_of(recipe_json: str) -> Mapping[str, tuple[str, ...]]:
    """Return the labels of each task that a run's stored recipe declares, the positive one first."""
    given = json.loads(recipe_json).get("tasks", {})
    return {task: tuple(words) for task in TASKS if (words := given.get(task, LABELS[task]))}


def phases_of(round: int | None) -> tuple[str, ...]:
    """Return the phases of a round, in order; for None, those of round 0."""
    if not round:
        return tuple(phase for phase in PHASES if phase != "classify")
    return PHASES[4:]
