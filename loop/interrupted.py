"""The exception that ends a phase early, raised between two batches and handled by the code that runs phases."""

from typing import Literal


class Interrupted(Exception):
    """The phase was asked to end between two batches; started again, it resumes there."""

    def __init__(self, reason: Literal["pause", "stop", "signal"]) -> None:
        super().__init__(reason)
        self.reason: Literal["pause", "stop", "signal"] = reason
