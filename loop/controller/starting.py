"""Which run a workspace is to do, and within which limits: decided once, before the first phase. It runs nothing."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from types import EllipsisType
from typing import Any

from wizloop.recipes import schema
from wizloop.recipes.schema import Recipe
from wizloop.store import control, samples, steps
from wizloop.store.db import Connection, Store

_MOST_SHOWN = 60
_LIMITS = {"rounds": "--rounds", "until": "--until", "budget_usd": "--budget"}


class OtherRecipe(ValueError):
    """The workspace's run was made with another recipe."""


class TeacherMissing(ValueError):
    """A teacher that the run needs has no key, or no price where there is a budget."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the command line sets; None leaves what the run or its recipe says."""

    rounds: int | None = None
    until: str | None = None
    """Local wall clock, HH:MM."""
    budget_usd: float | None = None


def begin(store: Store, asked: Recipe | None, limits: Limits, now: datetime) -> Recipe:
    """Make the workspace's run, or set the limits of the one that is there; the recipe that it follows.

    Raises OtherRecipe, schema.RecipeError.
    """
    with store.write() as db:
        recipe, run = followed(db, asked, limits), control.get_run(db)
        if run is None:
            _create(db, recipe, limits, now)
        else:
            if asked is not None and recipe is asked:
                control.set_recipe(db, asked.name, schema.canonical_json(asked), schema.recipe_hash(asked), asked.seed)
            _change_limits(db, run, recipe, limits, now)
        control.want(db, "run")
    return recipe


def followed(db: Connection, asked: Recipe | None, limits: Limits) -> Recipe:
    """The recipe that a start would follow: the one that is asked for, the run's own where it has begun, or a default.

    Raises OtherRecipe, schema.RecipeError.
    """
    run = control.get_run(db)
    if run is None:
        return asked or schema.load(default_recipe(db))
    if asked is not None and _not_begun(db, run):
        return asked
    recipe = schema.stored(run.recipe_json)
    if (unknown := schema.unknown_name(recipe)) is not None:
        raise schema.RecipeError(f"the run's recipe: {unknown}")
    if asked is not None:
        _refuse_another(recipe, asked, limits)
    return recipe


def check_teachers(store: Store, recipe: Recipe, now: datetime) -> None:
    """Find out before the night, and not in it, that a teacher cannot be asked. Raises TeacherMissing."""
    if set(recipe.teacher.names) <= {"policy", "recorded"}:
        return
    # The adapters stay out of a controller that needs none.
    from wizloop.loop.teaching import clients, prices

    with store.read() as db:
        run = control.get_run(db)
    try:
        clients.check(recipe, now, capped=run is not None and run.cap_micro is not None)
    except (clients.NotReady, prices.PriceError) as error:
        raise TeacherMissing(str(error)) from None


def next_time(clock: str, now: datetime) -> datetime:
    """The next moment at which this machine's wall clock shows HH:MM, in a night when clocks change too."""
    hour, minute = map(int, clock.split(":"))
    today = now.astimezone().replace(tzinfo=None, hour=hour, minute=minute, second=0, microsecond=0)
    # A time of the wall without a zone is read in this machine's zone, as it is at that time.
    moments = (day.astimezone() for day in (today, today + timedelta(days=1), today + timedelta(days=2)))
    return next(moment for moment in moments if moment > now)


def default_recipe(db: Connection) -> str:
    """The shipped recipe that a start without a recipe takes: the demo, or what was imported where something was."""
    return "imported" if any(samples.counts(db).values()) else "demo"


def _not_begun(db: Connection, run: control.Run) -> bool:
    """Whether the run took nothing in and did nothing, because a file is not there perhaps: it may be mended."""
    return not any(step.state == "done" for step in steps.steps(db, 0)) and not samples.any_since(db, run.created_at)


def _create(db: Connection, recipe: Recipe, limits: Limits, now: datetime) -> None:
    until = limits.until or recipe.until
    budget = recipe.budget_usd if limits.budget_usd is None else limits.budget_usd
    control.create_run(
        db,
        name=recipe.name,
        recipe_json=schema.canonical_json(recipe),
        recipe_hash=schema.recipe_hash(recipe),
        seed=recipe.seed,
        cap_micro=None if budget is None else _micro(budget),
        until=next_time(until, now) if until else None,
        rounds_wanted=recipe.rounds if limits.rounds is None else limits.rounds,
        now=now,
    )


def _change_limits(db: Connection, run: control.Run, recipe: Recipe, limits: Limits, now: datetime) -> None:
    until: datetime | EllipsisType | None = ...
    if limits.until is not None:
        until = next_time(limits.until, now)
    elif run.until is not None and run.until <= now:
        # That night is over: the next one ends when the recipe says.
        until = next_time(recipe.until, now) if recipe.until else None
    control.set_limits(
        db,
        cap_micro=... if limits.budget_usd is None else _micro(limits.budget_usd),
        until=until,
        rounds_wanted=... if limits.rounds is None else limits.rounds,
    )


def _micro(usd: float) -> int:
    return round(usd * 1_000_000)


def _refuse_another(run: Recipe, asked: Recipe, limits: Limits) -> None:
    """A limit that the command line gives is no difference: it holds, whatever either recipe says."""
    given = {f.name for f in fields(limits) if getattr(limits, f.name) is not None}
    different = [
        (key, ours, theirs) for key, ours, theirs in _compared(run, asked) if ours != theirs and key not in given
    ]
    if not different:
        return
    key, ours, theirs = different[0]
    more = f" (and {len(different) - 1} more keys)" if len(different) > 1 else ""
    option = _LIMITS.get(key)
    way_out = f"give {option}, or take another --workspace" if option else "take another --workspace for it"
    raise OtherRecipe(
        f"the workspace holds the run {run.name!r} of another recipe: {key} is {_brief(ours)} there and "
        f"{_brief(theirs)} here{more}: {way_out}"
    )


def _compared(run: Recipe, asked: Recipe) -> Iterator[tuple[str, Any, Any]]:
    """Every key of two recipes with its two values; the limits last, because other keys say more."""
    ours, theirs = (dict(_flat(each.model_dump(mode="json"), "")) for each in (run, asked))
    for key in sorted({**ours, **theirs}, key=lambda name: (name in _LIMITS, name)):
        yield key, ours.get(key), theirs.get(key)


def _brief(value: Any) -> str:
    """A value on part of a line."""
    text = json.dumps(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."


def _flat(values: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            yield f"the number of [[{prefix}{key}]]", len(value)
            yield from _flat({f"{key}[{at}]": one for at, one in enumerate(value)}, prefix)
        else:
            yield f"{prefix}{key}", value
