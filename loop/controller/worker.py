"""The process that runs the phases: one JSON line in for each, one out. It lives from phase to phase.

In: {"round": N, "phase": NAME, "scale": NUMBER}. Out: {"ok": NOTE}, {"interrupted": REASON}, {"needs_fix": REASON} or
{"error": SENTENCE, "kind": CLASS}. It ends with its supervisor, however that ends.
"""

import ctypes
import errno
import json
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any, TextIO

from wizloop.backends import devices
from wizloop.loop.context import Context, recipe_of
from wizloop.loop.interrupted import Interrupted, NeedsFix
from wizloop.loop.phases.order import Phase
from wizloop.store import errors
from wizloop.store.db import Store

_PR_SET_PDEATHSIG = 1
_ORPHANED = 3


def main() -> None:
    """Run phases until stdin ends. Arguments: the workspace, the controller's generation, the phases' module.

    The store refuses writes of an earlier generation.
    """
    workspace, generation, phases = sys.argv[1:]
    orders, replies = _private_stdin(), _private_stdout()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _die_with_parent()
    requests: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(orders, requests), daemon=True).start()
    with Store.open(Path(workspace), generation=int(generation)) as store:
        with store.read() as db:
            recipe = recipe_of(db)
        context = Context(store, Path(workspace), recipe, 0, "", lambda: datetime.now(UTC), stop.is_set)
        load = import_module(phases).load
        while line := requests.get():
            answer = _answer(load, replace(context, **json.loads(line)))
            print(json.dumps(answer), file=replies, flush=True)


def _answer(load: Callable[[str], Phase], context: Context) -> dict[str, Any]:
    """Run one phase; an error becomes an answer, and its traceback goes to stderr."""
    try:
        context.check_rendering()
        return {"ok": load(context.phase)(context)}
    except Interrupted as interrupted:
        return {"interrupted": interrupted.reason}
    except NeedsFix as fault:
        return {"needs_fix": str(fault)}
    except Exception as error:
        # The only catch-all: a night must end with a message, not a traceback.
        traceback.print_exc()
        return {"error": _message(error), "kind": _kind(error)}


def _private_stdin() -> TextIO:
    """Return a stream of the requests; a library that asks a question on stdin finds its end."""
    private = os.fdopen(os.dup(0), encoding="utf-8")
    with Path(os.devnull).open() as nothing:
        os.dup2(nothing.fileno(), 0)
    return private


def _private_stdout() -> TextIO:
    """Return a stream for the answers; what libraries print to stdout goes to stderr."""
    private = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return private


def _die_with_parent() -> None:
    """Ask the Linux kernel to kill this process when the supervisor dies; elsewhere the end of stdin ends it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _listen(orders: TextIO, requests: "queue.SimpleQueue[str]") -> None:
    """Queue the supervisor's lines; at their end, exit even in the middle of a phase."""
    for line in orders:
        requests.put(line)
    os._exit(_ORPHANED)


def _message(error: Exception) -> str:
    """Return an error's message; for an unexpected one, with its class and the log file."""
    if isinstance(error, OSError) and _kind(error) == errors.DiskFull.__name__:
        where = f"the disk of {Path(error.filename).parent}" if error.filename else "the disk"
        return f"{where} is full: free some space, and the run goes on by itself"
    known = type(error).__module__.startswith("wizloop.")
    return str(error) if known and str(error) else f"{type(error).__name__}: {error} (see logs/worker.log)"


def _kind(error: Exception) -> str:
    """Return the error's class; a full disk and full memory have one name each, whatever raised them."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return errors.DiskFull.__name__
    return MemoryError.__name__ if devices.out_of_memory(error) else type(error).__name__


if __name__ == "__main__":
    main()
