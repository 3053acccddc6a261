"""`champion`: choose the champion by hand, over the gate, on record."""

import getpass
from datetime import UTC
from pathlib import Path

import click

from wizloop.loop.commands.common import BAD_INPUT, in_workspace, now, refuse, report_errors, say


@click.command(short_help="Choose the champion by hand, over the gate.")
@click.argument("round", metavar="ROUND|base")
@click.option("--why", metavar="TEXT", required=True, help="Reason, for the record.")
@in_workspace
def champion(round: str, why: str, workspace: Path) -> None:
    """Make the challenger of ROUND the champion, whether its gate held it or not, or go back to the base.

    Between two rounds only: the next round reads the pool with it, and its challenger is held against it.
    """
    from wizloop.backends import artifacts
    from wizloop.loop.controller import lock
    from wizloop.loop.phases import champion_choice
    from wizloop.store.db import Store

    number = None if round == "base" else int(round) if round.isascii() and round.isdigit() else -1
    if number == -1:
        refuse(f"{round!r} is no round: give its number, or base", BAD_INPUT)
    by = f"person:{getpass.getuser()}"
    with report_errors(champion_choice.Refused, lock.Held), Store.open(workspace) as store:
        if lock.is_held(workspace):
            refuse(champion_choice.running(store))
        with lock.held(workspace, now()):
            wanted = champion_choice.model_of(store, number)
            if wanted.role != "base":
                artifacts.verify(workspace / wanted.path)
            said = champion_choice.choose(store, wanted, why=why, by=by, now=now().astimezone(UTC))
    say(said)
