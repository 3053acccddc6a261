"""The controller of a workspace: runs the night in a worker process, outlives the worker and records how it ended.

It imports no model library, so a crash of a model never takes it down.
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
from wizloop.loop.controller.night import BY_SIGNAL, Ending, ahead, night
from wizloop.loop.controller.notify import Notifier
from wizloop.loop.controller.worker_process import Died, WorkerProcess
from wizloop.loop.interrupted import Interrupted, NeedsFix
from wizloop.recipes import schema
from wizloop.recipes.schema import Recipe
from wizloop.store import control, errors, events, steps
from wizloop.store.db import Store, make_folder

LOG = Path("logs") / "worker.log"
PHASES = "wizloop.loop.phases.order"
_LEAST_SCALE = 1 / 64
_BAD_INPUT = (
    *(
        "ImportRefused",
        "RowsRefused",
        "PolicyError",
        "ModelMissing",
        "BadArtifact",
        "NotReady",
        "PriceError",
        "BadRecording",
    ),
    "PluginError",
)
"""Phase errors caused by files, models or settings that the recipe names."""


EndState = Literal["done", "stopped", "paused", "failed"]
"""paused: a person must fix something, and start again."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Intervals of the supervisor, in seconds."""

    poll_s: float = 0.2
    beat_s: float = 4.0
    disk_s: float = 30.0
    """From a full disk to the next attempt."""
    beats_missed: float = 60
    """Heartbeats of the recipe without progress or CPU time after which the worker is killed."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How the night ended.

    `by_signal` distinguishes Ctrl-C from `wizloop stop`; `bad_input` an unusable file, model or policy from other
    failures.
    """

    state: EndState
    reason: str
    by_signal: bool = False
    bad_input: bool = False


class PhaseFailed(Exception):
    """A phase failed; the message is for the user."""

    def __init__(self, message: str, kind: str = "") -> None:
        super().__init__(message)
        self.kind = kind


@contextmanager
def controlling(
    workspace: Path,
    named: str | Recipe | None,
    limits: starting.RunLimits,
    *,
    clock: Callable[[], datetime],
    phases: str = PHASES,
    pace: Pace = Pace(),
) -> Iterator["Supervisor"]:
    """Become the controller of a workspace, created if needed, with its run ready to start. Catches signals.

    `named` is a recipe or its name; None takes the run's own, or the default. Raises lock.Held, starting.OtherRecipe,
    starting.TeacherMissing, schema.RecipeError, errors.StoreError, and BackendError for another base than the run's.
    """
    recipe = schema.load(named) if isinstance(named, str) else named
    make_folder(workspace)
    with lock.held(workspace, clock()) as holder:
        with Store.create(workspace) as store:
            recipe = starting.begin(store, recipe, limits, clock())
            starting.check_base(store, recipe)
            starting.check_teachers(store, recipe, clock())
            with store.write() as db:
                boot_id = str(int(psutil.boot_time()))
                generation = control.claim_controller(
                    db, pid=holder.pid, host=holder.host, boot_id=boot_id, now=clock()
                )
        with Store.open(workspace, generation=generation) as store:
            supervisor = Supervisor(store, workspace, recipe, generation, clock, phases, pace)
            with supervisor.catching_signals():
                yield supervisor


def patience(recipe: Recipe, pace: Pace) -> float:
    """Return the seconds of silence after which a worker counts as hung, longer than any call that it may wait for."""
    teachers = [getattr(recipe.teacher, name, None) for name in recipe.teacher.names]
    deadlines = [getattr(each, "deadline_s", 0.0) for each in (*teachers, recipe.guard.server)]
    return max(pace.beats_missed * recipe.worker.heartbeat_s, 2 * max(deadlines))


@dataclass
class Supervisor:
    """One controller; call `run()` once."""

    store: Store
    workspace: Path
    recipe: Recipe
    generation: int
    clock: Callable[[], datetime]
    phases: str
    pace: Pace
    notifier: Notifier = field(init=False)
    on_hangup: Callable[[], None] = lambda: None
    """Called immediately when the terminal closes; it must not touch the store, which may be in use."""
    _worker: WorkerProcess | None = None
    _signals: int = 0
    _hung_up: bool = False
    _scales: dict[str, float] = field(default_factory=dict)
    """Factor of batch sizes, for each phase in which memory ran out."""
    _doing: str = "starting"
    _waiting: str | None = None
    """What the current phase waits for, such as a provider."""
    _beaten_at: float = 0.0

    def __post_init__(self) -> None:
        self.notifier = Notifier(self.recipe.notify, self.recipe.name, self.warn)

    def run(self) -> Ended:
        """Run the night from its recorded state, through every pause, to its end."""
        try:
            while True:
                ending, still_paused = self._run_until_pause()
                self._end_worker()
                if ending.state != "paused":
                    return self._ended(ending.state, ending.reason)
                self._record_state("paused", ending.reason)
                self._wait(ending.reason, still_paused)
        except NeedsFix as fault:
            return self._ended("paused", str(fault))
        except (PhaseFailed, errors.StoreError) as error:
            return self._ended("failed", str(error), bad_input=getattr(error, "kind", "") in _BAD_INPUT)
        finally:
            self._end_worker()

    def check_teachers(self) -> None:
        """Import the samples and measure the teachers, here and ahead of the night. Raises what phases raise."""
        order = import_module(self.phases)

        def do(round: int, phase: str) -> str | None:
            # Late import: a controller loads no model library.
            from wizloop.loop.context import Context

            ctx = Context(self.store, self.workspace, self.recipe, round, phase, self.clock, lambda: self._signals > 0)
            note: str | None = order.load(phase)(ctx)
            return note

        ahead(self.store, do, ("import", "check"), self.clock)

    def _run_until_pause(self) -> tuple[Ending, Callable[[], bool]]:
        """Run the night until it ends or pauses; return the ending, and a check whether the pause lasts."""
        try:
            with self.store.write() as db:
                control.set_state(db, "running", "", self.clock())
            phases_of: Callable[[int], Sequence[str]] = import_module(self.phases).phases_of
            return night(self.store, self._do, phases_of, stop=self.recipe.stop, clock=self.clock), self._is_paused
        except errors.DiskFull as full:
            if self._signals:
                # With no room for the state, the night never comes to a phase that a signal could end.
                return BY_SIGNAL, self._is_paused
            retry_at = time.monotonic() + self.pace.disk_s
            return Ending("paused", str(full)), lambda: time.monotonic() < retry_at

    def _do(self, round: int, phase: str) -> str | None:
        """Run one phase, with a new worker after each death."""
        if self._signals:
            raise Interrupted("signal")
        self.store.checkpoint()
        began, self._doing = time.monotonic(), f"{phase} of round {round}"
        self._say(f"{phase} of round {round} starts", round, phase)
        deaths = 0
        while isinstance(answer := self._try(round, phase), Died):
            deaths += 1
            self._record_death(answer, round, phase, deaths)
            with self.store.write() as db:
                steps.begin_step(db, round, phase, self.clock())
        note = self._note_of(answer, round, phase)
        done = f"{phase} of round {round} is done in {time.monotonic() - began:.1f} s"
        self._say(f"{done}: {note}" if note and not self._is_last_event(note) else done, round, phase)
        return note

    def _try(self, round: int, phase: str) -> dict[str, Any] | Died:
        """Send the phase to the worker, started if needed, and wait for its answer or death."""
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
        active_at, activity, signals, self._waiting = time.monotonic(), None, 0, None
        silence = patience(self.recipe, self.pace)
        while (answer := worker.answer(self.pace.poll_s)) is None:
            if self._signals > signals:
                signals = self._signals
                worker.terminate() if signals == 1 else worker.kill()
            if not self._beat(self._waiting):
                continue
            if (now := self._activity(worker, round, phase)) != activity:
                active_at, activity = time.monotonic(), now
            elif time.monotonic() - active_at > silence:
                self._say(f"the worker was silent for {silence:g} s and was killed", round, phase, "warn")
                worker.kill()
        return answer

    def _activity(self, worker: WorkerProcess, round: int, phase: str) -> object:
        """Return a value that changes while a worker is active: its progress and its CPU seconds."""
        with self.store.read() as db:
            step = steps.step(db, round, phase)
        try:
            cpu_s = sum(psutil.Process(worker.pid).cpu_times()[:2])
        except psutil.Error:
            cpu_s = 0.0
        self._waiting = step.note or None if step else None
        return step and (step.done, step.total, step.note), int(cpu_s)

    def _note_of(self, answer: dict[str, Any], round: int, phase: str) -> str | None:
        """Return the phase's note. Raises Interrupted, NeedsFix, errors.DiskFull, or PhaseFailed for another error."""
        if "interrupted" in answer:
            raise Interrupted(answer["interrupted"])
        if "needs_fix" in answer:
            raise NeedsFix(answer["needs_fix"])
        if "error" not in answer:
            note: str | None = answer["ok"]
            return note
        if answer["kind"] == errors.DiskFull.__name__:
            raise errors.DiskFull(answer["error"])
        self._fail(round, phase, answer["error"])
        raise PhaseFailed(f"{phase} of round {round}: {answer['error']}", answer["kind"])

    def _record_death(self, died: Died, round: int, phase: str, deaths: int) -> None:
        """Record a worker's death. Raises Interrupted after a signal, PhaseFailed after too many deaths."""
        if self._signals:
            raise Interrupted("signal")
        message = f"the worker died ({died.how}) in {phase} of round {round}"
        self._fail(round, phase, message)
        if deaths > self.recipe.worker.max_deaths:
            times = "once" if deaths == 1 else f"{deaths} times"
            raise PhaseFailed(f"{message}, {times} in a row: see {self.workspace / LOG}")
        if died.out_of_memory:
            self._scales[phase] = max(self._scales.get(phase, 1.0) / 2, _LEAST_SCALE)
            message += f"; batches are now {self._scales[phase]:g} of their size"
        self._say(message, round, phase, "warn")

    def _fail(self, round: int, phase: str, note: str) -> None:
        with self.store.write() as db:
            steps.fail_step(db, round, phase, note, self.clock())

    def _wait(self, reason: str, still_paused: Callable[[], bool]) -> None:
        """Wait until the pause ends or a signal arrives, which the night then handles."""
        self._doing = "waiting"
        while still_paused() and not self._signals:
            self._beat(reason)
            time.sleep(self.pace.poll_s)

    def _is_paused(self) -> bool:
        with self.store.read() as db:
            run = control.get_run(db)
        return run is not None and run.wanted == "pause"

    def _beat(self, waiting: str | None) -> bool:
        """Write a heartbeat if one is due; return whether it was. Raises errors.Fenced."""
        if time.monotonic() - self._beaten_at < self.pace.beat_s:
            return False
        self._beaten_at = time.monotonic()
        self._report_hangup()
        # The worker reports a full disk, unless its batch ends without another write.
        with suppress(errors.DiskFull), self.store.write() as db:
            control.beat(db, self.generation, now=self.clock(), doing=self._doing, waiting=waiting)
        self.notifier.look(self.store)
        return True

    def hang_up(self) -> None:
        """Continue without a reader of the output. May be called from a signal handler or a thread."""
        self._hung_up = True
        self.on_hangup()

    def _report_hangup(self) -> None:
        if self._hung_up:
            self._hung_up = False
            self.warn("the terminal closed; the run continues: `wizloop watch` shows it, `wizloop stop` stops it")

    def _ended(self, state: EndState, reason: str, bad_input: bool = False) -> Ended:
        self._report_hangup()
        self._record_state(state, reason, ended=True)
        with suppress(errors.StoreError):
            # What the last phase found may be newer than the last heartbeat.
            self.notifier.look(self.store)
        self.notifier.ended(state, reason)
        return Ended(state, reason, by_signal=self._signals > 0, bad_input=bad_input)

    def _record_state(self, state: str, reason: str, *, ended: bool = False) -> None:
        """Write the state and an event; a full disk accepts neither, and must not end the night."""
        level = {"failed": "error", "paused": "warn"}.get(state, "info")
        with suppress(errors.DiskFull), self.store.write() as db:
            control.set_state(db, state, reason, self.clock(), ended=ended)
            events.add(db, level=level, message=f"the run is {state}: {reason}", now=self.clock())

    def _say(self, message: str, round: int, phase: str, level: str = "info") -> None:
        with self.store.write() as db:
            events.add(db, level=level, message=message, now=self.clock(), round=round, phase=phase)

    def warn(self, message: str) -> None:
        """Add a warning to the log, unless the disk is full."""
        with suppress(errors.DiskFull), self.store.write() as db:
            events.add(db, level="warn", message=message, now=self.clock())

    def _is_last_event(self, note: str) -> bool:
        """Return whether the phase has just written the same as an event."""
        with self.store.read() as db:
            return any(event.message == note for event in events.last(db, 1))

    def _end_worker(self) -> None:
        if self._worker is not None:
            self._worker.close()
            self._worker = None

    @contextmanager
    def catching_signals(self) -> Iterator[None]:
        """Count SIGINT and SIGTERM: the first ends the phase, the second kills the worker.

        SIGHUP, from a closed terminal, ends nothing; if it is ignored already, as under nohup, it stays ignored.
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
