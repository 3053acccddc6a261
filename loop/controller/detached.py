"""A controller without a terminal: one that was begun so, and one whose terminal went away. Neither ends the run.

The first says one word on a pipe once it holds the workspace; before that it talks on the terminal, afterwards into a
file, as the second does from the moment when nobody can read it any more.
"""

import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

LOG = Path("logs") / "controller.log"
OUTPUTS = (1, 2)
"""The descriptors of stdout and stderr."""
COMMAND = (sys.executable, "-P", "-m", "wizloop.loop.cli")
"""This program's own command line; -P, so that no folder where it is started can shadow the package."""
_WORD = b"begun"


def begin(words: Sequence[str]) -> tuple[int, int]:
    """Start `wizloop start` with these words, detached; its pid, and where its first word is to be read."""
    ours, theirs = os.pipe()
    process = subprocess.Popen(
        [*COMMAND, "start", *words, "--headless", "--told", str(theirs)],
        pass_fds=[theirs],
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.close(theirs)
    return process.pid, ours


def begun(pid: int, descriptor: int) -> int:
    """Wait until a controller has begun: 0, or the exit status of one that could not, which has said why."""
    with os.fdopen(descriptor, "rb") as pipe:
        if pipe.read() == _WORD:
            return 0
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def tell(descriptor: int, workspace: Path) -> None:
    """The controller's end: from now on it writes into its log, and whoever began it may go."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    into_log(workspace, OUTPUTS)
    os.write(descriptor, _WORD)
    os.close(descriptor)


def into_log(workspace: Path, outputs: Iterable[int]) -> None:
    """Let these descriptors write into the controller's log from now on, or nowhere where that cannot be opened."""
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
    """Which of this process's outputs are terminals; one that is gone does not count any more."""
    return tuple(output for output in OUTPUTS if os.isatty(output))
