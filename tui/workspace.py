"""The app's access to a workspace: snapshots for the screens, and what a user writes. Draws nothing.

Every snapshot is one short transaction, so that the log can be truncated, and every decision is one of its own.
"""

import json
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from wizloop.console.words import LABELS, labels_of
from wizloop.store import browsing, control, errors, events, predictions, review_queue, reviews, steps
from wizloop.store.db import Connection, Store
from wizloop.store.overview import BaseSummary, Overview, RoundSummary, base_summary, overview, summary
from wizloop.store.paging import Page
from wizloop.store.review_queue import Case, Decided, QueueFilter

BINS = 36
EVENTS = 6
_CHUNK = 4
"""Traces approved in one transaction."""
_PAUSE_SECONDS = 0.004
_MAX_AGE_SECONDS = 10.0
"""Of what is slow to read and changes little: the pool's histogram and the rounds that ended."""
_DECIDED = 1000
"""Newest decided traces among which similar ones are searched."""
_LEAST_SIMILARITY = 0.2
"""Below it two texts share only common words."""
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Confidence:
    """The guard's confidence on the pool, with the threshold between uncertain and confident."""

    model: str
    measure: str
    cut: float
    histogram: browsing.Histogram | None
    cells: dict[str, int]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The workspace at one moment."""

    at: datetime
    alive: bool
    """Whether a controller is running."""
    now: Overview
    base: BaseSummary | None
    """None before it is measured."""
    rounds: Sequence[RoundSummary]
    recent: Sequence[events.Event]
    confidence: Confidence | None


class Compared(NamedTuple):
    """Two rounds' guards on the same rows of one task, in words."""

    benchmark: str
    task: str
    difference: str
    """In points of F1, with its interval."""
    conclusion: str
    """By the paired test: better, worse, cannot be told apart."""


Compare = Callable[[Store, str], Mapping[str, Sequence[Compared]]]
"""Compares every round's guard with that of the base or of a round; by the name of the round."""


@dataclass
class Workspace:
    """One workspace, viewed and reviewed by one user. Its methods may be called from any thread."""

    store: Store
    folder: Path
    by: str
    """person:<name>."""
    clock: Callable[[], datetime]
    alive: Callable[[], bool]
    new_id: Callable[[], str]
    """Returns a unique id for a decision."""
    readonly: bool = False
    compare: Compare | None = None
    """What `wizloop rounds --against` does."""
    _ended: dict[int, RoundSummary] = field(default_factory=dict, repr=False)
    _ended_at: float = field(default=0.0, repr=False)
    _confidence: tuple[float, tuple[int, int], Confidence] | None = field(default=None, repr=False)
    _words: dict[int, frozenset[str]] = field(default_factory=dict, repr=False)
    _against: dict[tuple[str, int], Mapping[str, Sequence[Compared]]] = field(default_factory=dict, repr=False)

    def snapshot(self) -> Snapshot:
        """Read the state of the workspace. Raises errors.StoreError."""
        at, alive = self.clock(), self.alive()
        with self.store.read() as db:
            now, rounds, recent = overview(db), self._summaries(db, at.timestamp()), events.last(db, EVENTS)
            base = base_summary(db)
            guard = browsing.pool_guard(db)
            confidence = None if guard is None else self._pool_confidence(db, guard, at.timestamp())
        measured = base if base is not None and base.evaluations else None
        return Snapshot(at, alive, now, measured, rounds, recent, confidence)

    def labels(self) -> Mapping[str, Sequence[str]]:
        """Return the labels of each task of the run, in its own words."""
        with self.store.read() as db:
            run = control.get_run(db)
        return LABELS if run is None else labels_of(run.recipe_json)

    def _summaries(self, db: Connection, at: float) -> list[RoundSummary]:
        """Return every round that has begun; one that ended may be ten seconds old, because it hardly changes."""
        if at - self._ended_at >= _MAX_AGE_SECONDS:
            self._ended_at, self._ended = at, {}
        found = []
        for each in steps.rounds(db):
            known = self._ended.get(each.number) or summary(db, each)
            if each.ended_at is not None:
                self._ended[each.number] = known
            found.append(known)
        return found

    def _pool_confidence(self, db: Connection, guard: browsing.PoolGuard, at: float) -> Confidence:
        """Return the pool's confidence; its histogram may be ten seconds old, or older if nothing was added."""
        cells = predictions.cells(db, guard.model_id, "pool")
        key, last = (guard.model_id, sum(cells.values())), self._confidence
        if last is not None and last[1][0] == key[0] and (last[1] == key or at - last[0] < _MAX_AGE_SECONDS):
            return Confidence(guard.name, guard.measure, guard.cut, last[2].histogram, cells)
        histogram = browsing.confidences(db, guard.model_id, "pool", BINS)
        made = Confidence(guard.name, guard.measure, guard.cut, histogram, cells)
        self._confidence = (at, key, made)
        return made

    def reports(self, round: int) -> list[tuple[str, str]]:
        """Return time and folder of the reports of `wizloop evaluate` on a round, newest first.

        Raises errors.StoreError.
        """
        with self.store.read() as db:
            found = events.reports(db, round)
        return [(f"{one.at.astimezone():%d %b %H:%M}", json.loads(one.data_json or "{}")["report"]) for one in found]

    def against(self, name: str, held: str) -> Sequence[Compared]:
        """Return a round's guard against that of `held`, base or a number, on the answers that are stored.

        Nothing where one has no answers. It takes seconds at first, and is known until another round ends. Raises
        errors.StoreError.
        """
        if self.compare is None:
            return ()
        with self.store.read() as db:
            key = (held, sum(one.ended_at is not None for one in steps.rounds(db)))
        if key not in self._against:
            try:
                self._against[key] = self.compare(self.store, held)
            except errors.NotFound:
                self._against[key] = {}
        return self._against[key].get(f"round {name}", ())

    def case(self, trace_id: int) -> Case:
        """Return a trace with everything about it. Raises errors.StoreError."""
        with self.store.read() as db:
            return review_queue.case(db, trace_id)

    def similar(self, case: Case, n: int) -> list[tuple[float, Decided]]:
        """Return the n decided traces most similar to a case, and their Jaccard similarity of words.

        Most similar first, newer first among equals. Raises errors.StoreError.
        """
        with self.store.read() as db:
            decided = review_queue.decided(db, _DECIDED)
        known, mine = self._words, _words_of(case.sample.prompt)
        self._words = {one.trace_id: known.get(one.trace_id) or _words_of(one.prompt) for one in decided}
        others = [one for one in decided if one.trace_id != case.trace.id]
        scored = [(_jaccard(mine, self._words[one.trace_id]), one) for one in others]
        return sorted((one for one in scored if one[0] >= _LEAST_SIMILARITY), key=lambda one: -one[0])[:n]

    def want(self, wanted: str) -> None:
        """Request run, pause, stop or stop_now. Raises errors.StoreError."""
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
        """Record a decision, durably. `seen` is the newest decision that the user knew of.

        Raises errors.AlreadyDecided if there is a newer one, and the errors of reviews.review.
        """
        with self.store.write() as db:
            if seen is not None:
                _refuse_newer(reviews.log(db, trace_id), seen)
            self._review(db, trace_id, decision, reason, edited_json)

    def _review(
        self, db: Connection, trace_id: int, decision: str, reason: str | None, edited_json: str | None = None
    ) -> None:
        given: dict[str, Any] = {"decision": decision, "reason": reason, "edited_json": edited_json}
        reviews.review(db, trace_id=trace_id, by=self.by, now=self.clock(), decision_id=self.new_id(), **given)

    def approve_all(self, wanted: QueueFilter, reason: str) -> int:
        """Approve every waiting trace that matches a filter, a few per transaction; return how many."""
        approved, key = 0, None
        while True:
            with self.store.read() as db:
                ids = review_queue.waiting_ids(db, wanted, Page(_CHUNK, key))
            if not ids:
                return approved
            with self.store.write() as db:
                waiting = [one for one in ids if _waits(db, one)]
                for trace_id in waiting:
                    self._review(db, trace_id, "approve", reason)
            approved, key = approved + len(waiting), ids[-1]
            time.sleep(_PAUSE_SECONDS)

    def undo(self) -> int | None:
        """Undo the user's newest decision and return its trace, or None if there is none."""
        with self.store.read() as db:
            last = review_queue.last_by(db, self.by)
        if last is None:
            return None
        self.decide(last.trace_id, "undo")
        return last.trace_id


def _waits(db: Connection, trace_id: int) -> bool:
    in_effect = reviews.standing(db, trace_id)
    return in_effect is not None and in_effect.decision == "wait"


def _words_of(text: str) -> frozenset[str]:
    return frozenset(_WORD.findall(text.lower()))


def _jaccard(ours: frozenset[str], theirs: frozenset[str]) -> float:
    either = len(ours | theirs)
    return len(ours & theirs) / either if either else 0.0


def _refuse_newer(log: Sequence[reviews.Review], seen: int) -> None:
    if log and log[-1].id > seen:
        last = log[-1]
        when = f"{last.decided_at.astimezone():%H:%M:%S}"
        raise errors.AlreadyDecided(f"trace {last.trace_id} was just decided: {last.decision} by {last.by}, {when}")


def command(*words: str) -> list[str]:
    """Return the command line of a wizloop process; `-P` keeps the working directory out of the module path."""
    return [sys.executable, "-P", "-m", "wizloop.loop.cli", *words]
