"""The phases of a round, in order. A phase's module is imported when it runs."""

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from wizloop.loop.context import Context

Phase = Callable[["Context"], str | None]
"""Does what is left of one phase and returns a note for the step."""

PHASES: Final = (
    *("import", "prepare", "base", "check"),
    *("classify", "select", "teach", "review", "train", "evaluate", "gate", "export"),
)
_ONLY_FIRST = PHASES[:4]


def phases_of(round: int) -> tuple[str, ...]:
    """Return the phases of a round: round 0 imports, measures base and teachers, and classifies nothing."""
    if round == 0:
        return tuple(phase for phase in PHASES if phase != "classify")
    return tuple(phase for phase in PHASES if phase not in _ONLY_FIRST)


def load(phase: str) -> Phase:
    """Return the function of a phase. Raises KeyError for an unknown one."""
    if phase not in PHASES:
        raise KeyError(phase)
    # `import` cannot name a module.
    module = "import_samples" if phase == "import" else phase
    run: Phase = import_module(f"wizloop.loop.phases.{module}").run
    return run
