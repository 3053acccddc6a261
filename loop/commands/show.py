"""`status`, `rounds`, `doctor`: what there is to see, for a person or, with --json, for a script."""

from pathlib import Path
from typing import Any

import click

from wizloop.loop.commands.common import FAILED, in_workspace, put, reading_a_run, sentences, with_json
from wizloop.loop.commands.completion import recipe_names

_REVIEW = "`wizloop watch`, or `wizloop review --list`"


@click.command
@in_workspace
@with_json
def status(workspace: Path, as_json: bool) -> None:
    """Where the run stands."""
    from wizloop.loop.summaries import status_of
    from wizloop.store.status import glance

    with sentences():
        found = status_of(glance(workspace), workspace)
    if as_json:
        put(found)
        return
    for line in _lines(found):
        _show(line)


@click.command
@in_workspace
@with_json
def rounds(workspace: Path, as_json: bool) -> None:
    """What each round measured, spent and decided."""
    from wizloop.loop.summaries import round_of
    from wizloop.store.overview import summaries

    with sentences(), reading_a_run(workspace) as db:
        found = summaries(db)
    if as_json:
        put([round_of(summary, workspace) for summary in found])
        return
    from wizloop.console.tables import console_for_tables, plain, rounds_notes, rounds_table

    console = console_for_tables()
    console.print(rounds_table(found))
    for note in rounds_notes(found):
        console.print(plain(note, 2000))


@click.command(short_help="Whether a night can start here.")
@click.argument("recipe", required=False, shell_complete=recipe_names)
@in_workspace
@with_json
def doctor(recipe: str | None, workspace: Path, as_json: bool) -> None:
    """Whether a night can start here, checked before it does: RECIPE, or the run's own, or demo."""
    from wizloop.loop.preflight.doctor import examine

    checks = examine(workspace, recipe)
    if as_json:
        put({"ok": all(check.ok for check in checks), "checks": [check.as_json() for check in checks]})
    for check in [] if as_json else checks:
        _show(f"{'ok  ' if check.ok else 'BAD '} {check.name:10} {check.found}")
        if check.advice:
            _show(f"     {'':10} -> {check.advice}")
    if not all(check.ok for check in checks):
        raise click.exceptions.Exit(FAILED)


def _lines(found: dict[str, Any]) -> list[str]:
    """The status on one screen."""
    budget = found["budget"]
    cap = "no cap" if budget["cap"] is None else f"of ${budget['cap']:.2f}"
    how_far = f", {found['done']:,} of {found['total']:,}" if found["total"] else ""
    where = "not begun" if found["phase"] is None else f"round {found['round']}, {found['phase']}{how_far}"
    lines = [
        f"run      {found['run']}: {found['state']}" + (f" ({found['reason']})" if found["reason"] else ""),
        f"at       {where}; {_rounds(found['rounds_wanted'])} after round 0",
        f"money    ${budget['settled']:.2f} spent, ${budget['reserved']:.2f} reserved, {cap}",
        f"review   {found['to_review']:,} waiting for a person" + (f": {_REVIEW}" if found["to_review"] else ""),
    ]
    if found["alive"]:
        doing = f"waits: {found['waiting']}" if found["waiting"] else found["doing"] or "starting"
        lines.append(f"now      {doing} (process {found['pid']} on {found['host']})")
    return lines


def _rounds(n: int) -> str:
    return "1 round" if n == 1 else f"{n} rounds"


def _show(text: str) -> None:
    from wizloop.store.display import shown

    print(shown(text, 20_000))
