"""Live calls, side by side: a pool of threads that only ask, and one thread that keeps the ledger and the pace.

What was sent is waited for and written down, also when somebody wants the night to end: no usage is lost.
"""

import heapq
import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from wizloop.backends.teacher import Answer
from wizloop.loop import calls
from wizloop.loop.calls import Job, Seat
from wizloop.loop.context import Context
from wizloop.loop.limiter import Limiter
from wizloop.recipes.teaching import Remote
from wizloop.store import teaching

LOOK_S = 0.2
"""How often the person's wish is read while nothing happens."""
TOGETHER = 16
"""Calls that leave, or come back, in one transaction."""


@dataclass(frozen=True)
class _Flight:
    call_id: int
    job: Job
    tokens: int


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
                if self._flying:
                    self._gather(None)
        return self.stopped

    def _ask_all(self, threads: ThreadPoolExecutor) -> None:
        while self._flying or (self._due and not self.stopped):
            self.ctx.between_pieces(self._done, self._total, self._waits_for())
            if not self.stopped:
                self._launch(threads)
            self._gather(self._pause())

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
        full = len(self._flying) >= self.settings.concurrency
        return LOOK_S if full or not self._due else min(LOOK_S, self._wait_s())

    def _waits_for(self) -> str:
        left = self.limiter.parked_until - self.clock()
        if self._flying or left < 1:
            return ""
        return f"{self.seat.name} limits the rate: {len(self._due)} questions wait, {left / 60:.1f} minutes left"

    def _launch(self, threads: ThreadPoolExecutor) -> None:
        ready: list[tuple[int, Job]] = []
        room = min(TOGETHER, self.settings.concurrency - len(self._flying))
        while self._due and len(ready) < room and self._wait_s() == 0:
            _, _, tokens, job = heapq.heappop(self._due)
            ready.append((tokens, job))
            self.limiter.sent(tokens)
        if not ready:
            return
        left = self._written_down([job for _, job in ready])
        for tokens, job in ready:
            call_id = left.get(job.question.key)
            if call_id is None:
                self.limiter.came(tokens)
                self._push_at(job, self.clock())
                continue
            self._flying[threads.submit(self.seat.teacher.ask, job.question)] = _Flight(call_id, job, tokens)
        if len(left) < len(ready) and not self._flying:
            self._stop(calls.over_budget(self.ctx))

    def _written_down(self, ready: Sequence[Job]) -> dict[str, int]:
        """Write down that these leave; the ids of those that may, by key: the money may not suffice for all."""
        left: dict[str, int] = {}
        with self.ctx.store.write() as db:
            for job in ready:
                call_id = calls.plan(self.ctx, db, self.seat, job)
                if call_id is None:
                    continue
                left[job.question.key] = call_id
            teaching.mark_sent(db, list(left.values()), self.ctx.now())
        return left

    def _gather(self, timeout: float | None) -> None:
        """Write down what has come within so many seconds; None waits for everything."""
        if not self._flying:
            if timeout:
                time.sleep(timeout)
            return
        how = "ALL_COMPLETED" if timeout is None else FIRST_COMPLETED
        came = list(wait(self._flying, timeout, return_when=how).done)
        for start in range(0, len(came), TOGETHER):
            self._record([(self._flying.pop(one), one.result()) for one in came[start : start + TOGETHER]])

    def _record(self, came: Sequence[tuple[_Flight, Answer]]) -> None:
        with self.ctx.store.write() as db:
            for flight, answer in came:
                self._stop(calls.keep(self.ctx, db, self.seat, flight.call_id, answer))
        again = [(flight, answer, self._learn(flight, answer)) for flight, answer in came]
        with self.ctx.store.write() as db:
            for flight, answer, retry_in_s in again:
                calls.end(self.ctx, db, flight.call_id, answer, retry_in_s)
        for flight, answer, retry_in_s in again:
            self._next(flight.job, answer, retry_in_s)

    def _learn(self, flight: _Flight, answer: Answer) -> float | None:
        """Tell the limiter what an answer says of the provider; seconds until the question may be tried again."""
        at, settings = self.clock(), self.ctx.recipe.teacher
        self.limiter.came(flight.tokens)
        if answer.limits is not None:
            self.limiter.learn(answer.limits, at)
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

    def _next(self, job: Job, answer: Answer, retry_in_s: float | None) -> None:
        if answer.outcome in calls.STOPS:
            self._stop(calls.stop_sentence(answer))
        following = None if answer.trace is not None else self.more(job)
        if following is None:
            self._done += 1
        else:
            self._push_at(following, self.clock() + (retry_in_s or 0.0))

    def _stop(self, why: str | None) -> None:
        self.stopped = self.stopped or why
