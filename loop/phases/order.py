"""The phases of a round, in order, and where each one's function is. A phase's module is imported when it is run."""

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from wizloop.loop.context import Context

Phase = Callable[["Context"], str | None]
"""Does what is not done yet of one phase; returns a note for the step."""

PHASES: Final = (
    "import",
    "prepare",
    "classify",
    "select",
    "teach",
    "review",
    "train",
    "evaluate",
    "gate",
    "export",
)
_ONLY_FIRST = ("import", "prepare")
_MODULES: Final = {
    "import": "intake",
    "prepare": "prepare",
    "classify": "classify",
    "select": "select",
    "teach": "teach",
    "review": "review",
    "train": "train",
    "evaluate": "evaluate",
    "gate": "gate",
    "export": "export",
}


def phases_of(round: int) -> tuple[str, ...]:
    """The phases of a round: round 0 brings the samples and the base model in, and has nothing to classify with."""
    if round == 0:
        return tuple(phase for phase in PHASES if phase != "classify")
    return tuple(phase for phase in PHASES if phase not in _ONLY_FIRST)


def load(phase: str) -> Phase:
    """The function of a phase. Raises KeyError for an unknown one."""
    run: Phase = import_module(f"wizloop.loop.phases.{_MODULES[phase]}").run
    return run
