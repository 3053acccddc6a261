"""Decide which run and limits a start uses, once, before the first phase. Runs nothing."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from types import EllipsisType
from typing import Any

from wizloop.backends import model_folder
from wizloop.loop.guard import run_base
from wizloop.recipes import schema
from wizloop.recipes.schema import Recipe
from wizloop.store import control, samples, steps, teacher_checks
from wizloop.store.db import Connection, Store

_LONGEST_VALUE = 60
_LIMITS = {"rounds": "--rounds", "until": "--until", "budget_usd": "--budget"}


class OtherRecipe(ValueError):
    """The workspace's run was made with another recipe."""


class TeacherMissing(ValueError):
    """A teacher that the run needs has no key, or no known price while there is a budget."""


@dataclass(frozen=True, slots=True)
class RunLimits:
    """Limits of a run; None on the command line keeps the run's or its recipe's."""

    rounds: int | None = None
    until: str | None = None
    """Local wall-clock time, HH:MM."""
    budget_usd: float | None = None


def begin(store: Store, given: Recipe | None, limits: RunLimits, now: datetime) -> Recipe:
    """Create the workspace's run, or set the limits of the existing one; return its recipe.

    Raises OtherRecipe, schema.RecipeError.
    """
    with store.write() as db:
        recipe, run = followed(db, given, limits), control.get_run(db)
        if run is None:
            _create(db, recipe, limits, now)
        else:
            if recipe is given:
                control.set_recipe(db, given.name, schema.canonical_json(given), schema.recipe_hash(given), given.seed)
            _change_limits(db, run, recipe, limits, now)
        control.want(db, "run")
    return recipe


def followed(db: Connection, given: Recipe | None, limits: RunLimits) -> Recipe:
    """Return the recipe that a start follows: the given one, that of a run with results, or the default.

    The default is what was imported, or else the demo. Raises OtherRecipe, schema.RecipeError.
    """
    run = control.get_run(db)
    if run is None:
        return given or schema.load("imported" if any(samples.counts(db).values()) else "demo")
    if given is not None and _not_begun(db, run):
        return given
    recipe = schema.stored(run.recipe_json)
    if given is not None and _only_the_teachers_change(db, recipe, given):
        return given
    if (unknown := schema.unknown_name(recipe)) is not None:
        raise schema.RecipeError(f"the run's recipe: {unknown}")
    if given is not None:
        _refuse_another(recipe, given, limits)
    return recipe


def effective_limits(recipe: Recipe, run: control.Run | None, limits: RunLimits) -> RunLimits:
    """Return the effective limits: the command line's, else the existing run's, else the recipe's."""
    rounds, budget_usd = recipe.rounds, recipe.budget_usd
    if run is not None:
        rounds, budget_usd = run.rounds_wanted, None if run.cap_micro is None else run.cap_micro / 1e6
    return RunLimits(
        rounds if limits.rounds is None else limits.rounds,
        limits.until or recipe.until,
        budget_usd if limits.budget_usd is None else limits.budget_usd,
    )


def check_teachers(store: Store, recipe: Recipe, now: datetime) -> None:
    """Check the teachers' keys and prices before the first phase. Raises TeacherMissing."""
    if set(recipe.teacher.names) <= {"policy", "recorded", "traces"}:
        return
    # Late import: a controller without such teachers loads no adapters.
    from wizloop.loop.teaching import clients, prices

    with store.read() as db:
        run = control.get_run(db)
    try:
        clients.check(recipe, now, capped=run is not None and run.cap_micro is not None)
    except (clients.NotReady, prices.PriceError) as error:
        raise TeacherMissing(str(error)) from None


def check_base(store: Store, recipe: Recipe) -> None:
    """Check that a folder still holds the base that the run began with, at no cost. Raises BadArtifact."""
    base = recipe.guard.base
    folder = None if base == "tiny" else model_folder.on_disk(base)
    if folder is not None:
        with store.read() as db:
            run_base.refuse_another(db, base, folder)


def next_time(clock: str, now: datetime) -> datetime:
    """Return the next moment when this machine's wall clock shows HH:MM, across clock changes too."""
    hour, minute = map(int, clock.split(":"))
    today = now.astimezone().replace(tzinfo=None, hour=hour, minute=minute, second=0, microsecond=0)
    # astimezone() reads a naive time in this machine's zone, with the offset of that day.
    moments = (day.astimezone() for day in (today, today + timedelta(days=1), today + timedelta(days=2)))
    return next(moment for moment in moments if moment > now)


def _not_begun(db: Connection, run: control.Run) -> bool:
    """Return whether the run has no samples and no results, so that its recipe may still change."""
    return not any(step.state == "done" for step in steps.steps(db, 0)) and not samples.any_since(db, run.created_at)


def _only_the_teachers_change(db: Connection, recipe: Recipe, given: Recipe) -> bool:
    """Return whether a recipe differs in its teachers alone, and the run's are left out and have taught nothing."""
    step = steps.step(db, 0, "check")
    left_out = step is not None and step.state != "done" and bool(teacher_checks.left_out(db))
    return left_out and given.model_copy(update={"teacher": recipe.teacher}) == recipe


def _create(db: Connection, recipe: Recipe, limits: RunLimits, now: datetime) -> None:
    limits = effective_limits(recipe, None, limits)
    control.create_run(
        db,
        name=recipe.name,
        recipe_json=schema.canonical_json(recipe),
        recipe_hash=schema.recipe_hash(recipe),
        seed=recipe.seed,
        cap_micro=_micro(limits.budget_usd),
        until=next_time(limits.until, now) if limits.until else None,
        rounds_wanted=limits.rounds or 0,
        now=now,
    )


def _change_limits(db: Connection, run: control.Run, recipe: Recipe, limits: RunLimits, now: datetime) -> None:
    until: datetime | EllipsisType | None = ...
    if limits.until is not None:
        until = next_time(limits.until, now)
    elif run.until is not None and run.until <= now:
        # The earlier night is over: the next one ends when the recipe says.
        until = next_time(recipe.until, now) if recipe.until else None
    limits = effective_limits(recipe, run, limits)
    control.set_limits(db, cap_micro=_micro(limits.budget_usd), until=until, rounds_wanted=limits.rounds or 0)


def _micro(usd: float | None) -> int | None:
    return None if usd is None else round(usd * 1_000_000)


def _refuse_another(run: Recipe, given: Recipe, limits: RunLimits) -> None:
    """Raise OtherRecipe if the recipes differ in a key that the command line does not set."""
    set_here = {f.name for f in fields(limits) if getattr(limits, f.name) is not None}
    different = [each for each in _compared(run, given) if each[1] != each[2] and each[0] not in set_here]
    if not different:
        return
    key, ours, theirs = different[0]
    more = f" (and {len(different) - 1} more keys)" if len(different) > 1 else ""
    option = _LIMITS.get(key)
    advice = f"give {option}, or use another --workspace" if option else "use another --workspace for it"
    raise OtherRecipe(
        f"the workspace holds the run {run.name!r} of another recipe: {key} is {_brief(ours)} there and "
        f"{_brief(theirs)} here{more}: {advice}"
    )


def _compared(run: Recipe, given: Recipe) -> Iterator[tuple[str, Any, Any]]:
    """Yield every key with its two values; the limits last, because other keys explain more."""
    ours, theirs = (dict(_flat(each.model_dump(mode="json"), "")) for each in (run, given))
    for key in sorted({**ours, **theirs}, key=lambda name: (name in _LIMITS, name)):
        yield key, ours.get(key), theirs.get(key)


def _brief(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."


def _flat(values: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            yield f"the number of [[{prefix}{key}]]", len(value)
            yield from _flat({f"{key}[{at}]": each for at, each in enumerate(value)}, prefix)
        else:
            yield f"{prefix}{key}", value
