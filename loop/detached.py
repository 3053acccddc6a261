"""A controller as a process of its own: no terminal that goes away can end it. Both ends of its first word are here.

It says one word on a pipe once it holds the workspace; before that it talks on the terminal, afterwards into a file.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

LOG = Path("logs") / "controller.log"
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
    log = workspace / LOG
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(file.fileno(), stream.fileno())
    os.write(descriptor, _WORD)
    os.close(descriptor)
