"""How long a run would take, from what its phases took in this workspace before. Nothing is guessed: what was not
measured is not known.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from wizloop.loop.phases.order import phases_of
from wizloop.store import control, steps
from wizloop.store.db import Connection


@dataclass(frozen=True, slots=True)
class Duration:
    """Seconds from now to the end of the run, as far as they are known."""

    seconds: float | None
    """None where a phase that is to come was never measured."""
    per_phase: dict[str, float]
    """What each phase took the last time that it was done without a break."""
    unmeasured: tuple[str, ...]
    """The phases that are to come and were never measured."""


NOTHING_MEASURED = Duration(None, {}, ())


def duration(db: Connection, rounds: int) -> Duration:
    """Of the rest of the workspace's run, up to and with round `rounds`."""
    if control.get_run(db) is None:
        return NOTHING_MEASURED
    begun = steps.rounds(db)
    done = {each.number: steps.steps(db, each.number) for each in begun}
    measured = _measured([step for number in sorted(done) for step in done[number]])
    left = [
        phase
        for number in range(rounds + 1)
        for phase in phases_of(number)
        if not any(step.phase == phase and step.state == "done" for step in done.get(number, ()))
    ]
    unmeasured = tuple(dict.fromkeys(phase for phase in left if phase not in measured))
    seconds = None if unmeasured else sum(measured[phase] for phase in left)
    return Duration(seconds, measured, unmeasured)


def _measured(done: Sequence[steps.Step]) -> dict[str, float]:
    """The seconds of each phase, the newest round's where there are several; an interrupted one tells nothing."""
    return {
        step.phase: (step.ended_at - step.started_at).total_seconds()
        for step in done
        if step.state == "done" and step.attempts == 1 and step.ended_at is not None
    }
