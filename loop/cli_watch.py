"""`watch`: the terminal interface on a workspace, in a process that holds no key; any number, from anywhere."""

import getpass
import os
import re
import sys
import uuid
from pathlib import Path

import click

from wizloop.loop.cli_common import in_workspace, now, on_terminal, refuse, say, sentences

_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|CREDENTIAL|WIZLOOP_NOTIFY", re.IGNORECASE)
"""What names a variable of the environment that may hold a key."""


@click.command
@in_workspace
@click.option("--read-only", is_flag=True, help="Look, and write nothing.")
@click.option("--as", "name", metavar="NAME", help="Whose decisions these are; else the name of the account.")
def watch(workspace: Path, read_only: bool, name: str | None) -> None:
    """Watch a run, and review: the run goes on whatever becomes of this."""
    if not on_terminal():
        refuse("watch draws on a terminal: use `wizloop status` where there is none")
    _forget_keys()
    with sentences():
        opened(workspace, read_only, name)


def opened(workspace: Path, read_only: bool, name: str | None) -> None:
    """Open the app on a workspace, and say what becomes of the run once it is left. Raises errors.StoreError."""
    from wizloop.loop import lock
    from wizloop.store.db import Store
    from wizloop.tui.app import WizloopApp
    from wizloop.tui.desk import Desk

    with Store.open(workspace, readonly=read_only) as store:
        by = f"person:{name or getpass.getuser()}"
        desk = Desk(
            store, workspace, by, now, lambda: lock.is_held(workspace), lambda: f"tui-{uuid.uuid4()}", read_only
        )
        app = WizloopApp(desk)
        wanted = app.run()
    if wanted == "stop":
        say("the run stops after the phase that it is at")
    elif lock.is_held(workspace):
        say("the run goes on: `wizloop watch` shows it again, `wizloop stop` ends it")
    if app.return_code:
        raise click.exceptions.Exit(app.return_code)


def without_keys(environment: dict[str, str]) -> dict[str, str]:
    """The environment less every variable whose name tells that it may hold a key."""
    return {name: value for name, value in environment.items() if not _SECRET.search(name)}


def _forget_keys() -> None:
    """Begin this process again without keys, where its environment has any: what it began with stays readable."""
    clean = without_keys(dict(os.environ))
    if len(clean) < len(os.environ):
        os.execve(sys.executable, [sys.executable, "-P", "-m", "wizloop.loop.cli", *sys.argv[1:]], clean)
