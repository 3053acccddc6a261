"""Members of the ensemble that are asked otherwise than the run's guard: by another model, instruction or temperature.

What they are asked with is kept with the model's row, so that no later edit or template changes it.
"""

import json
from dataclasses import replace
from typing import Any, NamedTuple

from wizloop.loop.guard.judge import Judge
from wizloop.loop.guard.readers import TOLERANT
from wizloop.loop.measures.calibration import Calibration

_KEY = "asked"


class Otherwise(NamedTuple):
    """How a member is asked."""

    base: str
    """Another model; empty is the run's base with the row's adapter."""
    instruction: str
    frame: tuple[str, str]
    temperature: float
    """0: direct answers."""
    traces: int

    @classmethod
    def of(cls, meta_json: str) -> "Otherwise | None":
        """Return how the model of a row is asked; None for one that is asked as the run's guard is."""
        kept = json.loads(meta_json).get(_KEY)
        return None if kept is None else cls(**kept | {"frame": tuple(kept["frame"])})

    def meta(self) -> dict[str, Any]:
        """Return what `of` reads back."""
        return {_KEY: self._asdict()}

    def judge(self, usual: Judge) -> Judge:
        """Return a judge that asks the same guard in this way."""
        renderer = replace(usual.renderer, instruction=self.instruction, frame=self.frame)
        judge = replace(usual, renderer=renderer, reader=TOLERANT if self.base else usual.reader)
        if not self.temperature:
            return judge
        sampling = usual.limits.sampling._replace(temperature=self.temperature, most=self.traces)
        votes = Calibration(source=dict.fromkeys(usual.tasks, "traces"), declared=usual.declared)
        return replace(judge, limits=replace(usual.limits, sampling=sampling), calibration=votes)
