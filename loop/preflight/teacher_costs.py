"""How often a run would ask its teachers, and what this would cost, about and at most.

It asks nobody and reserves nothing.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from wizloop.backends.teachers.base import Question
from wizloop.loop.preflight.data_sources import Source, rows_of, sizes_of
from wizloop.loop.preflight.left import left
from wizloop.loop.teaching import clients, plugin_teachers, teachers
from wizloop.loop.teaching.calls import TeacherClient
from wizloop.loop.teaching.estimates import Expected, Load, expected, nothing
from wizloop.recipes.schema import Recipe
from wizloop.store import costs
from wizloop.store.db import Connection

_SHOWN = {"request": "unharmful", "completion": "compliance", "response": "unharmful"}
_COMPLAINT = "\U0001f642" * 300
"""The longest complaint that a second ask shows: 300 characters, of four bytes each."""


@dataclass(frozen=True, slots=True)
class Asking:
    """What one teacher may be asked."""

    teacher: str
    model: str
    mode: str
    """here, replay, live or batch."""
    calls: int | None
    """At most, from now on: every sample that is to come, and once more each where the recipe has a second ask; None
    where that is not known."""
    usd: float | None
    """At most, from now on; None where the price or the samples are not known."""
    expected: Expected | None
    """About, from now on; None where the samples, or how many are left to this teacher, are not known."""
    each_usd: float | None
    """About, for one question; None where the price or the samples are not known."""


def picked(recipe: Recipe, found: Sequence[Source], rounds: int) -> int | None:
    """The samples that go to a teacher at most in the whole run: the seed, and a batch a round as the pool lasts."""
    seed, pool = rows_of(found, "seed"), rows_of(found, "pool")
    batches = rounds * recipe.select.budget
    return None if seed is None else seed + (batches if pool is None else min(batches, pool))


def askings(
    recipe: Recipe, found: Sequence[Source], rounds: int, now: datetime, db: Connection | None = None
) -> list[Asking]:
    """One for each teacher; at most, as if all the others had refused everything. Raises PriceError, PolicyError.

    `db` is the run's, where there is one: what it has asked before is the measure of what it will.
    """
    load = left(recipe, found, rounds, db)
    return [_asking(recipe, name, found, rounds, now, load, db) for name in recipe.teacher.names]


def _asking(
    recipe: Recipe,
    name: str,
    found: Sequence[Source],
    rounds: int,
    now: datetime,
    load: Load | None,
    db: Connection | None,
) -> Asking:
    questions, own = _to_come(recipe, found, rounds, load), _own(recipe, name, load, db)
    free = None if own is None else nothing(round(own.questions))
    if plugin_teachers.is_installed(name):
        return _installed(recipe, name, found, rounds, questions, now)
    if name in clients.HERE:
        model = "the recorded labels" if name == "recorded" else teachers.here(recipe, name).model
        return Asking(name, model, "here", questions, 0.0, free, 0.0)
    if recipe.teacher.replay is not None:
        return Asking(name, clients.remote_of(recipe.teacher, name).model, "replay", questions, 0.0, free, 0.0)
    tariff = clients.tariff_of(recipe.teacher, name, now.date())
    client = clients.client_of(recipe, name, tariff, None)
    calls = None if questions is None else questions * (2 if recipe.teacher.second_ask else 1)
    paid = clients.is_paid(recipe.teacher, name)
    sizes = _sizes(recipe, found, rounds, questions)
    usd = None
    if sizes is not None and (tariff is not None or not paid):
        usd = _most(sizes, client, recipe.teacher.second_ask) / 1e6
    past = None if db is None else costs.billed(db, name, client.teacher.model, client.teacher.version)
    about = None if own is None else expected(client, own, past, paid=paid)
    return Asking(name, client.teacher.model, client.mode, calls, usd, about, _each(client, load, past, paid=paid))


def _installed(
    recipe: Recipe, name: str, found: Sequence[Source], rounds: int, questions: int | None, now: datetime
) -> Asking:
    table = clients.table_of(recipe.teacher)
    client = plugin_teachers.client_of(recipe, name, table, now.date(), capped=False)
    sizes, second = _sizes(recipe, found, rounds, questions), recipe.teacher.second_ask
    known = sizes is not None and (client.teacher.free or client.tariff is not None)
    usd = _most(sizes, client, second) / 1e6 if sizes is not None and known else None
    each = usd / questions if usd is not None and questions else None
    about = None if questions is None else plugin_teachers.bound(client, questions, usd)
    calls = None if questions is None else questions * (2 if second else 1)
    return Asking(name, client.teacher.model, "live" if client.settings else "here", calls, usd, about, each)


def _own(recipe: Recipe, name: str, load: Load | None, db: Connection | None) -> Load | None:
    """What comes to a teacher: all to the first; to the others what came to them before, where there was anything."""
    first = recipe.teacher.names[0]
    if load is None or name == first:
        return load
    put_to = {} if db is None else costs.samples_ended(db)
    return load.share(put_to.get(name, 0) / put_to[first]) if put_to.get(first) else None


def _each(client: TeacherClient, load: Load | None, past: costs.Billed | None, *, paid: bool) -> float | None:
    """Dollars for one of these questions, about."""
    if load is None or not load.questions:
        return None
    usd = expected(client, load, past, paid=paid).usd
    return None if usd is None else usd / load.questions


def _to_come(recipe: Recipe, found: Sequence[Source], rounds: int, load: Load | None) -> int | None:
    """The samples that a teacher may still be asked about, at most: of a run that has begun, what is left of it."""
    most = picked(recipe, found, rounds)
    return most if most is None or load is None else min(most, math.ceil(load.questions))


def _sizes(recipe: Recipe, found: Sequence[Source], rounds: int, questions: int | None) -> list[int] | None:
    """The bytes of the longest texts that may be asked about, of so many."""
    seed, pool, given = sizes_of(found, "seed"), sizes_of(found, "pool"), rows_of(found, "seed")
    if seed is None or pool is None:
        return None
    return sorted(seed[:given] + pool[: rounds * recipe.select.budget], reverse=True)[:questions]


def _most(sizes: Sequence[int], client: TeacherClient, second_ask: bool) -> int:
    known: dict[int, int] = {}
    for size in set(sizes):
        asked = [Question("0" * 64, "x" * size, "", _SHOWN)]
        if second_ask:
            # The dearest second ask is for an answer that was cut off, which gets more room.
            asked.append(Question("0" * 64, "x" * size, "", _SHOWN, _COMPLAINT, client.raised_max_tokens()))
        known[size] = sum(client.worst_micro(one) for one in asked)
    return sum(known[size] for size in sizes)
