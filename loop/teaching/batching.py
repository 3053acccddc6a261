"""Batches: questions handed in together at half the price, polled through restarts, and collected into the ledger.

The intent is written before a batch leaves and the provider's id after. A batch without an id is looked for in the
provider's list before any of it is sent again, so that nothing is paid for twice and nothing stays in doubt.
"""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

from wizloop.backends.teachers.base import Answer, Question
from wizloop.backends.teachers.batch_api import BatchFault, BatchTeacher, NotYetTold
from wizloop.loop.context import Context
from wizloop.loop.teaching import bookkeeping, calls
from wizloop.loop.teaching.calls import Job, Seat
from wizloop.recipes.teaching import Batching
from wizloop.store import batches, teacher_calls, teacher_calls_bulk
from wizloop.store.batches import Batch
from wizloop.store.teacher_calls import Call

TOGETHER = 16
"""Calls that are written down, or collected, in one transaction."""
KEPT = timedelta(days=30)
"""Since a batch was handed in; after so long no provider keeps its results."""
LOOK_S = 0.2
"""How often the person's wish is read while a batch is waited for."""
T = TypeVar("T")


class _GivenUp(Exception):
    """This provider's batches cannot be had now; what is with it can be collected after another start."""


@dataclass
class InBatches:
    """One teacher, asked in batches. `jobs` gives what is to be asked now, each time it is called."""

    ctx: Context
    seat: Seat
    teacher: BatchTeacher
    settings: Batching
    jobs: Callable[[], list[Job]]
    asked: Callable[[Sequence[Call]], dict[str, Question]]
    """The questions of calls that were sent, by key."""
    clock: Callable[[], float] = time.monotonic
    stopped: str | None = None
    """Why this teacher is not asked any more."""
    _done: int = 0
    _total: int = 0
    _faults: int = 0

    def ask(self) -> str | None:
        """Ask everything, with what is still with the provider first; why the teacher was given up, or None.

        Raises Interrupted: what was handed in stays with the provider, and is collected after the next start.
        """
        try:
            self._ask()
        except _GivenUp as given_up:
            return str(given_up)
        return self.stopped

    def _ask(self) -> None:
        self._see_through()
        while not self.stopped and (waiting := self.jobs()):
            self._total = self._done + len(waiting)
            for start in range(0, len(waiting), self.settings.batch_size):
                if self.stopped or not self._hand_in(waiting[start : start + self.settings.batch_size]):
                    break
            self._see_through()

    def _hand_in(self, jobs: Sequence[Job]) -> bool:
        """Write an intent for as many as there is money for, and submit it; whether all could be paid."""
        affordable: dict[int, Question] = {}
        for start in range(0, len(jobs), TOGETHER):
            piece = jobs[start : start + TOGETHER]
            with self.ctx.store.write() as db:
                planned = bookkeeping.plan(self.ctx, db, self.seat, piece)
            affordable |= {planned[job.question.key]: job.question for job in piece if job.question.key in planned}
        if affordable:
            self._submit(self._intend(list(affordable)), list(affordable.values()))
        if len(affordable) == len(jobs):
            return True
        with self.ctx.store.read() as db:
            under_way = batches.open_batches(db, self.seat.name, self.teacher.model)
        if not under_way:
            self.stopped = self.stopped or calls.over_budget(self.ctx)
        return False

    def _intend(self, call_ids: list[int]) -> Batch:
        with self.ctx.store.write() as db:
            keys = [call.key for call in teacher_calls_bulk.held(db, call_ids).values()]
            tag = _tag(keys, len(batches.every(db)), self.ctx.now())
            batches.intend(
                db,
                tag=tag,
                teacher=self.seat.name,
                model=self.teacher.model,
                round=self.ctx.round,
                call_ids=call_ids,
                now=self.ctx.now(),
            )
            return batches.open_batches(db, self.seat.name, self.teacher.model)[-1]

    def _submit(self, batch: Batch, questions: Sequence[Question]) -> None:
        """Hand a batch in. What broke off on the way may have arrived: it stays an intent, and is looked for."""
        try:
            provider_id = self.teacher.submit(questions, batch.tag)
        except BatchFault as fault:
            if fault.answer.billed == "unknown":
                self.ctx.say(f"{self.seat.name}: nobody knows whether batch {batch.tag} arrived ({fault})", "warn")
            else:
                with self.ctx.store.write() as db:
                    batches.drop(db, batch.id, self.ctx.now())
            self._faults += 1
            self._bear(fault, self._faults)
            return
        self._faults = 0
        with self.ctx.store.write() as db:
            batches.submitted(db, batch.id, provider_id, self.ctx.now())

    def _insist(self, do: Callable[[], T]) -> T:
        """What the provider answers, tried again as often as the recipe says. Raises _GivenUp, Interrupted."""
        faults = 0
        while True:
            try:
                return do()
            except BatchFault as fault:
                faults += 1
                self._bear(fault, faults)

    def _bear(self, fault: BatchFault, faults: int) -> None:
        """Wait after a fault. Raises _GivenUp where that is of no use, Interrupted."""
        settings, answer = self.ctx.recipe.teacher, fault.answer
        if answer.outcome in calls.STOPS:
            raise _GivenUp(calls.stop_sentence(answer))
        wait_s = calls.wait_s(answer, faults, settings, 0.5)
        if faults >= settings.tries or wait_s > settings.patience_s:
            raise _GivenUp(f"its batches cannot be reached ({fault})")
        self._wait(wait_s, f"{self.seat.name} does not answer about batches ({fault})")

    def _see_through(self) -> None:
        """Find, wait for and collect every batch that is open."""
        with self.ctx.store.read() as db:
            under_way = batches.open_batches(db, self.seat.name, self.teacher.model)
        for batch in under_way:
            try:
                found = batch.provider_id or self._find(batch)
                if found is not None:
                    self._wait_for(batch, found)
                    self._fetch(batch, found)
            except _GivenUp:
                if batch.provider_id is None or self.ctx.now() - batch.created_at < KEPT:
                    raise
                self._write_off(batch)

    def _find(self, batch: Batch) -> str | None:
        """The provider's id of a batch that was perhaps handed in; None when it never was: its calls are free again."""
        with self.ctx.store.read() as db:
            keys = [call.key for call in batches.calls_in(db, batch.id)]
            known = {one.provider_id for one in batches.every(db) if one.provider_id is not None}
        look = partial(self.teacher.find, batch.tag, keys, since=batch.created_at, known=known)
        while True:
            try:
                found = self._insist(look)
            except NotYetTold as why:
                self._wait(self.settings.poll_s, f"looks for batch {batch.tag} at {self.seat.name}: {why}")
                continue
            age_s = (self.ctx.now() - batch.created_at).total_seconds()
            if found is not None:
                with self.ctx.store.write() as db:
                    batches.submitted(db, batch.id, found, self.ctx.now())
                self.ctx.say(f"{self.seat.name} has batch {batch.tag} as {found}: nothing is sent again")
                return found
            if not 0 <= age_s < self.settings.settle_s:
                with self.ctx.store.write() as db:
                    batches.drop(db, batch.id, self.ctx.now())
                return None
            left = self.settings.settle_s - age_s
            self._wait(min(left, self.settings.poll_s), f"looks for batch {batch.tag} at {self.seat.name}")

    def _wait_for(self, batch: Batch, provider_id: str) -> None:
        looks = 0
        while not self._insist(partial(self.teacher.poll, provider_id)).ended:
            looks += 1
            told = f"{self.seat.name} works on a batch of {batch.size}, asked for {looks} times"
            self._wait(self.settings.poll_s, told)

    def _fetch(self, batch: Batch, provider_id: str) -> None:
        """Collect a batch that has ended, and whose results may be there later. Raises _GivenUp, Interrupted."""
        looks = 0
        while True:
            try:
                return self._insist(partial(self._collect, batch, provider_id))
            except NotYetTold as why:
                looks += 1
                told = f"{self.seat.name} has ended batch {batch.tag}: {why}"
            if looks == self.ctx.recipe.teacher.tries:
                raise _GivenUp(f"{told}; it is looked for again in the next round, or after another start")
            self._wait(self.settings.poll_s, told)

    def _write_off(self, batch: Batch) -> None:
        """Let what is left of a batch, which no provider keeps any more, be in doubt: a person may ask it again."""
        with self.ctx.store.write() as db:
            lost = [call.id for call in batches.calls_in(db, batch.id)]
            teacher_calls.mark_ambiguous(db, lost, outcome="overloaded", category="its batch's results were never told")
            batches.collected(db, batch.id, self.ctx.now())

    def _wait(self, seconds: float, why: str) -> None:
        """Let time pass, in steps in which the person can end it. Raises Interrupted."""
        until = self.clock() + seconds
        while (left := until - self.clock()) > 0:
            self.ctx.progress(self._done, self._total, why)
            time.sleep(min(left, LOOK_S))

    def _collect(self, batch: Batch, provider_id: str) -> None:
        """Put every answer into the ledger; what the provider does not speak of stays in doubt, and charged."""
        with self.ctx.store.read() as db:
            sent = {call.key: call for call in batches.calls_in(db, batch.id)}
        piece: list[tuple[int, Answer]] = []
        try:
            for key, answer in self.teacher.collect(provider_id, self.asked(list(sent.values()))):
                call = sent.pop(key, None)
                if call is None:
                    continue
                piece.append((call.id, answer))
                if len(piece) == TOGETHER:
                    self._record(piece)
                    piece = []
        finally:
            self._record(piece)
        with self.ctx.store.write() as db:
            lost = [call.id for call in sent.values()]
            teacher_calls.mark_ambiguous(db, lost, outcome="overloaded", category="not in the batch's results")
            batches.collected(db, batch.id, self.ctx.now())

    def _record(self, came: Sequence[tuple[int, Answer]]) -> None:
        self.stopped = bookkeeping.record(self.ctx, self.seat, came) or self.stopped
        self._done += len(came)


def _tag(keys: Sequence[str], before: int, now: datetime) -> str:
    """A name for a batch that no other has, in this workspace or another: 27 characters that every provider takes."""
    named = json.dumps([list(keys), before, now.isoformat()])
    return f"wz-{hashlib.sha256(named.encode()).hexdigest()[:24]}"
