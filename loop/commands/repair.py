"""`repair`: make the damaged models of a run again from its records."""

import sys
from contextlib import redirect_stdout
from pathlib import Path

import click

from wizloop.loop.commands.common import FAILED, in_workspace, now, report_errors, say


@click.command(short_help="Make a run's damaged models again from its records.")
@in_workspace
def repair(workspace: Path) -> None:
    """Check every model of the run against its recorded hash, and train the damaged ones again from what is recorded.

    Prints a line for each. A damaged database cannot be repaired: restore a backup.
    """
    from wizloop.backends.guard_types import BackendError
    from wizloop.loop.context import Standalone, recipe_of
    from wizloop.loop.controller import lock
    from wizloop.loop.phases import remake
    from wizloop.store.db import Store

    with (
        report_errors(lock.Held, failures=(BackendError,)),
        Store.open(workspace) as store,
        lock.held(workspace, now()),
        redirect_stdout(sys.stderr),
    ):
        with store.read() as db:
            recipe = recipe_of(db)
        said = remake.run(lambda round, phase: Standalone(store, workspace, recipe, round, phase, now, lambda: False))
    for sentence in said or ["every model is what was recorded: nothing was changed"]:
        say(sentence)
    if any(" is lost" in sentence for sentence in said):
        raise click.exceptions.Exit(FAILED)
