"""The supervisor's end of a worker: start it, put a phase to it, wait, end it. It knows no phase and no store."""

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
from typing import Any

_END_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Died:
    """The worker is gone. `how` is the name of the signal that ended it, or its exit status in words."""

    how: str
    out_of_memory: bool = False


class WorkerProcess:
    """One running worker. Its stderr, and what its libraries print, is added to `log`."""

    def __init__(self, workspace: Path, generation: int, phases: str, log: Path) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        # -P: a folder that is named like the package, where wizloop was started, must not be imported.
        command = [sys.executable, "-P", "-m", "wizloop.loop.controller.worker", "--workspace", str(workspace)]
        command += ["--generation", str(generation), "--phases", phases]
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                encoding="utf-8",
                start_new_session=True,
            )
        self._oom_kills = _oom_kills()
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, round: int, phase: str, scale: float) -> None:
        """Begin a phase. A worker that is dead is found out by `answer`."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"round": round, "phase": phase, "scale": scale}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return

    def answer(self, seconds: float) -> dict[str, Any] | Died | None:
        """What the worker said within so many seconds, or how it died, or None."""
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
        """Ask it to end the phase after the piece that it is at."""
        self._process.terminate()

    def kill(self) -> None:
        """End it, and what it may have started, at once."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """End it: an idle worker ends with its stdin, any other is killed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            self._process.wait()
        self._listener.join()
        self._process.stdout.close()

    def _ran_out_of_memory(self, how: str) -> bool:
        """Metal aborts when memory runs out. A SIGKILL is the kernel's when its count rose, or when it keeps none."""
        if how == "SIGABRT":
            return True
        now = _oom_kills()
        return how == "SIGKILL" and (now is None or self._oom_kills is None or now > self._oom_kills)

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            # A line without its end is half an answer: its writer was killed.
            if line.endswith("\n"):
                self._lines.put(line)
        self._lines.put("")


def _how(status: int) -> str:
    """An exit status in words: Python gives the signal as a negative number."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"


def _oom_kills() -> int | None:
    """How many processes the kernel has killed for want of memory; None where it does not say (macOS)."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), None)
