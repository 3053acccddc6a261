"""The supervisor's handle of a worker process: start it, send it a phase, wait for the answer, end it."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE
from typing import Any

_END_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Died:
    """The end of a worker; `how` is the name of its signal, or its exit status."""

    how: str
    out_of_memory: bool = False


class WorkerProcess:
    """One running worker. Its stderr and its libraries' output are appended to `log`."""

    def __init__(self, workspace: Path, generation: int, phases: str, log: Path) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        # -P keeps the current folder from shadowing the package.
        command = [sys.executable, "-P", "-m", "wizloop.loop.controller.worker"]
        command += [str(workspace), str(generation), phases]
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                command, stdin=PIPE, stdout=PIPE, stderr=errors, encoding="utf-8", start_new_session=True
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        self._oom_kills = _oom_kills()
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    @property
    def pid(self) -> int:
        """Process id, which is also its process group."""
        return self._process.pid

    def ask(self, round: int, phase: str, scale: float) -> None:
        """Start a phase. If the worker is dead, `answer` reports it."""
        with suppress(BrokenPipeError):
            self._stdin.write(json.dumps({"round": round, "phase": phase, "scale": scale}) + "\n")
            self._stdin.flush()

    def answer(self, seconds: float) -> dict[str, Any] | Died | None:
        """Return the worker's answer or its death, or None if neither comes within `seconds`."""
        try:
            line = self._lines.get(timeout=seconds)
        except queue.Empty:
            return None
        if line:
            answer: dict[str, Any] = json.loads(line)
            return answer
        how = _how(self._process.wait())
        return Died(how, out_of_memory=self._ran_out_of_memory(how))

    def terminate(self) -> None:
        """Ask the worker to end the phase after the current batch."""
        self._process.terminate()

    def kill(self) -> None:
        """Kill the worker and its child processes."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """Close stdin, which ends the worker; kill it if it does not end in time."""
        with suppress(BrokenPipeError):
            self._stdin.close()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            self._process.wait()
        self._listener.join()
        self._stdout.close()

    def _ran_out_of_memory(self, how: str) -> bool:
        """Return whether memory ran out: Metal aborts the process; Linux kills it and counts the kill."""
        if how == "SIGABRT":
            return True
        now = _oom_kills()
        return how == "SIGKILL" and (now is None or self._oom_kills is None or now > self._oom_kills)

    def _listen(self) -> None:
        for line in self._stdout:
            # An incomplete line is half an answer of a killed worker.
            if line.endswith("\n"):
                self._lines.put(line)
        self._lines.put("")


def _how(status: int) -> str:
    """Return an exit status in words; Python reports a signal as a negative number."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"


def _oom_kills() -> int | None:
    """Return how many processes the kernel has killed for lack of memory; None if it keeps no count (macOS)."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), None)
