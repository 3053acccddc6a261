"""Controllers without a terminal: started detached, or left alone when their terminal closed. Neither stops the run.

A detached controller writes one word into a pipe once it holds the workspace. Until then it prints to the terminal,
afterwards to a log file. A controller whose terminal closes switches to the log too.
"""

import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

LOG = Path("logs") / "controller.log"
OUTPUTS = (1, 2)
"""File descriptors of stdout and stderr."""
COMMAND = (sys.executable, "-P", "-m", "wizloop.loop.cli")
"""This program's command line; -P keeps the current folder from shadowing the package."""
_STARTED = b"started"


def begin(words: Sequence[str]) -> tuple[int, int]:
    """Start `wizloop start` with these arguments, detached; return its pid and the pipe to wait on."""
    ours, theirs = os.pipe()
    process = subprocess.Popen(
        [*COMMAND, "start", *words, "--headless", "--started-fd", str(theirs)],
        pass_fds=[theirs],
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.close(theirs)
    return process.pid, ours


def wait_until_started(pid: int, descriptor: int) -> int:
    """Wait until a controller has started; return 0, or the exit status of one that failed and printed why."""
    with os.fdopen(descriptor, "rb") as pipe:
        if pipe.read() == _STARTED:
            return 0
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def report_started(descriptor: int, workspace: Path) -> None:
    """Tell the parent process that this controller has started, and write to the log from now on."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    redirect_to_log(workspace, OUTPUTS)
    os.write(descriptor, _STARTED)
    os.close(descriptor)


def redirect_to_log(workspace: Path, outputs: Iterable[int]) -> None:
    """Redirect these file descriptors to the controller's log, or to nowhere if it cannot be opened."""
    log = workspace / LOG
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(log, flags, 0o644)
    except OSError:
        file = os.open(os.devnull, flags)
    for output in outputs:
        os.dup2(file, output)
    os.close(file)


def terminals() -> tuple[int, ...]:
    """Return those outputs of this process that are open terminals."""
    return tuple(output for output in OUTPUTS if os.isatty(output))
