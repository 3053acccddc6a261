"""The exceptions that end a phase early, handled by the code that runs phases; started again, it resumes there."""

from typing import Literal


class Interrupted(Exception):
    """The phase was asked to end between two batches; started again, it resumes there."""

    def __init__(self, reason: Literal["pause", "stop", "signal"]) -> None:
        super().__init__(reason)
        self.reason: Literal["pause", "stop", "signal"] = reason


class NeedsFix(Exception):
    """Raised if a person must fix something that the message names: the run pauses, and its process ends."""
