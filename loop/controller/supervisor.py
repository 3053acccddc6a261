"""The controller of a workspace: does the night in a worker process, outlives the worker, and writes down how it ended.

It imports no model library, so that whatever a model does to its process, this one is there to tell of it.
"""

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import psutil

from wizloop.loop.controller import lock, starting
from wizloop.loop.controller.night import Ending, night
from wizloop.loop.controller.notify import Notifier
from wizloop.loop.controller.worker_process import Died, WorkerProcess
from wizloop.loop.interrupted import Interrupted
from wizloop.recipes import schema
from wizloop.recipes.schema import Recipe
from wizloop.store import control, errors, events, steps
from wizloop.store.db import Store, make_folder

LOG = Path("logs") / "worker.log"
PHASES = "wizloop.loop.phases.order"
_LEAST_SCALE = 1 / 64
_BAD_INPUT = (
    *("ImportRefused", "RowsRefused", "PolicyError", "ModelMissing", "NotReady", "PriceError", "BadRecording"),
    "PluginError",
)
"""The errors of a phase that are the fault of what the recipe names."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How often the supervisor looks at things, in seconds."""

    poll_s: float = 0.2
    beat_s: float = 4.0
    disk_s: float = 30.0
    """After a full disk, until the next try."""
    beats_missed: float = 60
    """So many of the recipe's heartbeats without progress and without a second of computing: the worker is killed."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How the night ended. `by_signal` tells Ctrl-C from a stop that the person asked for through the store, and
    `bad_input` a file, model or policy that could not be used from any other failure.
    """

    state: Literal["done", "stopped", "failed"]
    reason: str
    by_signal: bool = False
    bad_input: bool = False


class PhaseFailed(Exception):
    """A phase could not do its work; the message is the sentence for the person."""

    def __init__(self, message: str, kind: str = "") -> None:
        super().__init__(message)
        self.kind = kind


@contextmanager
def controlling(
    workspace: Path,
    asked: str | None,
    limits: starting.Limits,
    *,
    clock: Callable[[], datetime],
    phases: str = PHASES,
    pace: Pace | None = None,
) -> Iterator["Supervisor"]:
    """Become the controller of a workspace, made where needed, with its run ready to go. Catches signals meanwhile.

    `asked` names a recipe; None takes the run's own, or the default. Raises lock.Held, starting.OtherRecipe,
    starting.TeacherMissing, schema.RecipeError, errors.StoreError.
    """
    recipe = None if asked is None else schema.load(asked)
    make_folder(workspace)
    with lock.held(workspace, clock()) as holder:
        with Store.create(workspace) as store:
            recipe = starting.begin(store, recipe, limits, clock())
            starting.check_teachers(store, recipe, clock())
            generation = _claim(store, holder, clock())
        with Store.open(workspace, generation=generation) as store:
            supervisor = Supervisor(store, workspace, recipe, generation, clock, phases, pace or Pace())
            supervisor.notifier = Notifier.of(recipe.notify, recipe.name, supervisor.warn)
            with supervisor.catching_signals():
                yield supervisor


def patience(recipe: Recipe, pace: Pace) -> float:
    """Seconds of silence after which a worker counts as hung: more than a call that it waits for may take."""
    asked = [getattr(recipe.teacher, name, None) for name in recipe.teacher.names]
    calls = [getattr(one, "deadline_s", 0.0) for one in (*asked, recipe.guard.server)]
    return max(pace.beats_missed * recipe.worker.heartbeat_s, 2 * max(calls))


def _claim(store: Store, holder: lock.Holder, now: datetime) -> int:
    boot_id = str(int(psutil.boot_time()))
    with store.write() as db:
        return control.claim_controller(db, pid=holder.pid, host=holder.host, boot_id=boot_id, now=now)


@dataclass
class Supervisor:
    """One controller at work. Ask it once: `run()`."""

    store: Store
    workspace: Path
    recipe: Recipe
    generation: int
    clock: Callable[[], datetime]
    phases: str
    pace: Pace
    notifier: Notifier | None = None
    on_hangup: Callable[[], None] = lambda: None
    """What is done at once when the terminal goes away; it may not touch the store, which may be at work."""
    _worker: WorkerProcess | None = None
    _signals: int = 0
    _hung_up: bool = False
    _scales: dict[str, float] = field(default_factory=dict)
    """What batch sizes are multiplied by, for each phase in which memory ran out."""
    _doing: str = "starting"
    _waiting: str | None = None
    """What the phase under way said last that it waits for: a provider, perhaps."""
    _beaten_at: float = 0.0

    def run(self) -> Ended:
        """The night, from where the store says, through every pause, to its end."""
        try:
            while True:
                ending, lasting = self._stretch()
                self._end_worker()
                if ending.state != "paused":
                    return self._ended(ending.state, ending.reason)
                self._note_state("paused", ending.reason)
                self._wait(ending.reason, lasting)
        except (PhaseFailed, errors.StoreError) as error:
            return self._ended("failed", str(error), bad_input=getattr(error, "kind", "") in _BAD_INPUT)
        finally:
            self._end_worker()

    def _stretch(self) -> tuple[Ending, Callable[[], bool]]:
        """The night until it ends or has to wait, and whether what it waits for still lasts."""
        try:
            with self.store.write() as db:
                control.set_state(db, "running", "", self.clock())
            phases_of: Callable[[int], Sequence[str]] = import_module(self.phases).phases_of
            return night(self.store, self._do, phases_of, stop=self.recipe.stop, clock=self.clock), self._is_paused
        except errors.DiskFull as full:
            again_at = time.monotonic() + self.pace.disk_s
            return Ending("paused", str(full)), lambda: time.monotonic() < again_at

    def _do(self, round: int, phase: str) -> str | None:
        """One phase, in as many workers as it takes."""
        if self._signals:
            raise Interrupted("signal")
        self.store.checkpoint()
        began, self._doing = time.monotonic(), f"{phase} of round {round}"
        self._say(f"{phase} of round {round} begins", round, phase)
        deaths = 0
        while isinstance(answer := self._try(round, phase), Died):
            deaths += 1
            self._bury(answer, round, phase, deaths)
            with self.store.write() as db:
                steps.begin_step(db, round, phase, self.clock())
        note = self._note_in(answer, round, phase)
        took = f"{phase} of round {round} is done in {time.monotonic() - began:.1f} s"
        self._say(f"{took}: {note}" if note and not self._was_said(note) else took, round, phase)
        return note

    def _try(self, round: int, phase: str) -> dict[str, Any] | Died:
        """Put the phase to the worker, a fresh one if need be, and wait for what becomes of it."""
        if self._worker is None:
            self._worker = WorkerProcess(self.workspace, self.generation, self.phases, self.workspace / LOG)
        self._worker.ask(round, phase, self._scales.get(phase, 1.0))
        answer = self._answer(self._worker, round, phase)
        if isinstance(answer, dict) and answer.get("kind") == MemoryError.__name__:
            self._worker.kill()
            answer = Died(MemoryError.__name__, out_of_memory=True)
        if isinstance(answer, Died):
            self._end_worker()
        return answer

    def _answer(self, worker: WorkerProcess, round: int, phase: str) -> dict[str, Any] | Died:
        heard, life, told, self._waiting = time.monotonic(), None, 0, None
        while (answer := worker.answer(self.pace.poll_s)) is None:
            if self._signals > told:
                told = self._signals
                worker.terminate() if told == 1 else worker.kill()
            if not self._beat(self._waiting):
                continue
            if (now := self._life(worker, round, phase)) != life:
                heard, life = time.monotonic(), now
            elif time.monotonic() - heard > patience(self.recipe, self.pace):
                self._say(
                    f"the worker was silent for {patience(self.recipe, self.pace):g} s: it is killed",
                    round,
                    phase,
                    "warn",
                )
                worker.kill()
        return answer

    def _life(self, worker: WorkerProcess, round: int, phase: str) -> object:
        """What changes as long as a worker does something: its progress, and its seconds of computing."""
        with self.store.read() as db:
            step = steps.step(db, round, phase)
        try:
            computed = sum(psutil.Process(worker.pid).cpu_times()[:2])
        except psutil.Error:
            computed = 0.0
        self._waiting = step.note or None if step else None
        return step and (step.done, step.total, step.note), int(computed)

    def _note_in(self, answer: dict[str, Any], round: int, phase: str) -> str | None:
        """The phase's note. Raises Interrupted, errors.DiskFull, or PhaseFailed for any other error."""
        if "interrupted" in answer:
            raise Interrupted(answer["interrupted"])
        if "error" not in answer:
            note: str | None = answer["ok"]
            return note
        if answer["kind"] == errors.DiskFull.__name__:
            raise errors.DiskFull(answer["error"])
        self._fail(round, phase, answer["error"])
        raise PhaseFailed(f"{phase} of round {round}: {answer['error']}", answer["kind"])

    def _bury(self, died: Died, round: int, phase: str, deaths: int) -> None:
        """Write a worker's death down. Raises Interrupted if it was ours, PhaseFailed if it was one too many."""
        if self._signals:
            raise Interrupted("signal")
        told = f"the worker died ({died.how}) in {phase} of round {round}"
        self._fail(round, phase, told)
        if deaths > self.recipe.worker.max_deaths:
            raise PhaseFailed(f"{told}, {_times(deaths)} in a row: see {self.workspace / LOG}")
        if died.out_of_memory:
            self._scales[phase] = max(self._scales.get(phase, 1.0) / 2, _LEAST_SCALE)
            told += f"; batches are {self._scales[phase]:g} of their size from now on"
        self._say(told, round, phase, "warn")

    def _fail(self, round: int, phase: str, note: str) -> None:
        with self.store.write() as db:
            steps.fail_step(db, round, phase, note, self.clock())

    def _wait(self, reason: str, lasting: Callable[[], bool]) -> None:
        """Stay alive while `lasting` says so. A signal or a wish to stop ends it; the night then sees them."""
        self._doing = "waiting"
        while lasting() and not self._signals:
            self._beat(reason)
            time.sleep(self.pace.poll_s)

    def _is_paused(self) -> bool:
        with self.store.read() as db:
            run = control.get_run(db)
        return run is not None and run.wanted == "pause"

    def _beat(self, waiting: str | None) -> bool:
        """Say that this controller is alive, if it is time to; whether it was. Raises errors.Fenced."""
        if time.monotonic() - self._beaten_at < self.pace.beat_s:
            return False
        self._beaten_at = time.monotonic()
        self._tell_of_hangup()
        # A full disk is the worker's to tell of: it may well end its piece without another byte.
        with suppress(errors.DiskFull), self.store.write() as db:
            control.beat(db, self.generation, now=self.clock(), doing=self._doing, waiting=waiting)
        if self.notifier is not None:
            self.notifier.look(self.store)
        return True

    def hang_up(self) -> None:
        """Nobody reads what this process says: go on without a reader. May be called by a signal or a thread."""
        self._hung_up = True
        self.on_hangup()

    def _tell_of_hangup(self) -> None:
        if self._hung_up:
            self._hung_up = False
            self.warn("the terminal went away: the run goes on; `wizloop watch` shows it, `wizloop stop` ends it")

    def _ended(self, state: Literal["done", "stopped", "failed"], reason: str, bad_input: bool = False) -> Ended:
        self._tell_of_hangup()
        self._note_state(state, reason)
        if self.notifier is not None:
            self.notifier.ended(state, reason)
        return Ended(state, reason, by_signal=self._signals > 0, bad_input=bad_input)

    def _note_state(self, state: str, reason: str) -> None:
        """Keep the state and tell of it; a disk that is full takes neither, and must not end the night."""
        level = {"failed": "error", "paused": "warn"}.get(state, "info")
        with suppress(errors.DiskFull), self.store.write() as db:
            control.set_state(db, state, reason, self.clock())
            events.add(db, level=level, message=f"the run is {state}: {reason}", now=self.clock())

    def _say(self, message: str, round: int, phase: str, level: str = "info") -> None:
        with self.store.write() as db:
            events.add(db, level=level, message=message, now=self.clock(), round=round, phase=phase)

    def warn(self, message: str) -> None:
        """Write a warning into the log; a full disk does not take it."""
        with suppress(errors.DiskFull), self.store.write() as db:
            events.add(db, level="warn", message=message, now=self.clock())

    def _was_said(self, note: str) -> bool:
        """Whether the phase has just told the same in an event of its own."""
        with self.store.read() as db:
            return any(event.message == note for event in events.last(db, 1))

    def _end_worker(self) -> None:
        if self._worker is not None:
            self._worker.close()
            self._worker = None

    @contextmanager
    def catching_signals(self) -> Iterator[None]:
        """Count SIGINT and SIGTERM instead of dying of them: the first ends the phase, the second kills the worker.

        SIGHUP, a terminal that goes away, ends nothing; where it is ignored already, as under nohup, it stays so.
        """

        def count(number: int, frame: object) -> None:
            self._signals += 1

        caught: dict[signal.Signals, Callable[[int, object], None]] = {signal.SIGINT: count, signal.SIGTERM: count}
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            caught[signal.SIGHUP] = lambda number, frame: self.hang_up()
        before = {number: signal.signal(number, handler) for number, handler in caught.items()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _times(n: int) -> str:
    return "once" if n == 1 else f"{n} times"
