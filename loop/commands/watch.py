"""`watch`: the terminal interface on a workspace, in a process that holds no key; any number, from anywhere."""

import gc
import getpass
import os
import re
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from wizloop.loop.commands.common import FILE, in_workspace, now, on_terminal, refuse, say, sentences

if TYPE_CHECKING:
    from wizloop.tui.app import WizloopApp

_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|CREDENTIAL|WIZLOOP_NOTIFY", re.IGNORECASE)
"""What names a variable of the environment that may hold a key."""


@click.command(short_help="The screens on a run, and the review by keys.")
@in_workspace
@click.option("--read-only", is_flag=True, help="Look, and write nothing.")
@click.option("--as", "name", metavar="NAME", help="Whose decisions these are; else the name of the account.")
@click.option("--pictures", type=FILE, metavar="DIR", help="Write the five screens as SVG into DIR, and end.")
@click.option("--began", type=(int, int), hidden=True, help="A controller's pid, and where its first word is read.")
def watch(
    workspace: Path, read_only: bool, name: str | None, pictures: Path | None, began: tuple[int, int] | None
) -> None:
    """Watch a run, and review: the run goes on whatever becomes of this."""
    if pictures is not None:
        with sentences():
            _take(workspace, pictures)
        return
    if not on_terminal():
        refuse("watch draws on a terminal that can be drawn on: use `wizloop status` where there is none (TERM=dumb)")
    if len(clean := without_keys(os.environ)) < len(os.environ):
        _begin_again(sys.argv[1:], clean)
    with sentences():
        _open(workspace, read_only, name, began)


def become(workspace: Path, pid: int, descriptor: int) -> NoReturn:
    """Turn this process into the app on a run that a controller is about to begin."""
    os.set_inheritable(descriptor, True)
    words = ["watch", "--workspace", str(workspace), "--began", str(pid), str(descriptor)]
    _begin_again(words, without_keys(os.environ))


def without_keys(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment less every variable whose name tells that it may hold a key."""
    return {name: value for name, value in environment.items() if not _SECRET.search(name)}


def _begin_again(words: list[str], environment: Mapping[str, str]) -> NoReturn:
    """This process again, with that environment: what a process began with stays readable as long as it lives."""
    from wizloop.loop.controller.detached import COMMAND

    os.execve(COMMAND[0], [*COMMAND, *words], environment)


def _open(workspace: Path, read_only: bool, name: str | None, began: tuple[int, int] | None) -> None:
    """Open the app, and say what becomes of the run once it is left. Raises errors.StoreError."""
    from wizloop.loop.controller import detached, lock

    if began is not None and (status := detached.begun(*began)):
        raise click.exceptions.Exit(status)
    with _app(workspace, read_only, name) as app:
        # What was imported stays: looking through it for garbage would take longer than a key may.
        gc.freeze()
        wanted = app.run()
    _tell(workspace, wanted, lock.is_held(workspace))
    if app.return_code:
        raise click.exceptions.Exit(app.return_code)


def _take(workspace: Path, folder: Path) -> None:
    from wizloop.tui import pictures

    with _app(workspace, True, None) as app:
        pictures.take(app, folder)
    say(f"the pictures are in {folder}")


@contextmanager
def _app(workspace: Path, read_only: bool, name: str | None) -> Iterator["WizloopApp"]:
    """The app on an open store. Raises errors.StoreError."""
    from wizloop.loop.controller import lock
    from wizloop.store.db import Store
    from wizloop.tui.app import WizloopApp
    from wizloop.tui.workspace import Desk

    with Store.open(workspace, readonly=read_only) as store:
        desk = Desk(
            store,
            workspace,
            by=f"person:{name or getpass.getuser()}",
            clock=now,
            alive=lambda: lock.is_held(workspace),
            new_id=lambda: f"tui-{uuid.uuid4()}",
            readonly=read_only,
        )
        yield WizloopApp(desk)


def _tell(workspace: Path, wanted: str | None, alive: bool) -> None:
    """The last sentence: what becomes of the run, or what became of it."""
    from wizloop.loop.commands.common import reading
    from wizloop.store.overview import overview
    from wizloop.tui.formatting import headline

    if wanted == "stop":
        say("the run stops after the phase that it is at: `wizloop start` goes on")
    elif alive:
        say("the run goes on: `wizloop watch` shows it again, `wizloop stop` ends it")
    else:
        with reading(workspace) as db:
            say(headline(overview(db), alive))
