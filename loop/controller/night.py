"""The loop over rounds and phases, until a stop rule holds.

It does not know what a phase does, or in which process. Finished phases are recorded in the store, so a night that
ended for any reason resumes when it is started again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from typing import Literal

from wizloop.console import standing
from wizloop.loop.controller.stopping import rounds_are_enough
from wizloop.loop.interrupted import Interrupted
from wizloop.recipes.sections import Stop
from wizloop.store import control, errors, steps
from wizloop.store.db import Connection, Store

Do = Callable[[int, str], str | None]
"""Runs one phase of one round and returns a note on it. Raises Interrupted, or the phase's own error."""


@dataclass(frozen=True, slots=True)
class Ending:
    """Why the night ended: done by its rules, stopped, or paused until `wizloop resume`."""

    state: Literal["done", "stopped", "paused"]
    reason: str


_PAUSED = Ending("paused", "paused by you. Run `wizloop resume` to resume.")
_STOPPED = Ending("stopped", "stopped by you. Run `wizloop start` to resume.")
BY_SIGNAL = Ending("stopped", "stopped by a signal. Run `wizloop start` to resume.")
_ENDINGS = {"pause": _PAUSED, "stop": _STOPPED, "stop_now": _STOPPED, "signal": BY_SIGNAL}
"""By the user's request in the store, or the reason of Interrupted."""


def night(
    store: Store, do: Do, phases_of: Callable[[int], Sequence[str]], *, stop: Stop, clock: Callable[[], datetime]
) -> Ending:
    """Run every unfinished phase of every round until a stop rule holds. Errors of `do` pass through."""
    for number in count():
        if reason := rounds_are_enough(store, number, stop):
            return Ending("done", "; ".join(filter(None, (reason, _about_the_champion(store)))))
        _begin_round(store, number, clock())
        for phase in phases_of(number):
            with store.read() as db:
                if is_done(db, number, phase):
                    continue
                ending = _requested_ending(db, clock())
            if ending:
                return ending
            try:
                _do_step(store, do, number, phase, clock)
            except Interrupted as interrupted:
                return _ENDINGS[interrupted.reason]
    raise AssertionError("count() has no end")


def ahead(store: Store, do: Do, phases: Sequence[str], clock: Callable[[], datetime]) -> None:
    """Run these phases of round 0 ahead of a night, as far as they are not done. Errors of `do` pass through."""
    _begin_round(store, 0, clock())
    for phase in phases:
        with store.read() as db:
            done = is_done(db, 0, phase)
        if not done:
            _do_step(store, do, 0, phase, clock)


def _about_the_champion(store: Store) -> str:
    with store.read() as db:
        return standing.ending(steps.rounds(db))


def _do_step(store: Store, do: Do, number: int, phase: str, clock: Callable[[], datetime]) -> None:
    with store.write() as db:
        steps.begin_step(db, number, phase, clock())
    note = do(number, phase)
    with store.write() as db:
        steps.finish_step(db, number, phase, note or "", clock())


def _begin_round(store: Store, number: int, now: datetime) -> None:
    with store.write() as db:
        run = control.get_run(db)
        steps.begin_round(db, number, run.champion_id if run else None, now)


def is_done(db: Connection, round: int, phase: str) -> bool:
    """Return whether a phase of a round is finished."""
    step = steps.step(db, round, phase)
    return step is not None and step.state == "done"


def _requested_ending(db: Connection, now: datetime) -> Ending | None:
    """Return the ending that the user or the clock asks for before a phase starts."""
    run = control.get_run(db)
    if run is None:
        raise errors.NoRun
    if run.wanted in _ENDINGS:
        return _ENDINGS[run.wanted]
    if run.until is not None and now >= run.until:
        return Ending("stopped", f"the end time {run.until.astimezone():%H:%M} has passed")
    return None
