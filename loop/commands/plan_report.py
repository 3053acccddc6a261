"""`start --dry-run`: what a start would need and do, told to a person or a script. Nothing is made, written or sent."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from wizloop.loop.commands.common import BAD_INPUT, now, put, say

if TYPE_CHECKING:
    from wizloop.loop.controller.starting import Limits
    from wizloop.loop.preflight.plan import Plan
    from wizloop.loop.preflight.teacher_costs import Asking


def dry_run(workspace: Path, recipe: str | None, limits: "Limits", *, as_json: bool) -> None:
    """Show what was looked at and the plan; exit status 2 where something is missing."""
    from wizloop.loop.preflight.dry_run import look
    from wizloop.store.display import shown

    found = look(workspace, recipe, limits, now().astimezone())
    if as_json:
        put(found.as_json())
    else:
        for check in found.checks:
            print(shown(f"{'ok  ' if check.ok else 'BAD '} {check.name:10} {check.found}", 2000))
            if check.advice:
                print(shown(f"     {'':10} -> {check.advice}"))
        for line in [] if found.plan is None else _lines(found.plan):
            print(shown(line))
    for check in found.missing:
        say(f"missing: {check.name}: {check.found}")
    say("nothing was made, written or sent")
    if found.missing:
        raise click.exceptions.Exit(BAD_INPUT)


def _lines(plan: "Plan") -> list[str]:
    """The plan on one screen."""
    lines = ["", f"plan for {plan.recipe}", f"round 0        {', '.join(plan.phases['round 0'])}"]
    if plan.rounds:
        named = "round 1" if plan.rounds == 1 else f"rounds 1 to {plan.rounds}"
        lines.append(f"{named:14} {', '.join(plan.phases['each round'])}")
    splits = ", ".join(f"{split} {_number(n)}" for split, n in plan.samples.items())
    lines.append(f"samples        {splits} (at most: before doubles and leaks are taken out)")
    lines.append(f"to a teacher   {_number(plan.picked)} at most: the seed, then {plan.a_round:,} a round")
    for at, one in enumerate(plan.teachers):
        lines += [f"teacher        {_asking(one)}", *(f"{'':14} {line}" for line in _about(one, plan.teachers[:at]))]
    lines.append(f"money          {_money(plan)}")
    lines.append(f"time           {_time(plan)}")
    return lines


def _asking(one: "Asking") -> str:
    if one.mode == "replay":
        return f"{one.teacher} ({one.model}): answers again from what was kept, and costs nothing"
    if one.mode == "here":
        return f"{one.teacher} ({one.model}): runs here, is sent nothing and costs nothing"
    usd = "; their cost is not known before the samples and the price are" if one.usd is None else f", ${one.usd:.2f}"
    return f"{one.teacher} ({one.model}, {one.mode}): at most {_number(one.calls)} calls to come{usd}"


def _about(one: "Asking", before: Sequence["Asking"]) -> list[str]:
    """What a teacher is expected to cost, and what that rests on."""
    if one.usd == 0:
        return []
    if one.expected is not None and one.expected.usd is not None:
        to_come = f"{one.expected.questions:,} questions to come"
        return [f"about ${one.expected.usd:.2f} for {to_come},", one.expected.rests_on]
    if one.expected is None and one.each_usd is not None:
        others = " and ".join(other.teacher for other in before)
        return [f"about ${one.each_usd:.4f} for each sample that {others} does not answer: how many is not known yet"]
    return []


def _money(plan: "Plan") -> str:
    most = "nothing bounds it: set a budget" if plan.most_usd is None else f"${plan.most_usd:.2f} at most"
    if plan.expected_usd:
        over = plan.left_usd is not None and plan.expected_usd > plan.left_usd
        most = f"about ${plan.expected_usd:.2f}{', more than the budget leaves' if over else ''}; {most}"
    cap = "no budget" if plan.budget_usd is None else f"the budget is ${plan.budget_usd:.2f}"
    return f"{most}; {cap}" + (f", of which ${plan.spent_usd:.2f} is used" if plan.spent_usd else "")


def _time(plan: "Plan") -> str:
    until = f"; no phase begins after {plan.until}" if plan.until else ""
    time = plan.time
    if time.seconds is not None:
        return f"{_hours(time.seconds)} to go, by what each phase took here before{until}"
    if not time.per_phase:
        return f"unknown, measured after round 0{until}"
    return f"unknown: not measured here yet: {', '.join(time.unmeasured)}{until}"


def _hours(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _number(n: int | None) -> str:
    return "not known yet" if n is None else f"{n:,}"
