"""How a phase ends before its time: raised between two pieces, understood by whoever runs phases."""

from typing import Literal


class Interrupted(Exception):
    """The phase ended between two pieces, because somebody asked for it; started again, it goes on there."""

    def __init__(self, reason: Literal["pause", "stop", "signal"]) -> None:
        super().__init__(reason)
        self.reason: Literal["pause", "stop", "signal"] = reason
