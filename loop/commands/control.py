"""`pause`, `resume`, `stop`: requests in the store, which the controller reads."""

from pathlib import Path

import click

from wizloop.loop.commands.common import in_workspace, refuse, report_errors, say


@click.command(short_help="Pause the run after the current batch.")
@in_workspace
def pause(workspace: Path) -> None:
    """Pause the run after the current batch. Its process stays and waits for `wizloop resume`."""
    if not _request(workspace, "pause"):
        refuse(f"no run is active in {workspace}: there is nothing to pause")
    say("Will pause after the current batch. Run `wizloop resume` to resume.")


@click.command
@in_workspace
def resume(workspace: Path) -> None:
    """Resume a paused run."""
    if not _request(workspace, "run"):
        refuse(f"no run is active in {workspace}: run `wizloop start` to resume")
    say("The run will resume.")


@click.command(short_help="Stop the run after the current phase.")
@click.option("--now", "immediately", is_flag=True, help="Stop after the current batch instead.")
@in_workspace
def stop(immediately: bool, workspace: Path) -> None:
    """Stop the run after the current phase. `wizloop start` resumes it."""
    if _request(workspace, "stop_now" if immediately else "stop"):
        say(f"Will stop after the current {'batch' if immediately else 'phase'}. Run `wizloop start` to resume.")
    else:
        say(f"no run is active in {workspace}")


def _request(workspace: Path, wanted: str) -> bool:
    """Write a request into the store; return False, and write nothing, if no controller is there to read it."""
    from wizloop.loop.controller import lock
    from wizloop.store import control
    from wizloop.store.db import Store

    with report_errors(), Store.open(workspace) as store:
        if not lock.is_held(workspace):
            return False
        with store.write() as db:
            control.want(db, wanted)
    return True
