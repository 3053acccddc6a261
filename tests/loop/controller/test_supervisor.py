"""The controller with a real worker process: kills of either, signals, a second controller, pause, full disks."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests import disks
from tests.where import ROOT
from wizloop.console.progress import headline
from wizloop.loop.controller import lock, supervisor
from wizloop.loop.summaries import status_of
from wizloop.recipes.schema import Recipe
from wizloop.store import control, errors, events, samples, steps
from wizloop.store.db import Connection, Store
from wizloop.store.overview import overview
from wizloop.store.status import run_status

ALL = sorted(f"{round} {phase} {piece}" for round in range(2) for phase in ("first", "second") for piece in range(12))
"""The samples that the pretended phases write in round 0 and 1."""

CONTROLLER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from wizloop.loop.controller import starting, supervisor
workspace, beats_missed = Path(sys.argv[1]), float(sys.argv[2])
pace = supervisor.Pace(poll_s=0.05, beat_s=0.1, disk_s=0.3, beats_missed=beats_missed)
clock = lambda: datetime.now(UTC)
limits = starting.RunLimits(rounds=1)
with supervisor.controlling(workspace, None, limits, clock=clock, phases="pretend_phases", pace=pace) as controller:
    ended = controller.run()
print(ended.state, ended.by_signal, ended.reason)
"""


@dataclass
class Workspace:
    """A workspace, and the controllers that were started on it."""

    path: Path
    started: list[subprocess.Popen[str]]

    def start(self, beats_missed: float = 6.0) -> subprocess.Popen[str]:
        command = [sys.executable, "-P", "-c", CONTROLLER, str(self.path), str(beats_missed)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests" / "loop")}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        new = subprocess.Popen(command, env=environment, text=True, start_new_session=True, **pipes)  # type: ignore[call-overload]
        self.started.append(new)
        return new  # type: ignore[no-any-return]

    def run(self, beats_missed: float = 6.0) -> str:
        """Start a controller and wait; what it said of its end."""
        return said_by(self.start(beats_missed))

    def tell(self, name: str, what: object) -> None:
        self.path.mkdir(exist_ok=True)
        (self.path / name).write_text(str(what))

    def want(self, wanted: str) -> None:
        with Store.open(self.path) as store, store.write() as db:
            control.want(db, wanted)

    def wait_for(self, reached: Callable[[Connection], bool]) -> None:
        give_up_at = time.monotonic() + 30
        while time.monotonic() < give_up_at:
            with suppress(errors.StoreError), Store.open(self.path, readonly=True) as store, store.read() as db:
                if reached(db):
                    return
            time.sleep(0.02)
        raise AssertionError("it never came to that")

    def wait_for_samples(self, n: int) -> None:
        self.wait_for(lambda db: samples.counts(db)["pool"] >= n)

    def wait_for_state(self, state: str) -> None:
        self.wait_for(lambda db: (run := control.get_run(db)) is not None and run.state == state)

    def worker(self) -> psutil.Process:
        (child,) = psutil.Process(self.started[-1].pid).children()
        return child

    def prompts(self) -> list[str]:
        with Store.open(self.path, readonly=True) as store, store.read() as db:
            return sorted(sample.prompt for sample in samples.page(db, "pool", 0, 1000))

    def sentences(self) -> list[str]:
        with Store.open(self.path, readonly=True) as store, store.read() as db:
            return [event.message for event in events.page(db, 0, 1000)]


def said_by(controller: subprocess.Popen[str]) -> str:
    out, err = controller.communicate(timeout=60)
    assert not err
    return out.strip()


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    made = Workspace(tmp_path / "runs", [])
    yield made
    for controller in made.started:
        controller.kill()
        controller.communicate()


def test_a_night_left_alone_is_done_in_one_worker(workspace: Workspace) -> None:
    assert workspace.run() == "done False the one round is done"
    assert workspace.prompts() == ALL
    with Store.open(workspace.path, readonly=True) as store, store.read() as db:
        first, second = steps.steps(db, 1)
        controller = control.controller(db)
    assert (first.note, second.attempts, second.state) == ("12 samples, scale 1", 1, "done")
    assert controller is not None
    assert controller.generation == 1
    assert (workspace.path / "logs" / "worker.log").read_text().count("a library that prints") == 4


def test_a_worker_that_is_killed_costs_a_piece_and_a_fresh_one_goes_on(workspace: Workspace) -> None:
    workspace.tell("first.slow", 0.05)
    controller = workspace.start()
    workspace.wait_for_samples(5)
    workspace.worker().kill()
    assert said_by(controller) == "done False the one round is done"
    assert workspace.prompts() == ALL
    assert any("the worker died (SIGKILL) in first of round 0" in sentence for sentence in workspace.sentences())


def test_a_killed_controller_takes_its_worker_along_and_the_next_one_goes_on(workspace: Workspace) -> None:
    workspace.tell("second.slow", 0.1)
    controller = workspace.start()
    workspace.wait_for_samples(15)
    worker = workspace.worker()
    controller.kill()
    controller.communicate()
    worker.wait(timeout=5)
    assert not lock.is_held(workspace.path)
    workspace.tell("second.slow", 0.005)
    assert workspace.run() == "done False the one round is done"
    assert workspace.prompts() == ALL


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_night_after_the_piece_at_hand(workspace: Workspace, number: signal.Signals) -> None:
    workspace.tell("first.slow", 0.1)
    controller = workspace.start()
    workspace.wait_for_samples(3)
    controller.send_signal(number)
    assert said_by(controller) == "stopped True stopped by a signal. Run `wizloop start` to resume."
    assert 3 <= len(workspace.prompts()) < 12
    workspace.tell("first.slow", 0.005)
    assert workspace.run() == "done False the one round is done"
    assert workspace.prompts() == ALL


def test_a_second_signal_does_not_wait_for_the_piece(workspace: Workspace) -> None:
    workspace.tell("first.silent", 1)
    controller = workspace.start()
    workspace.wait_for_samples(3)
    controller.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert controller.poll() is None
    controller.send_signal(signal.SIGINT)
    assert said_by(controller).startswith("stopped True")


def test_a_second_controller_is_refused_and_told_who_is_there(workspace: Workspace) -> None:
    workspace.tell("first.slow", 0.2)
    controller = workspace.start()
    workspace.wait_for_samples(1)
    began = time.monotonic()
    _, err = workspace.start().communicate(timeout=60)
    assert time.monotonic() - began < 10
    last_line = err.strip().splitlines()[-1]
    assert last_line.startswith("wizloop.loop.controller.lock.Held")
    assert f"is in use by process {controller.pid} on " in last_line
    with Store.open(workspace.path, readonly=True) as store, store.read() as db:
        there = control.controller(db)
    assert there is not None
    assert there.generation == 1


def test_pause_waits_and_resume_goes_on_in_the_same_controller(workspace: Workspace) -> None:
    workspace.tell("first.slow", 0.1)
    controller = workspace.start()
    workspace.wait_for_samples(2)
    workspace.want("pause")
    workspace.wait_for_state("paused")
    held = len(workspace.prompts())
    time.sleep(0.5)
    assert len(workspace.prompts()) == held < 12
    workspace.tell("first.slow", 0.005)
    workspace.want("run")
    assert said_by(controller) == "done False the one round is done"
    assert workspace.prompts() == ALL


def test_stop_lets_the_phase_end_and_stop_now_does_not(workspace: Workspace) -> None:
    workspace.tell("first.slow", 0.05)
    controller = workspace.start()
    workspace.wait_for_samples(2)
    workspace.want("stop")
    assert said_by(controller) == "stopped False stopped by you. Run `wizloop start` to resume."
    assert len(workspace.prompts()) == 12
    workspace.tell("second.slow", 0.1)
    controller = workspace.start()
    workspace.wait_for_samples(14)
    workspace.want("stop_now")
    assert said_by(controller).startswith("stopped False")
    assert 14 <= len(workspace.prompts()) < 24


def test_a_worker_that_runs_out_of_memory_gets_smaller_batches(workspace: Workspace) -> None:
    workspace.tell("first.aborted", 1)
    workspace.tell("first.card_full", 1)
    assert workspace.run() == "done False the one round is done"
    with Store.open(workspace.path, readonly=True) as store, store.read() as db:
        step = steps.step(db, 0, "first")
    assert step is not None
    assert (step.note, step.attempts) == ("12 samples, scale 0.25", 3)


def test_a_worker_that_always_dies_ends_the_run_and_the_next_start_tries_again(workspace: Workspace) -> None:
    workspace.tell("first.killed", 4)
    said = workspace.run()
    assert said.startswith("failed False the worker died (SIGKILL) in first of round 0, 4 times in a row: see ")
    assert workspace.run() == "done False the one round is done"
    assert workspace.prompts() == ALL


def test_a_start_whose_version_renders_the_runs_prompts_otherwise_is_refused(workspace: Workspace) -> None:
    workspace.tell("second.wrong", 1)
    workspace.run()
    with Store.open(workspace.path) as store, store.write() as db:
        steps.merge_record(db, 0, {"frame": ["", ""], "instruction": "Judge.", "rendering": "ab" * 32})
    said = workspace.run()
    assert said.startswith(
        "failed False second of round 0: this version of wizloop renders the run's prompts otherwise"
    )
    assert len(workspace.prompts()) == 12 + 3


def test_an_unforeseen_error_is_a_sentence_and_its_traceback_is_in_the_log(workspace: Workspace) -> None:
    workspace.tell("second.wrong", 1)
    assert workspace.run() == "failed False second of round 0: KeyError: 'no such key' (see logs/worker.log)"
    assert "Traceback" in (workspace.path / "logs" / "worker.log").read_text()
    with Store.open(workspace.path, readonly=True) as store, store.read() as db:
        step = steps.step(db, 0, "second")
    assert step is not None
    assert step.state == "failed"
    assert workspace.run() == "done False the one round is done"


@pytest.mark.parametrize("fault", ["full", "full_store"])
def test_a_full_disk_pauses_the_run_until_there_is_room(workspace: Workspace, fault: str) -> None:
    workspace.tell(f"first.{fault}", 2)
    assert workspace.run() == "done False the one round is done"
    assert workspace.prompts() == ALL
    assert sum("the run is paused: " in sentence for sentence in workspace.sentences()) == 2


def test_a_signal_ends_a_night_whose_disk_is_full(tmp_path: Path) -> None:
    with disks.small(tmp_path / "disk", 4) as disk:
        there = Workspace(disk / "runs", [])
        there.tell("first.slow", 0.1)
        controller = there.start()
        there.wait_for_samples(2)
        with suppress(OSError), (disk / "filler").open("wb", buffering=0) as filler:
            while filler.write(b"0" * 4096):
                pass
        time.sleep(2)
        controller.send_signal(signal.SIGTERM)
        try:
            assert said_by(controller) == "stopped True stopped by a signal. Run `wizloop start` to resume."
        finally:
            controller.kill()
            controller.communicate()


def test_a_library_that_asks_on_stdin_finds_nobody(workspace: Workspace) -> None:
    workspace.tell("first.asks", 1)
    said = workspace.run()
    assert said == "failed False first of round 0: EOFError: EOF when reading a line (see logs/worker.log)"


def test_a_file_that_cannot_be_used_is_bad_input(workspace: Workspace) -> None:
    workspace.tell("first.unreadable", 1)
    assert workspace.run() == "failed False first of round 0: rows.csv: no such file; check the name"


def test_what_a_person_must_mend_pauses_the_run_until_the_next_start(workspace: Workspace) -> None:
    workspace.tell("second.mend", 1)
    why = "12 samples have no teacher (claude: no credit)"
    assert workspace.run() == f"paused False {why}"
    state = status_of(run_status(workspace.path), workspace.path)
    assert (state["state"], state["reason"], state["phase"], state["alive"]) == ("paused", why, "second", False)
    assert f"the run is paused: {why}" in workspace.sentences()
    with Store.open(workspace.path, readonly=True) as store, store.read() as db:
        seen = overview(db)
    assert seen is not None
    assert headline(seen, alive=False) == f"demo: paused: {why}"
    assert workspace.run() == "done False the one round is done"
    assert workspace.prompts() == ALL


@pytest.mark.parametrize(
    ("teacher", "seconds"),
    [({}, 600.0), ({"names": ["gemini"], "gemini": {"mode": "flex", "deadline_s": 900}}, 1800.0)],
)
def test_a_worker_that_waits_for_its_slowest_call_is_not_silent(teacher: dict[str, object], seconds: float) -> None:
    recipe = Recipe.model_validate_json(json.dumps({"name": "mine", "source": "demo", "teacher": teacher}))
    assert supervisor.patience(recipe, supervisor.Pace()) == seconds


def test_a_silent_worker_is_killed_and_replaced(workspace: Workspace) -> None:
    workspace.tell("first.silent", 1)
    assert workspace.run(beats_missed=0.35) == "done False the one round is done"
    assert any("the worker was silent for 3.5 s" in sentence for sentence in workspace.sentences())
