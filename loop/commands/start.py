"""`start`: the night in a process of its own and the app on it; or in this one, with a plainer view beside it."""

import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
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
    say,
    sentences,
)
from wizloop.loop.commands.completion import recipe_names

if TYPE_CHECKING:
    from wizloop.loop.controller.starting import Limits
    from wizloop.loop.controller.supervisor import Supervisor


@click.command
@click.argument("recipe", required=False, shell_complete=recipe_names)
@in_workspace
@click.option("--headless", is_flag=True, help="Plain lines, even on a terminal.")
@click.option("--plain", is_flag=True, help="A progress screen in place of the app.")
@click.option("--rounds", type=click.IntRange(0, MOST_ROUNDS), help="Rounds after round 0, in all.")
@click.option("--until", metavar="HH:MM", help="No phase begins after it.")
@click.option("--budget", type=DOLLARS, metavar="USD", help="The most that teachers may cost.")
@click.option("--dry-run", is_flag=True, help="Check what it needs and show the plan; start nothing.")
@click.option("--json", "as_json", is_flag=True, help="With --dry-run: print JSON for scripts, on one line.")
@click.option("--told", type=int, hidden=True, help="Where to say that the run has begun.")
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
    told: int | None,
) -> None:
    """Start a run, or go on with the workspace's run where it stopped.

    RECIPE is a shipped recipe's name or a file. Without one, a workspace that `wizloop import` filled is run on what it
    holds, and an empty one on the demo. On a terminal the app opens on it; leaving the app does not end the run.
    """
    if until is not None and not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", until):
        raise click.BadParameter(f"{until!r} is no time of day: write it like 07:00", param_hint="--until")
    if as_json and not dry_run:
        raise click.BadParameter("it goes with --dry-run; `wizloop status --json` tells of a run", param_hint="--json")
    if dry_run:
        from wizloop.loop.commands import plan_report
        from wizloop.loop.controller.starting import Limits

        plan_report.dry_run(workspace, recipe, Limits(rounds, until, budget), as_json=as_json)
        return
    live = on_terminal() and not headless
    if live and not plain and sys.stdin.isatty():
        limits = {"--rounds": rounds, "--until": until, "--budget": budget}
        _with_app(workspace, recipe, limits)
    from wizloop.loop.controller.starting import Limits

    status = night_of(workspace, recipe, Limits(rounds, until, budget), live=live, told=told)
    if status:
        raise click.exceptions.Exit(status)


def _with_app(workspace: Path, recipe: str | None, limits: Mapping[str, object]) -> NoReturn:
    """Start the run detached, and become the app: both load at once."""
    from wizloop.loop.commands import watch
    from wizloop.loop.controller import detached

    words = [] if recipe is None else [recipe]
    words += ["--workspace", str(workspace)]
    words += [word for name, value in limits.items() if value is not None for word in (name, str(value))]
    watch.become(workspace, *detached.begin(words))


def night_of(
    workspace: Path,
    recipe: str | None,
    limits: "Limits",
    *,
    live: bool,
    phases: str = "wizloop.loop.phases.order",
    told: int | None = None,
) -> int:
    """Do the night and tell of it; the exit status. `phases` is the module that has them.

    With `told` nobody watches: that pipe hears that the run has begun, and a file the rest.
    """
    from wizloop.loop.controller import detached, lock, starting, supervisor
    from wizloop.recipes.schema import RecipeError

    def clock() -> datetime:
        return now().astimezone()

    with sentences(lock.Held, RecipeError, starting.OtherRecipe, starting.TeacherMissing):
        with (
            supervisor.controlling(workspace, recipe, limits, clock=clock, phases=phases) as controller,
            _watched(controller, workspace, live),
        ):
            if told is not None:
                detached.tell(told, workspace)
            ended = controller.run()
        _tell(workspace, f"{ended.state}: {ended.reason}")
    if ended.by_signal:
        return INTERRUPTED
    if ended.state == "failed":
        return BAD_INPUT if ended.bad_input else FAILED
    return 0


@contextmanager
def _watched(controller: "Supervisor", workspace: Path, live: bool) -> Iterator[None]:
    """Show on stderr what happens, from a thread that only reads; where nobody is there to see, in the log."""
    from threading import Event, Thread

    from wizloop.console.progress import follow, last_event_id
    from wizloop.loop.controller import detached

    def view(after: int) -> None:
        try:
            follow(workspace, sys.stderr, over, live=live, after=after)
        except OSError:
            # A pipe that nobody reads, or a terminal that went away where SIGHUP is ignored.
            detached.into_log(workspace, [sys.stderr.fileno()])
            controller.hang_up()
            follow(workspace, sys.stderr, over, live=False, after=last_event_id(workspace))

    over = Event()
    controller.on_hangup = partial(detached.into_log, workspace, detached.terminals())
    viewer = Thread(target=view, args=(last_event_id(workspace),), daemon=True)
    viewer.start()
    try:
        yield
    finally:
        over.set()
        viewer.join()


def _tell(workspace: Path, ending: str) -> None:
    """The rounds and the exports on stdout, and the last sentence."""
    from wizloop.console.tables import console_for_tables, exports_of, rounds_table
    from wizloop.loop.commands.common import reading
    from wizloop.store.overview import summaries
    from wizloop.store.reviews import waiting_count

    with reading(workspace) as db:
        found, waiting = summaries(db), waiting_count(db)
    if found:
        console_for_tables().print(rounds_table(found))
    for path in exports_of(found):
        print(workspace / path)
    if waiting:
        say(f"{waiting:,} traces wait for a person: `wizloop watch` shows them, `wizloop review --list` lists them")
    say(ending)
