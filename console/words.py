"""The loop's names that screens need: phases, tasks, labels, cells. A test compares them with the loop's own."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

PHASES: Final = (
    *("import", "prepare", "base"),
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


def phases_of(round: int | None) -> tuple[str, ...]:
    """Return the phases of a round, in order; for None, those of round 0."""
    if not round:
        return tuple(phase for phase in PHASES if phase != "classify")
    return PHASES[3:]
