"""`pause`, `resume`, `stop`: what the person wants, noted in the store, where the controller reads it."""

from pathlib import Path

import click

from wizloop.loop.commands.common import in_workspace, refuse, say, sentences


@click.command(short_help="Pause the run after the piece that it is at.")
@in_workspace
def pause(workspace: Path) -> None:
    """Pause the run after the piece that it is at; the controller stays and waits for `resume`."""
    with sentences():
        if not _wanted(workspace, "pause"):
            refuse(f"nothing runs in {workspace}: there is nothing to pause")
    say("the run pauses after the piece that it is at: `wizloop resume` goes on")


@click.command
@in_workspace
def resume(workspace: Path) -> None:
    """Let a paused run go on."""
    with sentences():
        if not _wanted(workspace, "run"):
            refuse(f"nothing runs in {workspace}: `wizloop start` goes on")
    say("the run goes on")


@click.command(short_help="Stop the run after this phase; `start` goes on.")
@click.option("--now", "at_once", is_flag=True, help="After this piece and not after this phase.")
@in_workspace
def stop(at_once: bool, workspace: Path) -> None:
    """Stop the run after this phase, or at once; `start` goes on with it."""
    with sentences():
        if not _wanted(workspace, "stop_now" if at_once else "stop"):
            say(f"nothing runs in {workspace}")
            return
    say(f"the run stops after the {'piece' if at_once else 'phase'} that it is at")


def _wanted(workspace: Path, wanted: str) -> bool:
    """Note what is wanted; False where no controller is there to hear of it, and nothing was noted."""
    from wizloop.loop.controller import lock
    from wizloop.store import control
    from wizloop.store.db import Store

    with Store.open(workspace) as store:
        if not lock.is_held(workspace):
            return False
        with store.write() as db:
            control.want(db, wanted)
    return True
