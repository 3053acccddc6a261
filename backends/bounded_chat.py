"""Render a base's chat template in a process of its own, which ends after some seconds of computing.

A template is a program: nested loops compute for years inside the sandbox, and a product of texts fills the machine.
`python -m wizloop.backends.bounded_chat BASE CALLED HOW` is such a process.
"""

import json
import resource
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from wizloop.backends import chat, model_folder
from wizloop.backends.chat import Frame
from wizloop.backends.guard_types import BackendError, BadArtifact

_CPU_SECONDS, _WALL_SECONDS, _BYTES = 3, 600, 4 << 30
"""How long a rendering may compute, its process last, and how much it may hold. The slowest template takes 0.1 s."""


def render(base: str) -> Frame:
    """Return what chat.render does. Raises BadArtifact, ModelMissing."""
    return _apart(base, "render")


def render_plainly(base: str) -> Frame:
    """Return what chat.render_plainly does. Raises BadArtifact, ModelMissing."""
    return _apart(base, "render_plainly")


def _apart(base: str, how: str) -> Frame:
    # Found here, so that a download counts against no limit.
    file = Path(base).expanduser()
    found = file if file.is_file() else model_folder.find(base)
    command = [sys.executable, "-P", "-m", "wizloop.backends.bounded_chat", str(found), base, how]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_WALL_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise _endless(base) from None
    if done.returncode:
        raise _endless(base)
    said = json.loads(done.stdout.splitlines()[-1])
    if "error" in said:
        raise BadArtifact(said["error"])
    return Frame(said["before"], said["after"], tuple(said["notes"]))


def _endless(base: str) -> BadArtifact:
    return BadArtifact(
        f"the chat template of {base} computes without end, or fills the memory: {chat.RAW}, or give a base with "
        "another template"
    )


def main(base: str, called: str, how: str) -> None:
    """Print the frame, or the sentence that refuses it, as JSON."""
    _limit(resource.RLIMIT_DATA, _BYTES)
    try:
        # Its imports take longer than any template.
        chat.tokenizer_of(base)
        _limit(resource.RLIMIT_CPU, int(time.process_time()) + 1 + _CPU_SECONDS)
        answer = getattr(chat, how)(base, called)._asdict()
    except BackendError as error:
        answer = {"error": str(error)}
    print(json.dumps(answer))


def _limit(kind: int, wanted: int) -> None:
    """Lower a limit of this process; a system that knows none of it goes on without."""
    with suppress(ValueError, OSError):
        _, hard = resource.getrlimit(kind)
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(kind, (most, hard))


if __name__ == "__main__":
    main(*sys.argv[1:])
