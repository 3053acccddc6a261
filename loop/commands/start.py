"""`start`: the run in its own process with the app on it, or in this process with plain progress."""

import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from wizloop.loop.commands.common import (
    BAD_INPUT,
    DOLLARS,
    FAILED,
    INTERRUPTED,
    MOST_ROUNDS,
    in_workspace,
    now,
    on_terminal,
    report_errors,
    say,
)
from wizloop.loop.commands.completion import recipe_names

if TYPE_CHECKING:
    from wizloop.loop.controller.starting import RunLimits
    from wizloop.loop.controller.supervisor import Supervisor
    from wizloop.recipes.schema import Recipe


@click.command
@click.argument("recipe", required=False, shell_complete=recipe_names)
@in_workspace
@click.option("--headless", is_flag=True, help="Print plain lines, even on a terminal.")
@click.option("--plain", is_flag=True, help="Show a progress screen instead of the app.")
@click.option(
    "--rounds", type=click.IntRange(0, MOST_ROUNDS), help="Run N rounds after round 0, in total.", metavar="N"
)
@click.option("--until", metavar="HH:MM", help="Start no phase after this time.")
@click.option("--budget", type=DOLLARS, metavar="USD", help="Spend at most this much on teachers.")
@click.option("--dry-run", is_flag=True, help="Check everything and print the plan; start nothing.")
@click.option("--json", "as_json", is_flag=True, help="With --dry-run: print JSON on one line, for scripts.")
@click.option("--started-fd", type=int, hidden=True, help="Pipe to write to when the run has started.")
def start(
    recipe: str | None,
    workspace: Path,
    headless: bool,
    plain: bool,
    rounds: int | None,
    until: str | None,
    budget: float | None,
    dry_run: bool,
    as_json: bool,
    started_fd: int | None,
) -> None:
    """Start a run, or resume the workspace's run.

    RECIPE is a shipped recipe's name or a file. Without one, the run uses the samples that `wizloop import` added to
    the workspace, or else the demo. On a terminal the app opens; leaving it does not stop the run.
    """
    if until is not None and not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", until):
        raise click.BadParameter(f"{until!r} is not a time of day: write it like 07:00", param_hint="--until")
    if as_json and not dry_run:
        raise click.BadParameter("needs --dry-run; for a run, use `wizloop status --json`", param_hint="--json")
    from wizloop.loop.controller.starting import RunLimits

    limits = RunLimits(rounds, until, budget)
    if dry_run:
        from wizloop.loop.commands import plan_report

        plan_report.report(workspace, recipe, limits, as_json=as_json)
        return
    live = on_terminal() and not headless
    if live and not plain and sys.stdin.isatty():
        _with_app(workspace, recipe, {"--rounds": rounds, "--until": until, "--budget": budget})
    status = run_night(workspace, recipe, limits, live=live, started_fd=started_fd)
    if status:
        raise click.exceptions.Exit(status)


def _with_app(workspace: Path, recipe: str | None, limits: Mapping[str, object]) -> NoReturn:
    """Start the run detached and become the app; both load at the same time."""
    from wizloop.loop.commands import watch
    from wizloop.loop.controller import detached

    words = [] if recipe is None else [recipe]
    words += ["--workspace", str(workspace)]
    words += [word for name, value in limits.items() if value is not None for word in (name, str(value))]
    watch.become(workspace, *detached.begin(words))


def run_night(
    workspace: Path,
    recipe: "str | Recipe | None",
    limits: "RunLimits",
    *,
    live: bool,
    phases: str = "wizloop.loop.phases.order",
    started_fd: int | None = None,
) -> int:
    """Run the night, report it and return the exit status; `phases` is the module with the phases.

    With `started_fd`, nobody watches: write to this pipe when the run has started, and log to a file.
    """
    from wizloop.backends.guard_types import BackendError
    from wizloop.loop.controller import detached, lock, starting, supervisor
    from wizloop.recipes.schema import RecipeError

    with report_errors(lock.Held, RecipeError, starting.OtherRecipe, starting.TeacherMissing, BackendError):
        with (
            supervisor.controlling(workspace, recipe, limits, clock=now, phases=phases) as controller,
            _watched(controller, workspace, live),
        ):
            if started_fd is not None:
                detached.report_started(started_fd, workspace)
            ended = controller.run()
        _report(workspace, f"{ended.state}: {ended.reason}")
    if ended.by_signal:
        return INTERRUPTED
    if ended.state == "failed":
        return BAD_INPUT if ended.bad_input else FAILED
    return FAILED if ended.state == "paused" else 0


@contextmanager
def _watched(controller: "Supervisor", workspace: Path, live: bool) -> Iterator[None]:
    """Print progress on stderr from a thread that only reads; without a reader, write it to the log."""
    from threading import Event, Thread

    from wizloop.console.progress import follow, last_event_id
    from wizloop.loop.controller import detached

    def view(after: int) -> None:
        try:
            follow(workspace, sys.stderr, over, live=live, after=after)
        except OSError:
            # Nobody reads the pipe, or the terminal closed while SIGHUP is ignored.
            detached.redirect_to_log(workspace, [sys.stderr.fileno()])
            controller.hang_up()
            follow(workspace, sys.stderr, over, live=False, after=last_event_id(workspace))

    over = Event()
    controller.on_hangup = partial(detached.redirect_to_log, workspace, detached.terminals())
    viewer = Thread(target=view, args=(last_event_id(workspace),), daemon=True)
    viewer.start()
    try:
        yield
    finally:
        over.set()
        viewer.join()


def _report(workspace: Path, ending: str) -> None:
    """Print the rounds and exports to stdout, and how the run ended to stderr."""
    from wizloop.console import category_figures
    from wizloop.console.tables import console_for_tables, exports_of, rounds_table
    from wizloop.loop.commands.common import read_store
    from wizloop.store.overview import base_summary, summaries
    from wizloop.store.reviews import waiting_count

    with read_store(workspace) as db:
        base, found, waiting = base_summary(db), summaries(db), waiting_count(db)
    if found:
        console = console_for_tables()
        console.print(rounds_table(found, base))
        if (of_categories := category_figures.table(found, base)) is not None:
            console.print()
            console.print(of_categories)
    for path in exports_of(found):
        print(workspace / path)
    if waiting:
        say(f"{waiting:,} traces wait for review: run `wizloop watch` or `wizloop review --list`")
    say(ending)
