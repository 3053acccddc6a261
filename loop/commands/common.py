"""Shared parts of the commands: options, JSON on stdout, messages on stderr, errors as an exit status."""

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

import click

from wizloop.loop.commands.completion import workspaces

if TYPE_CHECKING:
    from wizloop.loop.context import Standalone

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130

FILE = click.Path(path_type=Path)
SPLITS = ("pool", "seed", "dev", "test")
MOST_ROUNDS = 1000
"""Most rounds of a run, as in a recipe."""
MOST_DOLLARS = 10**9
_MOST_PROBLEMS = 20
"""Answers that were not recorded and are named; --json names all."""


class _Number(click.IntRange):
    """The number of a row or a round. The upper bound stays out of the help."""

    name = "number"

    def __init__(self, what: str, most: int) -> None:
        super().__init__(min=0)
        self._what, self._most = what, most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        number = super().convert(value, param, ctx)
        if number > self._most:
            self.fail(f"there is no {self._what} {value}.", param, ctx)
        return number


class _Dollars(click.FloatRange):
    """An amount of money. Click's own ranges accept nan."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        amount = super().convert(value, param, ctx)
        if not amount <= MOST_DOLLARS:
            self.fail(f"{value} is not an amount: give at most {MOST_DOLLARS:,} dollars.", param, ctx)
        return amount


# The largest id that SQLite can hold.
ID, ROUND, DOLLARS = _Number("id", 2**63 - 1), _Number("round", 10**6), _Dollars(min=0)

in_workspace = click.option(
    "--workspace",
    "-w",
    type=FILE,
    default=Path("runs"),
    show_default=True,
    shell_complete=workspaces,
    help="Folder of the run.",
)
with_json = click.option("--json", "as_json", is_flag=True, help="Print JSON on one line, for scripts.")


def in_workspace_with_json(command: Callable[..., object]) -> Callable[..., object]:
    """Add the options --workspace and --json."""
    return in_workspace(with_json(command))


def now() -> datetime:
    """Return the current time; the command line reads the clock nowhere else."""
    return datetime.now(UTC)


def say(message: str) -> None:
    """Print a message to stderr, with control characters made visible."""
    from wizloop.store.display import shown

    click.echo(shown(message), err=True)


def show(line: str, limit: int = 20_000) -> None:
    """Print human-readable text to stdout, at most `limit` bytes, with control characters made visible."""
    from wizloop.store.display import shown

    print(shown(line, limit))


def put(data: object, out: TextIO | None = None) -> None:
    """Print a JSON value on one line of `out` or stdout, in ASCII, so that no text can control a terminal."""
    print(json.dumps(data), flush=True, file=out)


def refuse(message: str, status: int = BAD_INPUT) -> NoReturn:
    """Print a message and exit."""
    say(f"wizloop: {message}")
    raise click.exceptions.Exit(status)


def error_text(error: Exception) -> str:
    """Return an error's message; for an OSError, its file and reason without the number."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'the output'}: {error.strerror}"
    return str(error)


@contextmanager
def report_errors(*bad_input: type[Exception], failures: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Turn expected errors into a message and an exit status: 2 for `bad_input`, 1 for `failures`.

    Errors of the store are included: 2 where the input named something that does not exist, else 1.
    """
    from wizloop.backends.guard_types import BadArtifact, ModelMissing
    from wizloop.plugins import PluginError
    from wizloop.store import errors

    models = (BadArtifact, ModelMissing)
    missing = (errors.NoWorkspace, errors.NoPlace, errors.Damaged, errors.NoRun, errors.NotFound, errors.RunExists)
    versions = (errors.SchemaTooNew, errors.SchemaTooOld, errors.OtherVersion)
    refused = (errors.BadDecision, errors.AlreadyDecided, errors.NothingToUndo, errors.WrongState, errors.BadText)
    input_errors: tuple[type[Exception], ...] = (*missing, *models, *versions, *refused, PluginError, *bad_input)
    other_errors: tuple[type[Exception], ...] = (errors.StoreError, *failures)
    try:
        yield
    except input_errors as error:
        refuse(error_text(error))
    except other_errors as error:
        refuse(error_text(error), FAILED)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        refuse(f"the database holds a text that cannot be read ({error}): restore a backup")
    except KeyboardInterrupt:
        refuse("interrupted", INTERRUPTED)


@contextmanager
def read_store(workspace: Path, *, needs_run: bool = False) -> Iterator[Any]:
    """Open the workspace's store for reading, as one snapshot. Raises errors.NoRun if there must be a run."""
    from wizloop.store import control, errors
    from wizloop.store.db import Store

    with Store.open(workspace, readonly=True) as store, store.read() as db:
        if needs_run and control.get_run(db) is None:
            raise errors.NoRun
        yield db


@contextmanager
def run_models(workspace: Path, command: str, *bad_input: type[Exception]) -> Iterator["Standalone"]:
    """Open a run's models for a command; errors become messages, and library output goes to stderr."""
    from wizloop.backends.guard_types import BackendError
    from wizloop.loop.context import recipe_of, standalone
    from wizloop.store.db import Store

    with (
        report_errors(*bad_input, failures=(BackendError,)),
        Store.open(workspace, readonly=True) as store,
        redirect_stdout(sys.stderr),
    ):
        with store.read() as db:
            recipe = recipe_of(db)
        yield standalone(store, workspace, recipe, command, now())


def new_file(path: Path | None) -> None:
    """Refuse a file that exists or cannot be written, before any work is done."""
    if path is not None:
        _refuse_place(path, path.absolute().parent)


def new_folder(path: Path | None) -> None:
    """Refuse a folder that exists or cannot be created, before any work is done."""
    if path is not None:
        _refuse_place(path, next(each for each in path.absolute().parents if each.exists()))


@contextmanager
def written_whole(path: Path) -> Iterator[TextIO]:
    """Open a new text file that gets its name once it is whole."""
    aside = path.with_name(f"{path.name}.part")
    try:
        with aside.open("w", encoding="utf-8") as file:
            yield file
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def _refuse_place(path: Path, parent: Path) -> None:
    if path.exists():
        refuse(f"{path} already exists: choose a new name")
    if not parent.is_dir():
        refuse(f"{parent} is not a folder: create it, or choose another place")
    if not os.access(parent, os.W_OK | os.X_OK):
        refuse(f"{parent} is not writable: choose another place")


def on_terminal() -> bool:
    """Return whether stdout and stderr are a terminal that can place a cursor (TERM=dumb cannot)."""
    return os.environ.get("TERM") != "dumb" and sys.stdout.isatty() and sys.stderr.isatty()


def show_recorded(
    counts: Mapping[str, int], words: Mapping[str, str], problems: Sequence[str], *, as_json: bool
) -> None:
    """Show how many answers of a file were recorded, by kind in `words`, and those that were not, with the reason."""
    if as_json:
        put({**{name: counts[name] for name in words}, "problems": problems})
    for problem in problems[:_MOST_PROBLEMS]:
        say(f"not recorded: {problem}")
    said = ", ".join(f"{counts[name]:,} {meaning}" for name, meaning in words.items() if counts[name])
    say(f"{said or 'nothing was recorded'}{f'; {len(problems):,} not recorded' if problems else ''}")
