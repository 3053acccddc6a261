"""Batches: questions submitted together at half the price, polled through restarts, and collected into the ledger.

The intent is written before a batch is submitted and the provider's id after. A batch without an id is looked for in
the provider's list before any of it is sent again, so that nothing is paid for twice and nothing stays ambiguous.
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
from wizloop.backends.teachers.batch_teacher import BatchFault, BatchTeacher, Undecided
from wizloop.loop.context import Context
from wizloop.loop.teaching import bookkeeping, calls
from wizloop.loop.teaching.calls import Job, TeacherClient
from wizloop.recipes.teaching import Batching
from wizloop.store import batches, call_writes
from wizloop.store.batches import Batch
from wizloop.store.teacher_calls import Call

GROUP = 16
"""Calls recorded, or collected, per transaction."""
RETENTION = timedelta(days=30)
"""After this time no provider keeps a batch's results."""
POLL_S = 0.2
"""Seconds between two checks for a stop while a batch is waited for."""
T = TypeVar("T")


class _GivenUp(Exception):
    """The provider's batches are out of reach; what it holds can be collected after another start."""


@dataclass
class InBatches:
    """One teacher, asked in batches. `jobs` returns what is to be asked now, each time it is called."""

    ctx: Context
    client: TeacherClient
    teacher: BatchTeacher
    settings: Batching
    jobs: Callable[[], list[Job]]
    questions: Callable[[Sequence[Call]], dict[str, Question]]
    """Returns the questions of sent calls, by key."""
    clock: Callable[[], float] = time.monotonic
    stopped: str | None = None
    """Why this teacher is no longer asked."""
    _done: int = 0
    _total: int = 0
    _faults: int = 0

    def ask(self) -> str | None:
        """Collect what the provider holds and ask the rest; return why the teacher was given up, or None.

        Raises Interrupted: submitted batches stay with the provider, and are collected after the next start.
        """
        try:
            self._finish_open()
            while not self.stopped and (waiting := self.jobs()):
                self._total = self._done + len(waiting)
                for start in range(0, len(waiting), self.settings.batch_size):
                    if self.stopped or not self._submit_jobs(waiting[start : start + self.settings.batch_size]):
                        break
                self._finish_open()
        except _GivenUp as given_up:
            return str(given_up)
        return self.stopped

    def _open(self) -> list[Batch]:
        with self.ctx.store.read() as db:
            return batches.open_batches(db, self.client.name, self.teacher.model)

    def _submit_jobs(self, jobs: Sequence[Job]) -> bool:
        """Submit as many jobs as the budget allows; return whether that is all of them."""
        paid: dict[int, Question] = {}
        for start in range(0, len(jobs), GROUP):
            group = jobs[start : start + GROUP]
            with self.ctx.store.write() as db:
                planned = bookkeeping.plan(self.ctx, db, self.client, group)
            paid |= {planned[job.question.key]: job.question for job in group if job.question.key in planned}
        if paid:
            self._submit(self._intend(list(paid)), list(paid.values()))
        if len(paid) == len(jobs):
            return True
        if not self._open():
            self.stopped = self.stopped or calls.over_budget(self.ctx)
        return False

    def _intend(self, call_ids: list[int]) -> Batch:
        with self.ctx.store.write() as db:
            keys = [call.key for call in call_writes.states(db, call_ids).values()]
            return batches.intend(
                db,
                tag=_tag(keys, len(batches.every(db)), self.ctx.now()),
                teacher=self.client.name,
                model=self.teacher.model,
                round=self.ctx.round,
                call_ids=call_ids,
                now=self.ctx.now(),
            )

    def _submit(self, batch: Batch, questions: Sequence[Question]) -> None:
        """Submit a batch. One that broke off may have arrived: it stays an intent, and is looked for."""
        try:
            provider_id = self.teacher.submit(questions, batch.tag)
        except BatchFault as fault:
            if fault.answer.billed == "unknown":
                self.ctx.say(f"{self.client.name}: batch {batch.tag} may or may not have arrived ({fault})", "warn")
            else:
                self._drop(batch)
            self._faults += 1
            self._wait_after_fault(fault, self._faults)
            return
        self._faults = 0
        self._submitted(batch, provider_id)

    def _drop(self, batch: Batch) -> None:
        with self.ctx.store.write() as db:
            batches.drop(db, batch.id, self.ctx.now())

    def _submitted(self, batch: Batch, provider_id: str) -> None:
        with self.ctx.store.write() as db:
            batches.submitted(db, batch.id, provider_id, self.ctx.now())

    def _with_retries(self, do: Callable[[], T]) -> T:
        """Make a request, retried as often as the recipe says. Raises _GivenUp, Interrupted."""
        faults = 0
        while True:
            try:
                return do()
            except BatchFault as fault:
                faults += 1
                self._wait_after_fault(fault, faults)

    def _wait_after_fault(self, fault: BatchFault, faults: int) -> None:
        """Wait after a fault. Raises _GivenUp if waiting is useless, Interrupted."""
        settings, answer = self.ctx.recipe.teacher, fault.answer
        if answer.outcome in calls.STOPS:
            raise _GivenUp(calls.stop_reason(answer))
        wait_s = calls.wait_s(answer, faults, settings, 0.5)
        if faults >= settings.tries or wait_s > settings.patience_s:
            raise _GivenUp(f"its batches cannot be reached ({fault})")
        self._wait(wait_s, f"{self.client.name} does not answer about batches ({fault})")

    def _finish_open(self) -> None:
        """Find, wait for and collect every open batch."""
        for batch in self._open():
            try:
                provider_id = batch.provider_id or self._find(batch)
                if provider_id is not None:
                    self._wait_for(batch, provider_id)
                    self._fetch(batch, provider_id)
            except _GivenUp:
                if batch.provider_id is None or self.ctx.now() - batch.created_at < RETENTION:
                    raise
                self._write_off(batch)

    def _find(self, batch: Batch) -> str | None:
        """Return the provider's id of a perhaps submitted batch; None if it was not: its calls are planned again."""
        with self.ctx.store.read() as db:
            keys = [call.key for call in batches.calls_in(db, batch.id)]
            known = {one.provider_id for one in batches.every(db) if one.provider_id is not None}
        find = partial(self.teacher.find, batch.tag, keys, since=batch.created_at, known=known)
        looking = f"looking for batch {batch.tag} at {self.client.name}"
        while True:
            try:
                found = self._with_retries(find)
            except Undecided as why:
                self._wait(self.settings.poll_s, f"{looking}: {why}")
                continue
            age_s = (self.ctx.now() - batch.created_at).total_seconds()
            if found is not None:
                self._submitted(batch, found)
                self.ctx.say(f"{self.client.name} has batch {batch.tag} as {found}: nothing is sent again")
                return found
            if not 0 <= age_s < self.settings.settle_s:
                self._drop(batch)
                return None
            self._wait(min(self.settings.settle_s - age_s, self.settings.poll_s), looking)

    def _wait_for(self, batch: Batch, provider_id: str) -> None:
        polls = 0
        while not self._with_retries(partial(self.teacher.ended, provider_id)):
            polls += 1
            self._wait(
                self.settings.poll_s, f"{self.client.name} is working on a batch of {batch.size}, polled {polls} times"
            )

    def _fetch(self, batch: Batch, provider_id: str) -> None:
        """Collect an ended batch, whose results may appear later. Raises _GivenUp, Interrupted."""
        for last in (*[False] * (self.ctx.recipe.teacher.tries - 1), True):
            try:
                return self._with_retries(partial(self._collect, batch, provider_id))
            except Undecided as why:
                ended = f"{self.client.name} has ended batch {batch.tag}: {why}"
            if last:
                raise _GivenUp(f"{ended}; it is looked for again in the next round, or after another start")
            self._wait(self.settings.poll_s, ended)

    def _write_off(self, batch: Batch) -> None:
        """Mark the rest of a batch that no provider keeps any longer as ambiguous: the user may ask it again."""
        with self.ctx.store.read() as db:
            lost = [call.id for call in batches.calls_in(db, batch.id)]
        self._close(batch, lost, "its batch's results never arrived")

    def _close(self, batch: Batch, lost: Sequence[int], category: str) -> None:
        with self.ctx.store.write() as db:
            call_writes.mark_ambiguous(db, lost, outcome="overloaded", category=category)
            batches.collected(db, batch.id, self.ctx.now())

    def _wait(self, seconds: float, why: str) -> None:
        """Sleep in steps between which the user can stop the run. Raises Interrupted."""
        until = self.clock() + seconds
        while (left := until - self.clock()) > 0:
            self.ctx.progress(self._done, self._total, why)
            time.sleep(min(left, POLL_S))

    def _collect(self, batch: Batch, provider_id: str) -> None:
        """Record every answer; calls that the results leave out become ambiguous, and stay charged."""
        with self.ctx.store.read() as db:
            sent = {call.key: call for call in batches.calls_in(db, batch.id)}
        group: list[tuple[int, Answer]] = []
        try:
            for key, answer in self.teacher.collect(provider_id, self.questions(list(sent.values()))):
                call = sent.pop(key, None)
                if call is None:
                    continue
                group.append((call.id, answer))
                if len(group) == GROUP:
                    self._record(group)
                    group = []
        finally:
            self._record(group)
        self._close(batch, [call.id for call in sent.values()], "not in the batch's results")

    def _record(self, answers: Sequence[tuple[int, Answer]]) -> None:
        self.stopped = bookkeeping.record(self.ctx, self.client, answers) or self.stopped
        self._done += len(answers)


def _tag(keys: Sequence[str], before: int, now: datetime) -> str:
    """Return a name for a batch that no other has, in any workspace: 27 characters that every provider accepts."""
    named = json.dumps([list(keys), before, now.isoformat()])
    return f"wz-{hashlib.sha256(named.encode()).hexdigest()[:24]}"
