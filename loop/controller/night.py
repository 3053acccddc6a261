"""The night: which phase of which round comes next, and when it is enough. This is the loop; the rest does as it says.

What a phase does, and in which process, is not known here. What is done stands in the store, and so a night that was
ended in any way goes on by beginning again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from typing import Literal

from wizloop.loop.controller.stopping import rounds_are_enough
from wizloop.loop.interrupted import Interrupted
from wizloop.recipes.sections import Stop
from wizloop.store import control, errors, steps
from wizloop.store.db import Store

Do = Callable[[int, str], str | None]
"""Does one phase of one round to its end and returns a note on it; raises Interrupted, or whatever it failed with."""


@dataclass(frozen=True, slots=True)
class Ending:
    """Why the night ended: done by its rules, stopped, or paused until somebody wants it to go on."""

    state: Literal["done", "stopped", "paused"]
    reason: str


_PAUSED = Ending("paused", "paused by the person: `wizloop resume` goes on")
_STOPPED = Ending("stopped", "stopped by the person: `wizloop start` goes on")
_BY_SIGNAL = Ending("stopped", "stopped by a signal: `wizloop start` goes on")
_INTERRUPTED = {"pause": _PAUSED, "stop": _STOPPED, "signal": _BY_SIGNAL}
_WANTED = {"pause": _PAUSED, "stop": _STOPPED, "stop_now": _STOPPED}


def night(
    store: Store,
    do: Do,
    phases_of: Callable[[int], Sequence[str]],
    *,
    stop: Stop,
    clock: Callable[[], datetime],
) -> Ending:
    """Do every phase of every round that is not done yet, until a stop rule holds. What `do` raises passes through."""
    for number in count():
        if reason := rounds_are_enough(store, number, stop):
            return Ending("done", reason)
        _begin_round(store, number, clock())
        for phase in phases_of(number):
            if _is_done(store, number, phase):
                continue
            if ending := _wanted_ending(store, clock()):
                return ending
            try:
                _do_step(store, do, number, phase, clock)
            except Interrupted as interrupted:
                return _INTERRUPTED[interrupted.reason]
    raise AssertionError("count() has no end")


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


def _is_done(store: Store, number: int, phase: str) -> bool:
    with store.read() as db:
        step = steps.step(db, number, phase)
    return step is not None and step.state == "done"


def _wanted_ending(store: Store, now: datetime) -> Ending | None:
    """What the person or the clock wants before a phase begins."""
    with store.read() as db:
        run = control.get_run(db)
    if run is None:
        raise errors.NoRun
    if run.wanted in _WANTED:
        return _WANTED[run.wanted]
    if run.until is not None and now >= run.until:
        return Ending("stopped", f"it is past {run.until.astimezone():%H:%M}, the end that was set")
    return None
