"""What the commands share: the workspace option, JSON on stdout, talk on stderr, errors as sentences with a status."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn, TextIO

import click

from wizloop.loop.commands.completion import workspaces

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130

FILE = click.Path(path_type=Path)
HERE = Path("runs")

ROUND = click.IntRange(0, 10**6)
MOST_ROUNDS = 1000
"""As in a recipe: a night does a few, and of each the plan is made ahead."""
MOST_DOLLARS = 10**9


class _Id(click.IntRange):
    """A row's number, as the store can hold it; its bound says nothing to a person, and stands in no help."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        found = super().convert(value, param, ctx)
        if found >= 2**63:
            self.fail(f"{value} is not the id of anything.", param, ctx)
        return found


class _Dollars(click.FloatRange):
    """An amount of money; no range of click's refuses nan."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        found = super().convert(value, param, ctx)
        if not found <= MOST_DOLLARS:
            self.fail(f"{value} is no amount: give dollars, {MOST_DOLLARS:,} at most.", param, ctx)
        return found


ID, DOLLARS = _Id(min=0), _Dollars(min=0)

in_workspace = click.option(
    "--workspace",
    "-w",
    type=FILE,
    default=HERE,
    show_default=True,
    shell_complete=workspaces,
    help="The folder of the run.",
)
with_json = click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts, on one line.")


def now() -> datetime:
    """The time; the one place where the command line reads the clock."""
    return datetime.now(UTC)


def say(message: str) -> None:
    """Talk to the person, on stderr, where no data goes. Whatever a pool put into it cannot drive the terminal."""
    from wizloop.store.display import shown

    click.echo(shown(message), err=True)


def put(data: object, out: TextIO | None = None) -> None:
    """One JSON value on one line of `out` or stdout; not a byte outside ASCII, so that no text can drive a terminal."""
    print(json.dumps(data), flush=True, file=out)


def refuse(message: str, status: int = BAD_INPUT) -> NoReturn:
    """End the command with a sentence."""
    say(f"wizloop: {message}")
    raise click.exceptions.Exit(status)


def told(error: Exception) -> str:
    """An error in words: of the system's own, what it was about says more than its number."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'the output'}: {error.strerror}"
    return str(error)


@contextmanager
def sentences(*bad_input: type[Exception], failures: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Turn the errors that were foreseen into a sentence and an exit status: `bad_input` 2, `failures` 1.

    What the store refuses is known here: it is bad input where the person named something that is not there.
    """
    from wizloop.plugins import PluginError
    from wizloop.store import errors

    missing = (errors.NoWorkspace, errors.NoPlace, errors.NoRun, errors.NotFound, errors.RunExists)
    versions = (errors.SchemaTooNew, errors.SchemaTooOld, errors.OtherVersion)
    refused = (errors.BadDecision, errors.AlreadyDecided, errors.NothingToUndo, errors.WrongState, errors.BadText)
    ours: tuple[type[Exception], ...] = (*missing, *versions, *refused, PluginError, *bad_input)
    theirs: tuple[type[Exception], ...] = (errors.StoreError, *failures)
    try:
        yield
    except ours as error:
        refuse(told(error))
    except theirs as error:
        refuse(told(error), FAILED)
    except KeyboardInterrupt:
        refuse("interrupted", INTERRUPTED)


@contextmanager
def reading(workspace: Path) -> Iterator[Any]:
    """A read-only view of the workspace's store: one connection, one moment."""
    from wizloop.store.db import Store

    with Store.open(workspace, readonly=True) as store, store.read() as db:
        yield db


@contextmanager
def reading_a_run(workspace: Path) -> Iterator[Any]:
    """The same of a workspace with a run. Raises errors.NoRun where it was only imported into."""
    from wizloop.store import control, errors

    with reading(workspace) as db:
        if control.get_run(db) is None:
            raise errors.NoRun
        yield db


def new_file(path: Path | None) -> None:
    """Refuse, before any work is done, a file that could not be written or would write over another."""
    if path is None:
        return
    if path.exists():
        refuse(f"{path} is there already: name a new file")
    if not path.parent.is_dir():
        refuse(f"{path.parent}: no such folder: make it, or name a file elsewhere")
    _refuse_unwritable(path.parent)


def new_folder(path: Path | None) -> None:
    """The same of a folder, which is made with those above it."""
    if path is None:
        return
    if path.exists():
        refuse(f"{path} is there already: name a new folder")
    above = next(each for each in path.absolute().parents if each.exists())
    if not above.is_dir():
        refuse(f"{above} is a file: no folder can be made in it; name one elsewhere")
    _refuse_unwritable(above)


def _refuse_unwritable(folder: Path) -> None:
    if not os.access(folder, os.W_OK | os.X_OK):
        refuse(f"{folder.absolute()}: nothing may be written there: name a place elsewhere")


def on_terminal() -> bool:
    """Whether somebody watches, on a terminal that can be drawn on: TERM=dumb says that it cannot place a cursor."""
    return os.environ.get("TERM") != "dumb" and sys.stdout.isatty() and sys.stderr.isatty()
