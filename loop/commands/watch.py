"""`watch`: the terminal app on a workspace, in a process without keys; several may watch at once."""

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

from wizloop.loop.commands.common import FILE, in_workspace, now, on_terminal, refuse, report_errors, say

if TYPE_CHECKING:
    from wizloop.store.db import Store
    from wizloop.tui.app import WizloopApp
    from wizloop.tui.workspace import Compared

_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|CREDENTIAL|WIZLOOP_NOTIFY", re.IGNORECASE)
"""Matches the names of environment variables that may hold a key."""


@click.command(short_help="Open the app: follow a run and review its traces.")
@in_workspace
@click.option("--read-only", is_flag=True, help="Record no decisions and no requests.")
@click.option("--as", "name", metavar="NAME", help="Name to record with decisions; default: the account's.")
@click.option("--pictures", type=FILE, metavar="DIR", help="Write the five screens as SVG into DIR and exit.")
@click.option("--started", type=(int, int), hidden=True, help="A controller's pid and the pipe that it writes to.")
def watch(
    workspace: Path, read_only: bool, name: str | None, pictures: Path | None, started: tuple[int, int] | None
) -> None:
    """Watch a run and review its traces. Leaving the app does not stop the run."""
    if pictures is not None:
        with report_errors():
            _write_pictures(workspace, pictures)
        return
    _need_terminal("watch", "wizloop status")
    with report_errors():
        _open(workspace, read_only, name, started)


def become(workspace: Path, pid: int, descriptor: int) -> NoReturn:
    """Turn this process into the app on a run that a controller is about to start."""
    os.set_inheritable(descriptor, True)
    words = ["watch", "--workspace", str(workspace), "--started", str(pid), str(descriptor)]
    _execute_again(words, without_keys(os.environ))


def without_keys(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without variables that may hold a key, judging by their names."""
    return {name: value for name, value in environment.items() if not _SECRET.search(name)}


def open_rating(workspace: Path, name: str, set_id: int | None) -> None:
    """Open the rating screen for a rater; then print how many are rated. Raises errors.StoreError."""
    from wizloop.store import ratings
    from wizloop.store.db import Store
    from wizloop.tui.rating import Desk, RatingApp

    by = ratings.person(name)
    _need_terminal("rate", "wizloop rate export")
    with Store.open(workspace) as store:
        with store.read() as db:
            found = ratings.get_set(db, set_id)
        app = RatingApp(Desk(store, found, by, now, lambda: f"tui-{uuid.uuid4()}"))
        gc.freeze()
        app.run()
        with store.read() as db:
            rated, n = len(ratings.of_rater(db, found.id, by)), len(ratings.outputs(db, found.id))
    say(f"{by.removeprefix(ratings.PERSON)} has rated {rated:,} of {n:,} outputs of set {found.id}")
    if app.return_code:
        raise click.exceptions.Exit(app.return_code)


def _need_terminal(command: str, instead: str) -> None:
    """Refuse a terminal that cannot place a cursor; replace a process whose environment may hold keys."""
    if not on_terminal():
        refuse(f"{command} needs a terminal that can place a cursor (TERM=dumb cannot): use `{instead}` instead")
    if len(clean := without_keys(os.environ)) < len(os.environ):
        _execute_again(sys.argv[1:], clean)


def _execute_again(words: list[str], environment: Mapping[str, str]) -> NoReturn:
    """Replace this process, because its initial environment stays readable as long as it lives."""
    from wizloop.loop.controller.detached import COMMAND

    os.execve(COMMAND[0], [*COMMAND, *words], environment)


def _open(workspace: Path, read_only: bool, name: str | None, started: tuple[int, int] | None) -> None:
    """Open the app; after it closes, print the state of the run. Raises errors.StoreError."""
    from wizloop.loop.controller import detached, lock

    if started is not None and (status := detached.wait_until_started(*started)):
        raise click.exceptions.Exit(status)
    with _app(workspace, read_only, name) as app:
        # Imported objects stay: collecting garbage among them would delay keys noticeably.
        gc.freeze()
        wanted = app.run()
    _report(workspace, wanted, lock.is_held(workspace))
    if app.return_code:
        raise click.exceptions.Exit(app.return_code)


def _write_pictures(workspace: Path, folder: Path) -> None:
    from wizloop.tui.app import write_pictures

    with _app(workspace, True, None) as app:
        write_pictures(app, folder)
    say(f"wrote the pictures to {folder}")


@contextmanager
def _app(workspace: Path, read_only: bool, name: str | None) -> Iterator["WizloopApp"]:
    """Open the store and build the app on it. Raises errors.StoreError."""
    from wizloop.loop.controller import lock
    from wizloop.store.db import Store
    from wizloop.tui.app import WizloopApp
    from wizloop.tui.workspace import Workspace

    with Store.open(workspace, readonly=read_only) as store:
        opened = Workspace(
            store,
            workspace,
            by=f"person:{name or getpass.getuser()}",
            clock=now,
            alive=lambda: lock.is_held(workspace),
            new_id=lambda: f"tui-{uuid.uuid4()}",
            readonly=read_only,
            compare=compared,
        )
        yield WizloopApp(opened)


def compared(store: "Store", held: str) -> "dict[str, list[Compared]]":
    """Compare every round's guard with that of `held`, as `wizloop rounds --against` does. Raises errors.NotFound."""
    from wizloop.loop.evaluation import against, stored_answers
    from wizloop.tui.workspace import Compared

    found: dict[str, list[Compared]] = {}
    for one in stored_answers.rounds_against(store, held):
        words = (against.difference(one.found.f1), one.found.conclusion)
        found.setdefault(one.ours, []).append(Compared(one.benchmark, one.task, *words))
    return found


def _report(workspace: Path, wanted: str | None, alive: bool) -> None:
    """Print what happens to the run, or how it ended."""
    from wizloop.console.progress import headline
    from wizloop.loop.commands.common import read_store
    from wizloop.store.overview import overview

    if wanted == "stop":
        say("Will stop after the current phase. Run `wizloop start` to resume.")
    elif alive:
        say("The run continues. `wizloop watch` shows it, `wizloop stop` stops it.")
    else:
        with read_store(workspace) as db:
            say(headline(overview(db), alive))
