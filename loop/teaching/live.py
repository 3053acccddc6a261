"""Live calls, side by side: a pool of threads that only ask, and one thread that keeps the ledger and the pace.

What was sent is waited for and written down, also when somebody wants the night to end: no usage is lost.
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
from wizloop.loop.teaching.calls import Job, Seat
from wizloop.loop.teaching.limiter import Limiter
from wizloop.recipes.teaching import Remote
from wizloop.store.teacher_calls_bulk import Held

LOOK_S = 0.2
"""How often the person's wish is read while nothing happens."""
TOGETHER = 16
"""Calls that leave, or come back, in one transaction."""
SHARE, MOST_S = 0.025, 0.01
"""How long an answer waits for others to be written down with: a share of the time that it took, and seconds at most.

Sixteen cost the ledger little more work than one, and while that work is done nobody asks; waiting longer than 20 ms
loses more than that.
"""
LINGER_S = 0.05
"""How long a call whose bill is kept waits to be ended together with the next bills."""


@dataclass(frozen=True)
class _Flight:
    call: Held
    job: Job
    tokens: int
    left_at: float


@dataclass(frozen=True)
class _Landed:
    """A call that is over, as it stands, and the seconds until its question may be asked again."""

    call: Held
    flight: _Flight
    answer: Answer
    retry_in_s: float | None


@dataclass
class Live:
    """One teacher, asked about many samples at once. `more` gives what a failed call is asked as next."""

    ctx: Context
    seat: Seat
    settings: Remote
    more: Callable[[Job], Job | None]
    clock: Callable[[], float] = time.monotonic
    limiter: Limiter = field(default_factory=Limiter)
    stopped: str | None = None
    """Why this teacher is not asked any more."""
    _due: list[tuple[float, int, int, Job]] = field(default_factory=list)
    _flying: dict[Future[Answer], _Flight] = field(default_factory=dict)
    _over: SimpleQueue[Future[Answer]] = field(default_factory=SimpleQueue)
    _landed: list[_Landed] = field(default_factory=list)
    """Calls whose bills are not in the ledger yet."""
    _kept: list[_Landed] = field(default_factory=list)
    """Calls whose bills are in the ledger, and which have not been ended."""
    _short: bool = False
    """Whether the money does not suffice for the next question before an answer settles what is held."""
    _order: int = 0
    _done: int = 0
    _total: int = 0

    def ask(self, jobs: Sequence[Job]) -> str | None:
        """Ask them all; why the teacher was given up before its time, or None. Raises Interrupted between two calls."""
        self._total = len(jobs)
        self._spread = random.Random(self.ctx.seed("spread", self.seat.name))
        for job in jobs:
            self._push(job)
        with ThreadPoolExecutor(self.settings.concurrency, thread_name_prefix=self.seat.name) as threads:
            try:
                self._ask_all(threads)
            finally:
                while self._flying or self._landed or self._kept:
                    self._gather(None)
                    self._write_down([])
        return self.stopped

    def _ask_all(self, threads: ThreadPoolExecutor) -> None:
        while self._flying or self._kept or (self._due and not self.stopped):
            self.ctx.progress(self._done, self._total, self._waits_for())
            self._gather(self._pause())
            self._launch(threads)

    def _push(self, job: Job) -> None:
        left = 0.0 if job.not_before is None else (job.not_before - self.ctx.now()).total_seconds()
        # A wall clock that was set back must not hold a question for a day.
        self._push_at(job, self.clock() + min(max(left, 0.0), self.ctx.recipe.teacher.patience_s))

    def _push_at(self, job: Job, at: float) -> None:
        self._order += 1
        heapq.heappush(self._due, (at, self._order, self._tokens(job), job))

    def _wait_s(self) -> float:
        """Seconds until the next question may leave."""
        at = self.clock()
        due_at, _, tokens, _ = self._due[0]
        return max(0.0, due_at - at, self.limiter.wait(at, tokens))

    def _tokens(self, job: Job) -> int:
        bound = self.seat.teacher.worst_usage(job.question)
        return bound.input_tokens + bound.output_tokens

    def _pause(self) -> float:
        """Seconds until something can happen that is not an answer."""
        most = LINGER_S if self._kept else LOOK_S
        full = self._short or len(self._flying) >= self.settings.concurrency
        if full or self.stopped or not self._due:
            return most if self._flying else 0.0
        return min(most, self._wait_s())

    def _waits_for(self) -> str:
        left = self.limiter.parked_until - self.clock()
        if self._flying or left < 1:
            return ""
        return f"{self.seat.name} limits the rate: {len(self._due)} questions wait, {left / 60:.1f} minutes left"

    def _launch(self, threads: ThreadPoolExecutor) -> None:
        """Write down what has come and what leaves, and let it leave."""
        ready = self._ready()
        left = self._write_down([job for _, job in ready])
        for tokens, job in ready:
            call = left.get(job.question.key)
            if call is None:
                self.limiter.came(tokens)
                self._push_at(job, self.clock())
                continue
            sent = threads.submit(self.seat.teacher.ask, job.question)
            self._flying[sent] = _Flight(call, job, tokens, self.clock())
            sent.add_done_callback(self._over.put)
        if ready:
            self._short = len(left) < len(ready)
        if self._short and not self._flying and not self.stopped:
            self._stop(calls.over_budget(self.ctx))

    def _ready(self) -> list[tuple[int, Job]]:
        """The questions that may leave now, each with its tokens."""
        ready: list[tuple[int, Job]] = []
        room = min(TOGETHER, self.settings.concurrency - len(self._flying))
        held_back = self.stopped or (self._short and not self._landed)
        while not held_back and self._due and len(ready) < room and self._wait_s() == 0:
            _, _, tokens, job = heapq.heappop(self._due)
            ready.append((tokens, job))
            self.limiter.sent(tokens)
        return ready

    def _write_down(self, ready: Sequence[Job]) -> dict[str, Held]:
        """In one transaction: the bills of what has come, the ends of what was kept before, and what leaves.

        Returns how those stand, by key, that may leave: the money may not suffice for all.
        """
        if not (self._landed or self._kept or ready):
            return {}
        with self.ctx.store.write() as db:
            bookkeeping.end(self.ctx, db, [(one.call, one.answer, one.retry_in_s) for one in self._kept])
            came = [(one.call, one.answer) for one in self._landed]
            standing, why = bookkeeping.keep(self.ctx, db, self.seat, came)
            self._stop(why)
            left = {} if self.stopped else bookkeeping.send(self.ctx, db, self.seat, ready)
        self._short = self._short and not self._landed
        ended, self._kept = self._kept, [replace(one, call=standing[one.call.id]) for one in self._landed]
        self._landed = []
        for one in ended:
            self._next(one)
        return left

    def _gather(self, timeout: float | None) -> None:
        """See what comes within so many seconds; None waits for the next."""
        if not self._flying:
            if timeout:
                time.sleep(timeout)
            return
        came = [(self._flying.pop(one), one) for one in self._came(timeout)]
        for flight, one in came:
            if one.exception() is None:
                self._landed.append(_Landed(flight.call, flight, one.result(), self._learn(flight, one.result())))
        if any(one.exception() is not None for _, one in came):
            self._write_down([])
            for _, one in came:
                one.result()

    def _came(self, timeout: float | None) -> list[Future[Answer]]:
        """The calls that are over: the next, and those that are over soon after it."""
        came: list[Future[Answer]] = []
        try:
            came.append(self._over.get(timeout=timeout))
            now = self.clock()
            until = now + min(MOST_S, SHARE * (now - self._flying[came[0]].left_at))
            while len(came) < min(TOGETHER, len(self._flying)):
                came.append(self._over.get(timeout=max(0.0, until - self.clock())))
        except Empty:
            pass
        return came

    def _learn(self, flight: _Flight, answer: Answer) -> float | None:
        """What an answer says of the provider; seconds until the question may be tried again."""
        at, settings = self.clock(), self.ctx.recipe.teacher
        self.limiter.came(flight.tokens)
        if answer.limits is not None:
            self.limiter.learn(answer.limits, at)
        if answer.outcome in calls.STOPS:
            self._stop(calls.stop_sentence(answer))
        if answer.outcome not in calls.WAITS:
            self.limiter.well()
            return None
        retry_in_s = calls.wait_s(answer, flight.job.attempt, settings, self._spread.random())
        if answer.outcome == "rate_limited":
            self.limiter.park(at + retry_in_s)
            if retry_in_s > settings.patience_s:
                self._stop(f"it asks for {retry_in_s / 60:.0f} minutes of patience")
        else:
            self.limiter.overloaded(at, settings.backoff_s)
        return retry_in_s

    def _next(self, kept: _Landed) -> None:
        following = None if kept.answer.trace is not None else self.more(kept.flight.job)
        if following is None:
            self._done += 1
        else:
            self._push_at(following, self.clock() + (kept.retry_in_s or 0.0))

    def _stop(self, why: str | None) -> None:
        self.stopped = self.stopped or why
