"""Calls to each teacher in a run, with their expected and maximum cost. Sends no requests and reserves no money."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from wizloop.backends.teachers.base import Question
from wizloop.loop.controller.night import is_done
from wizloop.loop.preflight.data_sources import MeanText, Source, mean_of, mean_text, rows_of, sizes_of
from wizloop.loop.teaching import clients, plugin_teachers, teachers
from wizloop.loop.teaching.calls import TeacherClient
from wizloop.loop.teaching.estimates import Expected, Load, expected, nothing
from wizloop.recipes.schema import Recipe
from wizloop.recipes.sections import Split
from wizloop.store import costs, samples, selections, steps, teacher_calls
from wizloop.store.checked_teacher import ROWS_WANTED
from wizloop.store.db import Connection

_MEASURED_SAMPLES = 1000
"""Samples of a split whose mean length is measured."""
_SHOWN = {"request": "unharmful", "completion": "compliance", "response": "unharmful"}
_LONGEST_COMPLAINT = "\U0001f642" * 300
"""The longest complaint that a second attempt contains: 300 characters of four bytes each."""
_NO_LOAD = Load(0, 0.0, 0.0, 0)


@dataclass(frozen=True, slots=True)
class TeacherCost:
    """Calls and costs of one teacher, from now to the end of the run."""

    teacher: str
    model: str
    mode: str
    """here, replay, live or batch."""
    calls: int | None
    """Maximum: every remaining sample, twice each if the recipe allows a second attempt; None if unknown."""
    usd: float | None
    """Maximum; None if the price or the samples are unknown."""
    expected: Expected | None
    """None if the samples, or the share that reaches this teacher, are unknown."""
    each_usd: float | None
    """Expected for one sample; None if the price or the samples are unknown."""


@dataclass(frozen=True, slots=True)
class _Remaining:
    """What is left to ask, whichever teacher answers."""

    load: Load | None
    questions: int | None
    """Maximum number of samples."""
    sizes: list[int] | None
    """Bytes of the longest texts that may be sent, one for each question."""


def picked(recipe: Recipe, sources: Sequence[Source], rounds: int) -> int | None:
    """Return the maximum number of samples taught in the whole run: the seed, and a budget per round from the pool."""
    seed, pool = rows_of(sources, "seed"), rows_of(sources, "pool")
    selected = rounds * recipe.select.budget
    return None if seed is None else seed + (selected if pool is None else min(selected, pool))


def teacher_costs(
    recipe: Recipe, sources: Sequence[Source], rounds: int, now: datetime, db: Connection | None = None
) -> list[TeacherCost]:
    """Return one cost for each teacher; each maximum assumes that the others refuse every sample.

    `db` is the run's, if it exists: its earlier calls give the expected cost.
    Raises PriceError, PolicyError, PluginError.
    """
    load, most = remaining_load(recipe, sources, rounds, db), picked(recipe, sources, rounds)
    questions = most if most is None or load is None else min(most, math.ceil(load.questions))
    remaining = _Remaining(load, questions, _longest(recipe, sources, rounds, questions))
    return [_cost(recipe, name, remaining, now, db) for name in recipe.teacher.names]


def remaining_load(recipe: Recipe, sources: Sequence[Source], rounds: int, db: Connection | None) -> Load | None:
    """Return the questions from now to the end of round `rounds`, or None if the samples are unknown.

    Counts the seed, a budget per round, and what is selected and not yet taught. These go to the first teacher; a
    sample that it does not answer goes to the next.
    """
    selected = set() if db is None else _selected_rounds(db)
    used = 0 if db is None else sum(len(selections.of_round(db, number)) for number in selected - {0})
    rounds_left = sum(number not in selected for number in range(1, rounds + 1))
    seed, pool = 0 if 0 in selected else _rows(sources, "seed", db), _rows(sources, "pool", db)
    if seed is None:
        return None
    if db is not None and seed and (recipe.source == "imported" or is_done(db, 0, "import")):
        # The workspace's own seed: what came with its reasoning is not asked about.
        seed -= teacher_calls.taught(db, "seed")
    drawn = rounds_left * recipe.select.budget
    drawn = drawn if pool is None else min(drawn, max(pool - used, 0))
    parts = [
        _load(sources, "seed", seed, 1, db),
        _load(sources, "pool", drawn, rounds_left, db),
        _untaught_load(db, selected),
    ]
    known = [part for part in parts if part is not None]
    return sum(known, start=_NO_LOAD) if len(known) == len(parts) else None


def check_usd(
    recipe: Recipe, name: str, sources: Sequence[Source], now: datetime, db: Connection | None
) -> tuple[int, float | None]:
    """Return the rows that phase check asks a teacher about, and their expected cost; None if that is unknown."""
    rows = min(_rows(sources, "seed", db) or 0, ROWS_WANTED)
    if name in clients.HERE or recipe.teacher.replay is not None:
        return rows, 0.0
    load = _load(sources, "seed", rows, 1, db)
    if load is None or plugin_teachers.is_installed(name):
        return rows, None
    client = clients.client_of(recipe, name, clients.tariff_of(recipe.teacher, name, now.date()), None)
    past = None if db is None else costs.billed(db, name, client.teacher.model, client.teacher.version)
    return rows, expected(client, load, past, paid=clients.is_paid(recipe.teacher, name)).usd


def _selected_rounds(db: Connection) -> set[int]:
    return {each.number for each in steps.rounds(db) if is_done(db, each.number, "select")}


def _untaught_load(db: Connection | None, selected: set[int]) -> Load:
    """Return what the newest round selected and its teachers have yet to answer."""
    if db is None or not selected or is_done(db, max(selected), "teach"):
        return _NO_LOAD
    waiting = samples.get(db, [each.sample_id for each in selections.untaught(db, max(selected))])
    return _load_like(mean_text(waiting), len(waiting), 1) or _NO_LOAD


def _load(sources: Sequence[Source], split: Split, number: int, turns: int, db: Connection | None) -> Load | None:
    if not number:
        return _NO_LOAD
    mean = None if db is None else mean_text(samples.page(db, split, 0, _MEASURED_SAMPLES))
    return _load_like(mean or mean_of(sources, split), number, turns)


def _load_like(mean: MeanText | None, number: int, turns: int) -> Load | None:
    return None if mean is None else Load(number, number * mean.text_bytes, number * mean.pairs, turns)


def _rows(sources: Sequence[Source], split: Split, db: Connection | None) -> int | None:
    """Return the samples of a split: the imported ones, or the maximum before the import."""
    if db is None or not is_done(db, 0, "import"):
        return rows_of(sources, split)
    return samples.counts(db)[split]


def _cost(recipe: Recipe, name: str, remaining: _Remaining, now: datetime, db: Connection | None) -> TeacherCost:
    if plugin_teachers.is_installed(name):
        return _plugin_cost(recipe, name, remaining, now)
    own = _own_load(recipe, name, remaining.load, db)
    if name in clients.HERE or recipe.teacher.replay is not None:
        mode = "here" if name in clients.HERE else "replay"
        free = None if own is None else nothing(round(own.questions))
        return TeacherCost(name, _free_model(recipe, name), mode, remaining.questions, 0.0, free, 0.0)
    tariff = clients.tariff_of(recipe.teacher, name, now.date())
    client, paid = clients.client_of(recipe, name, tariff, None), clients.is_paid(recipe.teacher, name)
    past = None if db is None else costs.billed(db, name, client.teacher.model, client.teacher.version)

    def estimate(load: Load | None) -> Expected | None:
        return None if load is None else expected(client, load, past, paid=paid)

    second_ask, priced = recipe.teacher.second_ask, tariff is not None or not paid
    calls = None if remaining.questions is None else remaining.questions * (2 if second_ask else 1)
    usd = None if remaining.sizes is None or not priced else _most_micro(remaining.sizes, client, second_ask) / 1e6
    each = _each_usd(remaining.load, estimate(remaining.load))
    return TeacherCost(name, client.teacher.model, client.mode, calls, usd, estimate(own), each)


def _plugin_cost(recipe: Recipe, name: str, remaining: _Remaining, now: datetime) -> TeacherCost:
    table, second_ask = clients.table_of(recipe.teacher), recipe.teacher.second_ask
    client = plugin_teachers.client_of(recipe, name, table, now.date(), capped=False)
    questions, priced = remaining.questions, client.teacher.free or client.tariff is not None
    usd = None if remaining.sizes is None or not priced else _most_micro(remaining.sizes, client, second_ask) / 1e6
    each = usd / questions if usd is not None and questions else None
    bound = None if questions is None else plugin_teachers.bound(client, questions, usd)
    calls = None if questions is None else questions * (2 if second_ask else 1)
    return TeacherCost(name, client.teacher.model, "live" if client.settings else "here", calls, usd, bound, each)


def _free_model(recipe: Recipe, name: str) -> str:
    if name not in clients.HERE:
        return clients.remote_of(recipe.teacher, name).model
    given = {"recorded": "the recorded labels", "traces": "reasoning that exists"}
    return given[name] if name in given else teachers.here(recipe, name).model


def _own_load(recipe: Recipe, name: str, load: Load | None, db: Connection | None) -> Load | None:
    """Return a teacher's load: all for the first; for another, the share that reached it before, or None."""
    first = recipe.teacher.names[0]
    if load is None or name == first:
        return load
    ended = {} if db is None else costs.samples_ended(db)
    return load.share(ended.get(name, 0) / ended[first]) if ended.get(first) else None


def _each_usd(load: Load | None, total: Expected | None) -> float | None:
    if load is None or not load.questions or total is None or total.usd is None:
        return None
    return total.usd / load.questions


def _longest(recipe: Recipe, sources: Sequence[Source], rounds: int, questions: int | None) -> list[int] | None:
    """Return the bytes of the longest texts that may be sent."""
    seed, pool, given = sizes_of(sources, "seed"), sizes_of(sources, "pool"), rows_of(sources, "seed")
    if seed is None or pool is None:
        return None
    return sorted(seed[:given] + pool[: rounds * recipe.select.budget], reverse=True)[:questions]


def _most_micro(sizes: Sequence[int], client: TeacherClient, second_ask: bool) -> int:
    by_size: dict[int, int] = {}
    for size in set(sizes):
        questions = [Question("0" * 64, "x" * size, "", _SHOWN)]
        if second_ask:
            # The most expensive second attempt follows an answer that was cut off: it gets more room.
            questions.append(Question("0" * 64, "x" * size, "", _SHOWN, _LONGEST_COMPLAINT, client.raised_max_tokens()))
        by_size[size] = sum(client.worst_micro(each) for each in questions)
    return sum(by_size[size] for size in sizes)
