"""One controller for a workspace: the lock, and who holds it. The lock ends with its process, however that ends.

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

LOCK_NAME = "wizloop.lock"
_TRY_SECONDS = 0.5
"""`is_held` takes the lock for an instant, and that must not turn a controller away."""


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that holds a workspace. `since` is an ISO time with its zone."""

    pid: int
    host: str
    since: str


class Held(Exception):
    """Another controller works on this workspace."""


@contextmanager
def held(workspace: Path, now: datetime) -> Iterator[Holder]:
    """Hold the workspace, which must be a folder, as this process. Raises Held, which names the holder."""
    path = workspace / LOCK_NAME
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        if not _locked_in_time(descriptor):
            raise Held(_told(workspace, holder(workspace)))
        ours = Holder(os.getpid(), socket.gethostname(), now.astimezone().isoformat(timespec="seconds"))
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(asdict(ours)).encode(), 0)
        yield ours
    finally:
        os.close(descriptor)


def is_held(workspace: Path) -> bool:
    """Whether a controller is alive on the workspace."""
    try:
        descriptor = os.open(workspace / LOCK_NAME, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        return not _locked(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def holder(workspace: Path) -> Holder | None:
    """Who held the workspace last; None when nobody ever did, or it has just been taken and is not yet written down."""
    try:
        return Holder(**json.loads((workspace / LOCK_NAME).read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def _locked_in_time(descriptor: int) -> bool:
    give_up_at = time.monotonic() + _TRY_SECONDS
    while not _locked(descriptor, fcntl.LOCK_EX):
        if time.monotonic() > give_up_at:
            return False
        time.sleep(0.05)
    return True


def _locked(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _told(workspace: Path, who: Holder | None) -> str:
    by = f"process {who.pid} on {who.host}, since {who.since}" if who else "another process"
    return f"{workspace} is held by {by}: use `wizloop status`, or `wizloop stop` first, or another --workspace"
