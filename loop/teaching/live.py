"""Concurrent live calls: a pool of threads that only ask, and one thread that keeps the ledger and the pace.

A sent call is always waited for and recorded, even when the user stops the run: no usage is lost.
"""

import heapq
import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from queue import Empty, SimpleQueue

from wizloop.backends.teachers.base import Answer
from wizloop.loop.context import Context
from wizloop.loop.teaching import bookkeeping, calls
from wizloop.loop.teaching.calls import Job, TeacherClient
from wizloop.loop.teaching.limiter import Limiter
from wizloop.recipes.teaching import Remote
from wizloop.store.call_writes import CallState

POLL_S = 0.2
"""Seconds between two checks for a stop while nothing happens."""
GROUP = 16
"""Calls sent, or answers stored, in one transaction."""
SHARE, MAX_GATHER_S = 0.025, 0.01
"""How long an answer waits for others to be stored with: a share of its call's time, and seconds at most.

Storing sixteen costs the ledger little more than storing one, and no call is sent meanwhile; waiting longer than 20 ms
loses more than it saves.
"""
LINGER_S = 0.05
"""How long a call whose bill is stored waits to be ended together with the next bills."""


@dataclass(frozen=True)
class _Flight:
    call: CallState
    job: Job
    tokens: int
    sent_at: float


@dataclass(frozen=True)
class _Returned:
    """A call that is over, and the seconds until its question may be asked again."""

    call: CallState
    job: Job
    answer: Answer
    retry_in_s: float | None


@dataclass
class Live:
    """One teacher, asked about many samples concurrently. `retry` gives a failed job's next job, or None."""

    ctx: Context
    client: TeacherClient
    settings: Remote
    retry: Callable[[Job], Job | None]
    clock: Callable[[], float] = time.monotonic
    limiter: Limiter = field(default_factory=Limiter)
    stopped: str | None = None
    """Why this teacher is no longer asked."""
    _due: list[tuple[float, int, int, Job]] = field(default_factory=list)
    _flying: dict[Future[Answer], _Flight] = field(default_factory=dict)
    _over: SimpleQueue[Future[Answer]] = field(default_factory=SimpleQueue)
    _returned: list[_Returned] = field(default_factory=list)
    """Calls whose bills are not in the ledger yet."""
    _kept: list[_Returned] = field(default_factory=list)
    """Calls whose bills are in the ledger, and which have not been ended."""
    _short: bool = False
    """Whether the budget does not cover the next question until an answer settles a reservation."""
    _order: int = 0
    _done: int = 0
    _total: int = 0

    def ask(self, jobs: Sequence[Job]) -> str | None:
        """Ask all questions; return why the teacher was given up early, or None. Raises Interrupted between calls."""
        self._total = len(jobs)
        self._random = random.Random(self.ctx.seed("spread", self.client.name))
        for job in jobs:
            left = 0.0 if job.not_before is None else (job.not_before - self.ctx.now()).total_seconds()
            # A wall clock that was set back must not delay a question for a day.
            self._push(job, min(max(left, 0.0), self.ctx.recipe.teacher.patience_s))
        with ThreadPoolExecutor(self.settings.concurrency, thread_name_prefix=self.client.name) as threads:
            try:
                while self._flying or self._kept or (self._due and not self.stopped):
                    self.ctx.progress(self._done, self._total, self._waiting_for())
                    self._gather(self._pause())
                    self._launch(threads)
            finally:
                while self._flying or self._returned or self._kept:
                    self._gather(None)
                    self._record([])
        return self.stopped

    def _push(self, job: Job, delay_s: float) -> None:
        self._order += 1
        bound = self.client.teacher.worst_usage(job.question)
        tokens = bound.input_tokens + bound.output_tokens
        heapq.heappush(self._due, (self.clock() + delay_s, self._order, tokens, job))

    def _wait_s(self) -> float:
        """Return the seconds until the next question may leave."""
        at = self.clock()
        due_at, _, tokens, _ = self._due[0]
        return max(0.0, due_at - at, self.limiter.wait(at, tokens))

    def _pause(self) -> float:
        """Return the seconds until something other than an answer can happen."""
        most = LINGER_S if self._kept else POLL_S
        full = self._short or len(self._flying) >= self.settings.concurrency
        if full or self.stopped or not self._due:
            return most if self._flying else 0.0
        return min(most, self._wait_s())

    def _waiting_for(self) -> str:
        left = self.limiter.parked_until - self.clock()
        if self._flying or left < 1:
            return ""
        return f"{self.client.name} limits the rate: {len(self._due)} questions wait, {left / 60:.1f} minutes left"

    def _launch(self, threads: ThreadPoolExecutor) -> None:
        """Record what has returned and what leaves, and send it."""
        ready = self._ready()
        sent = self._record([job for _, job in ready])
        for tokens, job in ready:
            call = sent.get(job.question.key)
            if call is None:
                self.limiter.returned(tokens)
                self._push(job, 0.0)
                continue
            asking = threads.submit(self.client.teacher.ask, job.question)
            self._flying[asking] = _Flight(call, job, tokens, self.clock())
            asking.add_done_callback(self._over.put)
        if ready:
            self._short = len(sent) < len(ready)
        if self._short and not self._flying and not self.stopped:
            self._stop(calls.over_budget(self.ctx))

    def _ready(self) -> list[tuple[int, Job]]:
        """Return the questions that may leave now, each with its tokens."""
        ready: list[tuple[int, Job]] = []
        room = min(GROUP, self.settings.concurrency - len(self._flying))
        held_back = self.stopped or (self._short and not self._returned)
        while not held_back and self._due and len(ready) < room and self._wait_s() == 0:
            _, _, tokens, job = heapq.heappop(self._due)
            ready.append((tokens, job))
            self.limiter.sent(tokens)
        return ready

    def _record(self, ready: Sequence[Job]) -> dict[str, CallState]:
        """Write in one transaction: the new bills, the ends of calls whose bills are stored, and what leaves.

        Returns the calls that may leave, by key: the budget may not cover all.
        """
        if not (self._returned or self._kept or ready):
            return {}
        with self.ctx.store.write() as db:
            self._stop(bookkeeping.end(self.ctx, db, [(one.call, one.answer, one.retry_in_s) for one in self._kept]))
            answers = [(one.call, one.answer) for one in self._returned]
            states, why = bookkeeping.keep(self.ctx, db, self.client, answers)
            self._stop(why)
            sent = {} if self.stopped else bookkeeping.send(self.ctx, db, self.client, ready)
        self._short = self._short and not self._returned
        ended, self._kept = self._kept, [replace(one, call=states[one.call.id]) for one in self._returned]
        self._returned = []
        for one in ended:
            self._next(one)
        return sent

    def _gather(self, timeout: float | None) -> None:
        """Collect what returns within `timeout` seconds; None waits for the next."""
        if not self._flying:
            if timeout:
                time.sleep(timeout)
            return
        over = [(self._flying.pop(asking), asking) for asking in self._next_over(timeout)]
        for flight, asking in over:
            if asking.exception() is None:
                answer = asking.result()
                self._returned.append(_Returned(flight.call, flight.job, answer, self._learn(flight, answer)))
        if any(asking.exception() is not None for _, asking in over):
            self._record([])
            for _, asking in over:
                asking.result()

    def _next_over(self, timeout: float | None) -> list[Future[Answer]]:
        """Return the next call that is over, and those that are over soon after it."""
        over: list[Future[Answer]] = []
        try:
            over.append(self._over.get(timeout=timeout))
            now = self.clock()
            until = now + min(MAX_GATHER_S, SHARE * (now - self._flying[over[0]].sent_at))
            while len(over) < min(GROUP, len(self._flying)):
                over.append(self._over.get(timeout=max(0.0, until - self.clock())))
        except Empty:
            pass
        return over

    def _learn(self, flight: _Flight, answer: Answer) -> float | None:
        """Apply what an answer tells about the provider; return the seconds until the question may be retried."""
        at, settings = self.clock(), self.ctx.recipe.teacher
        self.limiter.returned(flight.tokens)
        if answer.limits is not None:
            self.limiter.learn(answer.limits, at)
        if answer.outcome in calls.STOPS:
            self._stop(calls.stop_reason(answer))
        if answer.outcome not in calls.RETRIED:
            self.limiter.recovered()
            return None
        retry_in_s = calls.wait_s(answer, flight.job.attempt, settings, self._random.random())
        if answer.outcome == "rate_limited":
            self.limiter.park(at + retry_in_s)
            if retry_in_s > settings.patience_s:
                self._stop(f"it asks to wait {retry_in_s / 60:.0f} minutes")
        else:
            self.limiter.overloaded(at, settings.backoff_s)
        return retry_in_s

    def _next(self, ended: _Returned) -> None:
        job = None if ended.answer.trace is not None else self.retry(ended.job)
        if job is None:
            self._done += 1
        else:
            self._push(job, ended.retry_in_s or 0.0)

    def _stop(self, why: str | None) -> None:
        self.stopped = self.stopped or why
