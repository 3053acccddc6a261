"""Output of `wizloop start --dry-run`: checks and plan, as text or JSON."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from wizloop.loop.commands.common import BAD_INPUT, now, put, say, show
from wizloop.loop.commands.show import show_checks

if TYPE_CHECKING:
    from wizloop.loop.controller.starting import RunLimits
    from wizloop.loop.preflight.memory import TrainingMemory
    from wizloop.loop.preflight.plan import Plan
    from wizloop.loop.preflight.teacher_costs import TeacherCost
    from wizloop.loop.preflight.vector_reading import VectorReading


def report(workspace: Path, recipe: str | None, limits: "RunLimits", *, as_json: bool) -> None:
    """Print the checks and the plan; exit with status 2 if a check fails."""
    from wizloop.loop.preflight.checks import preflight
    from wizloop.loop.preflight.plan import plan_of

    clock = now().astimezone()
    found = preflight(workspace, recipe, limits, clock, thorough=False)
    plan = plan_of(workspace, found, clock)
    missing = [f"{check.name}: {check.found}" for check in found.checks if not check.ok]
    if as_json:
        checks = [asdict(check) for check in found.checks]
        put({"ok": not missing, "missing": missing, "checks": checks, "plan": plan and plan.as_json()})
    else:
        show_checks(found.checks)
        for line in [] if plan is None else _lines(plan):
            show(line)
    for each in missing:
        say(f"missing: {each}")
    say("dry run: nothing was created, written or sent")
    if missing:
        raise click.exceptions.Exit(BAD_INPUT)


def _lines(plan: "Plan") -> list[str]:
    lines = ["", f"plan for {plan.recipe}", f"round 0        {', '.join(plan.phases['round 0'])}"]
    if plan.rounds:
        named = "round 1" if plan.rounds == 1 else f"rounds 1 to {plan.rounds}"
        lines.append(f"{named:14} {', '.join(plan.phases['each round'])}")
    splits = ", ".join(f"{split} {_number(n)}" for split, n in plan.samples.items())
    lines.append(f"samples        {splits} (at most: duplicates and leaks are still included)")
    if plan.questions > 1:
        many = f"{plan.questions} questions about each, and takes as many times as long as with one"
        lines.append(f"{'':14} the guard is asked {many}")
    lines.append(f"to a teacher   at most {_number(plan.picked)}: the seed, then {plan.a_round:,} per round")
    for at, cost in enumerate(plan.teachers):
        lines.append(f"teacher        {_calls(cost)}")
        lines += [f"{'':14} {line}" for line in _expected(cost, plan.teachers[:at])]
    lines += [f"money          {_money(plan)}", f"time           {_time(plan)}"]
    lines += [] if plan.gate is None else [f"gate           {plan.gate[0].lower()}{plan.gate[1:]}"]
    lines += [] if plan.vectors is None else [f"vectors        {_vectors(plan.vectors)}"]
    return [*lines, f"memory         {_memory(plan.training)}", f"disk           {_disk(plan.training)}"]


def _calls(cost: "TeacherCost") -> str:
    if cost.mode == "replay":
        return f"{cost.teacher} ({cost.model}): replays recorded calls and costs nothing"
    if cost.mode == "here":
        return f"{cost.teacher} ({cost.model}): runs here, sends nothing and costs nothing"
    usd = (
        "; their cost is unknown until the samples and the price are known"
        if cost.usd is None
        else f", ${cost.usd:.2f}"
    )
    return f"{cost.teacher} ({cost.model}, {cost.mode}): at most {_number(cost.calls)} more calls{usd}"


def _expected(cost: "TeacherCost", before: Sequence["TeacherCost"]) -> list[str]:
    """Return a teacher's expected cost and its basis, each on a line."""
    if cost.usd == 0:
        return []
    if cost.expected is not None and cost.expected.usd is not None:
        to_come = f"{cost.expected.questions:,} more questions"
        return [f"about ${cost.expected.usd:.2f} for {to_come},", cost.expected.rests_on]
    if cost.expected is None and cost.each_usd is not None:
        others = " and ".join(other.teacher for other in before)
        return [f"about ${cost.each_usd:.4f} for each sample that {others} does not answer; their number is unknown"]
    return []


def _money(plan: "Plan") -> str:
    most = "no maximum: set a budget" if plan.most_usd is None else f"at most ${plan.most_usd:.2f}"
    if plan.expected_usd:
        over = plan.left_usd is not None and plan.expected_usd > plan.left_usd
        most = f"about ${plan.expected_usd:.2f}{', more than what is left of the budget' if over else ''}; {most}"
    budget = "no budget" if plan.budget_usd is None else f"budget ${plan.budget_usd:.2f}"
    return f"{most}; {budget}" + (f", ${plan.spent_usd:.2f} of it used" if plan.spent_usd else "")


def _time(plan: "Plan") -> str:
    until = f"; no phase starts after {plan.until}" if plan.until else ""
    time = plan.time
    if time.seconds is not None:
        hours, minutes = divmod(round(time.seconds / 60), 60)
        left = f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"
        return f"{left} to go, from each phase's last run here{until}"
    if not time.per_phase:
        return f"unknown, measured after round 0{until}"
    return f"unknown: not measured here yet: {', '.join(time.unmeasured)}{until}"


def _memory(training: "TrainingMemory") -> str:
    if training.bytes is None:
        return f"training ({training.method}): {training.rests_on}"
    return f"training ({training.method}): about {training.bytes / 1e9:.1f} GB, {training.rests_on}"


def _vectors(reading: "VectorReading") -> str:
    disk = "disk unknown" if reading.bytes is None else f"{reading.bytes / 1e6:,.1f} MB on the disk"
    time = "time measured at the first reading"
    if reading.seconds is not None:
        time = f"about {reading.seconds / 60:,.0f} min to go, as fast as so far"
    return f"hidden states of at most {_number(reading.rows)} texts, each read once: {disk}, {time}"


def _disk(training: "TrainingMemory") -> str:
    if training.model_bytes is None or training.checkpoint_bytes is None:
        return training.rests_on
    model, checkpoint = (each / 1e6 for each in (training.model_bytes, training.checkpoint_bytes))
    each = f"{model:,.1f} MB a trained model, {training.models_a_round} in a round"
    return f"{each}, and {checkpoint:,.1f} MB for its checkpoint while it is trained"


def _number(n: int | None) -> str:
    return "unknown" if n is None else f"{n:,}"
