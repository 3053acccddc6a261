"""A terminal that goes away under a run that needs none: SIGHUP and writes that fail end nothing, and the log tells."""

import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.where import ROOT
from wizloop.store import control, events
from wizloop.store.db import Store

START = """
import sys
from functools import partial
from wizloop.loop import cli
from wizloop.loop.commands import start
start.run_night = partial(start.run_night, phases="pretend_phases")
sys.argv[1:] = ["start", sys.argv[2], "--rounds", "0", "--workspace", sys.argv[1]]
cli.main()
"""
TOLD = "the terminal closed; the run continues: `wizloop watch` shows it, `wizloop stop` stops it"


def begin(workspace: Path, how: str, hup: signal.Handlers) -> tuple[int, int]:
    """A night on a terminal of its own, once it is at its first phase; its pid, and our end of the terminal."""
    workspace.mkdir()
    (workspace / "first.slow").write_text("0.1")
    # Long enough that the view, which looks once a second at most, writes to the lost terminal before the end.
    (workspace / "second.slow").write_text("0.2")
    pid, terminal = pty.fork()
    if pid == 0:
        signal.signal(signal.SIGHUP, hup)
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests" / "loop"), "TERM": "xterm-256color"}
        os.execve(sys.executable, [sys.executable, "-P", "-c", START, str(workspace), how], environment)
    written = b""
    while b"first" not in written:
        assert select.select([terminal], [], [], 60)[0], written
        written += os.read(terminal, 65_536)
    assert (b"\x1b[?25l" in written) == (how == "--plain")
    return pid, terminal


def end_of(pid: int) -> int:
    """The exit status, negative for a signal."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    raise AssertionError("it did not end")


def told(workspace: Path) -> list[str]:
    with Store.open(workspace, readonly=True) as store, store.read() as db:
        run = control.get_run(db)
        assert run is not None
        assert (run.state, run.reason) == ("done", "round 0 is done")
        return [event.message for event in events.page(db, 0, 1000)]


@pytest.mark.parametrize(("how", "hup"), [("--plain", signal.SIG_DFL), ("--headless", signal.SIG_IGN)])
def test_the_run_goes_on_without_its_terminal_and_says_so(tmp_path: Path, how: str, hup: signal.Handlers) -> None:
    pid, terminal = begin(tmp_path / "runs", how, hup)
    os.close(terminal)
    assert end_of(pid) == 0
    assert told(tmp_path / "runs").count(TOLD) == 1
    log = (tmp_path / "runs" / "logs" / "controller.log").read_text()
    assert "second of round 0 is done" in log
    assert log.splitlines()[-1] == "done: round 0 is done"
    assert "\x1b" not in log
    assert "Traceback" not in log


def test_a_reader_that_is_gone_ends_nothing(tmp_path: Path) -> None:
    workspace = tmp_path / "runs"
    command = [sys.executable, "-P", "-c", START, str(workspace), "--headless"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests" / "loop")}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as night:
        assert night.stderr is not None
        assert night.stdout is not None
        night.stderr.close()
        rounds = night.stdout.read().decode()
    assert night.returncode == 0
    assert rounds.split()[:2] == ["round", "F1"]
    assert told(workspace).count(TOLD) <= 1
    assert "done: round 0 is done" in (workspace / "logs" / "controller.log").read_text()
