"""`status`, `rounds`, `doctor`: the state of a run and of the machine, as text or, with --json, for scripts."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wizloop.loop.commands.common import (
    DOLLARS,
    FAILED,
    INTERRUPTED,
    in_workspace_with_json,
    now,
    put,
    read_store,
    refuse,
    report_errors,
    say,
    show,
)
from wizloop.loop.commands.completion import recipe_names

if TYPE_CHECKING:
    from wizloop.loop.controller.starting import RunLimits
    from wizloop.loop.evaluation.against import Line
    from wizloop.loop.preflight import Check

_REVIEW = "`wizloop watch`, or `wizloop review --list`"


@click.command
@in_workspace_with_json
def status(workspace: Path, as_json: bool) -> None:
    """Show the state of the run."""
    from wizloop.loop.summaries import status_of
    from wizloop.store.status import run_status

    with report_errors():
        state = status_of(run_status(workspace), workspace)
    if as_json:
        put(state)
        return
    for line in _lines(state):
        show(line)


@click.command
@click.option(
    "--against", metavar="base|ROUND", help="Compare each round with this one, on the answers that the night stored."
)
@in_workspace_with_json
def rounds(against: str | None, workspace: Path, as_json: bool) -> None:
    """Show the base's and each round's scores, cost and gate."""
    from wizloop.loop.commands import against_table
    from wizloop.loop.summaries import rounds_of
    from wizloop.store.overview import base_summary, summaries

    with report_errors(), read_store(workspace, needs_run=True) as db:
        compared = [] if against is None else _compared(workspace, against)
        if as_json:
            every = rounds_of(db, workspace)
            put(every if against is None else [one | against_table.of_round(compared, one["round"]) for one in every])
            return
        base, found = base_summary(db), summaries(db)
    from wizloop.console import category_figures
    from wizloop.console.tables import console_for_tables, plain, rounds_notes, rounds_table

    console = console_for_tables()
    console.print(rounds_table(found, base))
    if (of_categories := category_figures.table(found, base)) is not None:
        console.print()
        console.print(of_categories)
        console.print(plain(category_figures.NOTE, 2000))
    for note in rounds_notes(found):
        console.print(plain(note, 2000))
    against_table.show(compared)


def _compared(workspace: Path, against: str) -> "list[Line]":
    from wizloop.loop.evaluation.stored_answers import rounds_against
    from wizloop.store.db import Store

    with Store.open(workspace, readonly=True) as store:
        return rounds_against(store, against)


@click.command(short_help="Check whether a night can start here.")
@click.argument("recipe", required=False, shell_complete=recipe_names)
@click.option("--ask-teacher", is_flag=True, help="Measure the teachers on 60 rows of the seed now. This costs money.")
@click.option("--budget", type=DOLLARS, metavar="USD", help="With --ask-teacher: the run's cap on teachers.")
@in_workspace_with_json
def doctor(recipe: str | None, ask_teacher: bool, budget: float | None, workspace: Path, as_json: bool) -> None:
    """Check whether a night can start here, with RECIPE, or else the recipe that `wizloop start` would take.

    Asks the teachers' providers about their models, at no cost. `wizloop start --dry-run` runs the same checks without
    the network, and adds the plan. With --ask-teacher the run of the recipe begins in the workspace: its samples are
    imported, and what its teachers answer is kept for the night.
    """
    from wizloop.loop.controller.starting import RunLimits
    from wizloop.loop.preflight.checks import preflight

    if budget is not None and not ask_teacher:
        refuse("--budget is for --ask-teacher")
    limits = RunLimits(budget_usd=budget)
    with report_errors():
        found = preflight(workspace, recipe, limits, now().astimezone(), thorough=True)
        if ask_teacher and found.recipe is not None and all(check.ok for check in found.checks):
            _ask_teachers(workspace, recipe, limits)
            found = preflight(workspace, recipe, limits, now().astimezone(), thorough=False)
    checks = found.checks
    passed = all(check.ok for check in checks)
    if as_json:
        put({"ok": passed, "checks": [asdict(check) for check in checks]})
    else:
        show_checks(checks)
    if not passed:
        raise click.exceptions.Exit(FAILED)


def _ask_teachers(workspace: Path, recipe: str | None, limits: "RunLimits") -> None:
    """Measure the teachers in the workspace's ledger; what is found stands among the checks."""
    from wizloop.loop.controller import lock, starting, supervisor
    from wizloop.loop.data.records import ImportRefused
    from wizloop.loop.interrupted import Interrupted, NeedsFix

    known = (lock.Held, starting.OtherRecipe, starting.TeacherMissing, ImportRefused)
    with report_errors(*known), supervisor.controlling(workspace, recipe, limits, clock=now) as controller:
        try:
            controller.check_teachers()
        except NeedsFix as fault:
            say(str(fault))
        except Interrupted:
            refuse("interrupted: answers are kept. Run the same command to resume.", INTERRUPTED)


def show_checks(checks: "Sequence[Check]") -> None:
    """Print each check, with its advice below."""
    for check in checks:
        show(f"{'ok  ' if check.ok else 'BAD '} {check.name:10} {check.found}", 2000)
        if check.advice:
            show(f"     {'':10} -> {check.advice}")


def _lines(state: dict[str, Any]) -> list[str]:
    budget = state["budget"]
    cap = "no budget" if budget["cap"] is None else f"of ${budget['cap']:.2f}"
    progress = f", {state['done']:,} of {state['total']:,}" if state["total"] else ""
    where = "not started" if state["phase"] is None else f"round {state['round']}, {state['phase']}{progress}"
    rounds_wanted = f"{state['rounds_wanted']} round{'' if state['rounds_wanted'] == 1 else 's'}"
    lines = [
        f"run      {state['run']}: {state['state']}" + (f" ({state['reason']})" if state["reason"] else ""),
        f"at       {where}; {rounds_wanted} after round 0",
        f"money    ${budget['settled']:.2f} spent, ${budget['reserved']:.2f} reserved, {cap}",
        f"review   {state['to_review']:,} waiting" + (f": {_REVIEW}" if state["to_review"] else ""),
    ]
    lines += [f"teacher  {name} is out: {why}" for name, why in state["teachers_out"].items()]
    lines += [f"checked  {one['sentence']}" for one in state["teachers_checked"].values()]
    if state["alive"]:
        doing = f"waiting: {state['waiting']}" if state["waiting"] else state["doing"] or "starting"
        lines.append(f"now      {doing} (process {state['pid']} on {state['host']})")
    return lines
