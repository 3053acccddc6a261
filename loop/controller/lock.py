"""The lock of a workspace: one controller at a time. It is released when its process ends, however that ends.

`flock` belongs to the open file, which Python closes in every child: an orphaned worker cannot keep it.
"""

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from wizloop import regular_file

LOCK_NAME = "wizloop.lock"
_TRY_SECONDS = 0.5
"""`is_held` takes the lock for an instant, which must not make a start fail."""


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that holds a workspace. `since` is an ISO time with its zone."""

    pid: int
    host: str
    since: str


class Held(Exception):
    """Another controller holds this workspace."""


@contextmanager
def held(workspace: Path, now: datetime) -> Iterator[Holder]:
    """Hold the workspace, which must be a folder, for this process. Raises Held, which names the holder."""
    path = workspace / LOCK_NAME
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        if not _locked_in_time(descriptor):
            advice = "use `wizloop status`, or `wizloop stop` first, or another --workspace"
            raise Held(f"{workspace} is in use by {holder_name(workspace)}: {advice}")
        ours = Holder(os.getpid(), socket.gethostname(), now.astimezone().isoformat(timespec="seconds"))
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(asdict(ours)).encode(), 0)
        yield ours
    finally:
        os.close(descriptor)


def is_held(workspace: Path) -> bool:
    """Return whether a live controller holds the workspace."""
    try:
        descriptor = os.open(workspace / LOCK_NAME, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        return not _locked(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def holder(workspace: Path) -> Holder | None:
    """Return the last holder of the workspace; None before the first, or while a new one is being written."""
    try:
        return Holder(**json.loads(regular_file.read_text(workspace / LOCK_NAME)))
    except (OSError, ValueError, TypeError):
        return None


def holder_name(workspace: Path) -> str:
    """Return the holder of the workspace for a message: its process, host and time."""
    who = holder(workspace)
    return f"process {who.pid} on {who.host}, since {who.since}" if who else "another process"


def _locked_in_time(descriptor: int) -> bool:
    deadline = time.monotonic() + _TRY_SECONDS
    while not _locked(descriptor, fcntl.LOCK_EX):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _locked(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
