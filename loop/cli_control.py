"""`pause`, `resume`, `stop`: what the person wants, noted in the store, where the controller reads it."""

from pathlib import Path
from typing import Annotated

import typer

from wizloop.loop.cli_common import HERE, Workspace, refuse, say, sentences


def pause(workspace: Workspace = HERE) -> None:
    """Pause the run after the piece that it is at; the controller stays and waits for `resume`."""
    with sentences():
        if not _wanted(workspace, "pause"):
            refuse(f"nothing runs in {workspace}: there is nothing to pause")
    say("the run pauses after the piece that it is at: `wizloop resume` goes on")


def resume(workspace: Workspace = HERE) -> None:
    """Let a paused run go on."""
    with sentences():
        if not _wanted(workspace, "run"):
            refuse(f"nothing runs in {workspace}: `wizloop start` goes on")
    say("the run goes on")


def stop(
    at_once: Annotated[bool, typer.Option("--now", help="After this piece and not after this phase.")] = False,
    workspace: Workspace = HERE,
) -> None:
    """Stop the run after this phase, or at once; `start` goes on with it."""
    with sentences():
        if not _wanted(workspace, "stop_now" if at_once else "stop"):
            say(f"nothing runs in {workspace}")
            return
    say(f"the run stops after the {'piece' if at_once else 'phase'} that it is at")


def _wanted(workspace: Path, wanted: str) -> bool:
    """Note what is wanted; False where no controller is there to hear of it, and nothing was noted."""
    from wizloop.loop import lock
    from wizloop.store import control
    from wizloop.store.db import Store

    with Store.open(workspace) as store:
        if not lock.is_held(workspace):
            return False
        with store.write() as db:
            control.want(db, wanted)
    return True
