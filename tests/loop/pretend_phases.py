"""Two phases that a worker can do in a test: each writes twelve samples, one a piece, and can be told to go wrong.

A file in the workspace tells: `<phase>.<fault>` holds how often the fault is still to happen at the fourth piece.
"""

import errno
import os
import signal
import time
from collections.abc import Callable
from typing import Any

from wizloop.loop.context import Context
from wizloop.loop.data.records import ImportRefused
from wizloop.loop.interrupted import NeedsFix
from wizloop.store import samples
from wizloop.store.errors import DiskFull

PIECES = 12


def phases_of(round: int) -> tuple[str, ...]:
    return ("first", "second")


def load(phase: str) -> Callable[[Context], str | None]:
    return write_samples


def write_samples(ctx: Context) -> str | None:
    prefix = f"{ctx.round} {ctx.phase}"
    for piece in range(PIECES):
        ctx.progress(piece, PIECES)
        time.sleep(float(_told(ctx, "slow") or 0.005))
        if piece == 3:
            _go_wrong(ctx)
        row = samples.NewSample("pool", f"{prefix} {piece}", None, "made", f"row {piece}")
        with ctx.store.write() as db:
            samples.add(db, [row], ctx.now())
    print("a library that prints")
    return f"{PIECES} samples, scale {ctx.scale:g}"


def _go_wrong(ctx: Context) -> None:
    faults: dict[str, Callable[[], Any]] = {
        "killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
        "aborted": os.abort,
        "card_full": _card_full,
        "full": _full,
        "full_store": _full_store,
        "wrong": _wrong,
        "unreadable": _unreadable,
        "mend": _mend,
        "asks": lambda: input("May the model's own code run? [y/N] "),
        "silent": lambda: time.sleep(60),
    }
    for name, fault in faults.items():
        if left := int(_told(ctx, name) or 0):
            (ctx.workspace / f"{ctx.phase}.{name}").write_text(str(left - 1))
            fault()


def _told(ctx: Context, name: str) -> str | None:
    path = ctx.workspace / f"{ctx.phase}.{name}"
    return path.read_text() if path.exists() else None


def _card_full() -> None:
    import torch

    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79 GiB")


def _full() -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def _full_store() -> None:
    raise DiskFull


def _wrong() -> None:
    raise KeyError("no such key")


def _unreadable() -> None:
    raise ImportRefused("rows.csv: no such file; check the name")


def _mend() -> None:
    raise NeedsFix("12 samples have no teacher (claude: no credit)")
