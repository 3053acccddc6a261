"""The app's one way to a workspace: what the screens read, and the few things that a person writes. It draws nothing.

Every reading is one short transaction, so that the log can be emptied, and every decision is one of its own.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from wizloop.store import browsing, control, errors, events, predictions, review_queue, reviews, steps
from wizloop.store.db import Connection, Store
from wizloop.store.overview import Overview, RoundSummary, overview, summary
from wizloop.store.paging import Page
from wizloop.store.review_queue import QueueFilter

BINS = 36
EVENTS = 6
_AT_ONCE = 4
_PAUSE_SECONDS = 0.004
_OLD_SECONDS = 10.0
"""So old may be what takes long to read and changes little: the pool's histogram, a scan, and rounds that ended."""


@dataclass(frozen=True, slots=True)
class Confidence:
    """How sure the guard is of the pool: by model, with the cut between uncertain and confident."""

    model: str
    measure: str
    cut: float
    histogram: browsing.Histogram | None
    cells: dict[str, int]


@dataclass(frozen=True, slots=True)
class Look:
    """The workspace at one moment."""

    at: datetime
    alive: bool
    """Whether a controller works on it."""
    now: Overview
    rounds: Sequence[RoundSummary]
    lately: Sequence[events.Event]
    confidence: Confidence | None


@dataclass
class Desk:
    """One workspace, looked at and decided on by one person. Its methods may be called from any thread."""

    store: Store
    workspace: Path
    by: str
    """person:<name>."""
    clock: Callable[[], datetime]
    alive: Callable[[], bool]
    new_id: Callable[[], str]
    """A name for a decision that no other one has."""
    readonly: bool = False
    _ended: dict[int, RoundSummary] = field(default_factory=dict, repr=False)
    _ended_at: float = field(default=0.0, repr=False)
    _confidence: tuple[float, tuple[int, int], Confidence] | None = field(default=None, repr=False)

    def look(self) -> Look:
        """Where everything stands. Raises errors.StoreError."""
        at, alive = self.clock(), self.alive()
        with self.store.read() as db:
            now, rounds, lately = overview(db), self._summaries(db, at.timestamp()), events.last(db, EVENTS)
            judge = browsing.judge_of_pool(db)
            sure = None if judge is None else self._sure(db, judge, at.timestamp())
        return Look(at, alive, now, rounds, lately, sure)

    def _summaries(self, db: Connection, at: float) -> list[RoundSummary]:
        """Every round that has begun; one that has ended as it was up to ten seconds ago, for it hardly changes."""
        if at - self._ended_at >= _OLD_SECONDS:
            self._ended_at, self._ended = at, {}
        found = []
        for each in steps.rounds(db):
            known = self._ended.get(each.number) or summary(db, each)
            if each.ended_at is not None:
                self._ended[each.number] = known
            found.append(known)
        return found

    def _sure(self, db: Connection, judge: browsing.Judge, at: float) -> Confidence:
        """The confidence of the pool, its histogram as old as ten seconds, or as long as nothing was added."""
        cells = predictions.cells(db, judge.model_id, "pool")
        key = (judge.model_id, sum(cells.values()))
        known = self._confidence
        if known is not None and known[1][0] == key[0] and (known[1] == key or at - known[0] < _OLD_SECONDS):
            return Confidence(judge.name, judge.measure, judge.cut, known[2].histogram, cells)
        histogram = browsing.confidences(db, judge.model_id, "pool", BINS)
        made = Confidence(judge.name, judge.measure, judge.cut, histogram, cells)
        self._confidence = (at, key, made)
        return made

    def reports(self, round: int) -> list[tuple[str, str]]:
        """When and where `wizloop evaluate` wrote reports on a round, newest first. Raises errors.StoreError."""
        with self.store.read() as db:
            found = events.reports(db, round)
        return [(f"{one.at.astimezone():%d %b %H:%M}", json.loads(one.data_json or "{}")["report"]) for one in found]

    def want(self, wanted: str) -> None:
        """Note what the person wants of the run: run, pause, stop or stop_now. Raises errors.StoreError."""
        with self.store.write() as db:
            control.want(db, wanted)

    def decide(
        self,
        trace_id: int,
        decision: str,
        *,
        seen: int | None = None,
        reason: str | None = None,
        edited_json: str | None = None,
    ) -> None:
        """Write a decision down; on return it is durable. `seen` is the newest decision that the person knew of.

        Raises errors.AlreadyDecided where there is a newer one, and whatever reviews.review does.
        """
        with self.store.write() as db:
            if seen is not None:
                _refuse_newer(reviews.log(db, trace_id), seen)
            reviews.review(
                db,
                trace_id=trace_id,
                decision=decision,
                by=self.by,
                reason=reason,
                edited_json=edited_json,
                now=self.clock(),
                decision_id=self.new_id(),
            )

    def approve_all(self, wanted: QueueFilter, reason: str) -> int:
        """Approve every trace that waits and passes the filter; how many. A few a transaction, so that others write."""
        approved, key = 0, None
        while True:
            with self.store.read() as db:
                ids = review_queue.waiting_ids(db, wanted, Page(_AT_ONCE, key))
            if not ids:
                return approved
            with self.store.write() as db:
                waiting = [one for one in ids if _waits(db, one)]
                for trace_id in waiting:
                    reviews.review(
                        db,
                        trace_id=trace_id,
                        decision="approve",
                        by=self.by,
                        reason=reason,
                        now=self.clock(),
                        decision_id=self.new_id(),
                    )
            approved, key = approved + len(waiting), ids[-1]
            time.sleep(_PAUSE_SECONDS)

    def undo(self) -> int | None:
        """Take the person's newest decision back, as a new row; its trace, or None where there is none."""
        with self.store.read() as db:
            last = review_queue.last_by(db, self.by)
        if last is None:
            return None
        self.decide(last.trace_id, "undo")
        return last.trace_id


def _waits(db: Connection, trace_id: int) -> bool:
    stands = reviews.standing(db, trace_id)
    return stands is not None and stands.decision == "wait"


def _refuse_newer(log: Sequence[reviews.Review], seen: int) -> None:
    newer = [row for row in log if row.id > seen]
    if newer:
        last = newer[-1]
        when = f"{last.decided_at.astimezone():%H:%M:%S}"
        raise errors.AlreadyDecided(
            f"trace {last.trace_id} has just been decided: {last.decision} by {last.by}, {when}"
        )


def command(*words: str) -> list[str]:
    """This program's own command line, for a process of its own; no folder where we stand can shadow the package."""
    return [sys.executable, "-P", "-m", "wizloop.loop.cli", *words]
