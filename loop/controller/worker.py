"""The process that does the phases: one JSON line in for each, one out. It stays alive from phase to phase.

In: {"round": N, "phase": NAME, "scale": NUMBER}. Out: {"ok": NOTE}, {"interrupted": REASON} or
{"error": SENTENCE, "kind": CLASS}. It decides nothing, and ends with its supervisor, however that ends.
"""

import argparse
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
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any, TextIO

from wizloop.backends import devices
from wizloop.loop.context import Context
from wizloop.loop.interrupted import Interrupted
from wizloop.recipes.schema import Recipe
from wizloop.store import control, errors
from wizloop.store.db import Store

_PR_SET_PDEATHSIG = 1
_ORPHANED = 3


@dataclass
class Worker:
    """Runs phases by name. `phases` is a module with `load(phase)`; `context` holds what all phases have in common."""

    context: Context
    phases: Any

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Run one phase; whatever it raises becomes an answer, and the traceback goes to stderr."""
        context = replace(self.context, round=request["round"], phase=request["phase"], scale=request["scale"])
        try:
            return {"ok": self.phases.load(context.phase)(context)}
        except Interrupted as interrupted:
            return {"interrupted": interrupted.reason}
        except Exception as error:
            # The one place where any error is recorded: a night must end with a sentence and not with a traceback.
            traceback.print_exc()
            return {"error": _sentence(error), "kind": _kind(error)}


def main(argv: list[str] | None = None) -> None:
    """Serve the phases of a workspace until stdin ends."""
    options = _options(argv)
    replies = _private_stdout()
    asked_to_stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: asked_to_stop.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _die_with_parent()
    requests: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(requests,), daemon=True).start()
    with Store.open(options.workspace, generation=options.generation) as store:
        worker = Worker(_context(store, options.workspace, asked_to_stop.is_set), import_module(options.phases))
        while line := requests.get():
            print(json.dumps(worker.answer(json.loads(line))), file=replies, flush=True)


def _options(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m wizloop.loop.controller.worker", description=__doc__)
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--generation", type=int, required=True, help="of the controller, which fences its writes")
    parser.add_argument("--phases", default="wizloop.loop.phases.order", help="module that has the phases")
    return parser.parse_args(argv)


def _context(store: Store, workspace: Path, stop_asked: Callable[[], bool]) -> Context:
    with store.read() as db:
        run = control.get_run(db)
    if run is None:
        raise errors.NoRun
    recipe = Recipe.model_validate_json(run.recipe_json)
    return Context(store, workspace, recipe, 0, "", lambda: datetime.now(UTC), stop_asked)


def _private_stdout() -> TextIO:
    """The answers' own stream: whatever a library prints to stdout goes where stderr goes."""
    private = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return private


def _die_with_parent() -> None:
    """Ask the kernel for a SIGKILL when the supervisor dies; elsewhere than on Linux the end of stdin does it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _listen(requests: "queue.SimpleQueue[str]") -> None:
    """Pass on the lines of stdin. At its end the process ends, even in the middle of a phase."""
    for line in sys.stdin:
        requests.put(line)
    os._exit(_ORPHANED)


def _sentence(error: Exception) -> str:
    """What went wrong, for a person: an error that was foreseen has its own sentence."""
    known = type(error).__module__.startswith("wizloop.")
    return str(error) if known and str(error) else f"{type(error).__name__}: {error} (see logs/worker.log)"


def _kind(error: Exception) -> str:
    """The error's class, or the one that a full disk or a full memory is known by to the supervisor."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return errors.DiskFull.__name__
    return MemoryError.__name__ if devices.out_of_memory(error) else type(error).__name__


if __name__ == "__main__":
    main()
