"""How often a run would ask its teachers, and the most that this could cost. It asks nobody and reserves nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from wizloop.backends.teacher import Question
from wizloop.loop.ahead.data import Source, rows_of, sizes_of
from wizloop.loop.teaching import seats, teachers
from wizloop.loop.teaching.calls import Seat
from wizloop.recipes.schema import Recipe

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
    """At most: every sample, and once more each where the recipe has a second ask; None where that is not known."""
    usd: float | None
    """At most; None where the price or the samples are not known."""


def picked(recipe: Recipe, found: Sequence[Source], rounds: int) -> int | None:
    """The samples that go to a teacher at most: the seed, and a batch a round as long as the pool lasts."""
    seed, pool = rows_of(found, "seed"), rows_of(found, "pool")
    batches = rounds * recipe.select.budget
    return None if seed is None else seed + (batches if pool is None else min(batches, pool))


def askings(recipe: Recipe, found: Sequence[Source], rounds: int, now: datetime) -> list[Asking]:
    """One for each teacher, as if all the others had refused everything. Raises PriceError, PolicyError."""
    return [_asking(recipe, name, found, rounds, now) for name in recipe.teacher.names]


def _asking(recipe: Recipe, name: str, found: Sequence[Source], rounds: int, now: datetime) -> Asking:
    questions = picked(recipe, found, rounds)
    if name in seats.HERE:
        model = "the recorded labels" if name == "recorded" else teachers.here(recipe, name).model
        return Asking(name, model, "here", questions, 0.0)
    if recipe.teacher.replay is not None:
        return Asking(name, seats.remote_of(recipe.teacher, name).model, "replay", questions, 0.0)
    tariff = seats.tariff_of(recipe.teacher, name, now.date())
    seat = seats.seat_of(recipe, name, tariff, None)
    calls = None if questions is None else questions * (2 if recipe.teacher.second_ask else 1)
    known = tariff is not None or not seats.is_paid(recipe.teacher, name)
    sizes = _sizes(recipe, found, rounds)
    usd = None if sizes is None or not known else _most(sizes, seat, recipe.teacher.second_ask) / 1e6
    return Asking(name, seat.teacher.model, seat.mode, calls, usd)


def _sizes(recipe: Recipe, found: Sequence[Source], rounds: int) -> list[int] | None:
    """The bytes of the longest texts that may be picked."""
    seed, pool, given = sizes_of(found, "seed"), sizes_of(found, "pool"), rows_of(found, "seed")
    if seed is None or pool is None:
        return None
    return seed[:given] + pool[: rounds * recipe.select.budget]


def _most(sizes: Sequence[int], seat: Seat, second_ask: bool) -> int:
    known: dict[int, int] = {}
    for size in set(sizes):
        asked = [Question("0" * 64, "x" * size, "", _SHOWN)]
        if second_ask:
            # The dearest second ask is for an answer that was cut off, which gets more room.
            asked.append(Question("0" * 64, "x" * size, "", _SHOWN, _COMPLAINT, seat.more_room()))
        known[size] = sum(seat.worst_micro(one) for one in asked)
    return sum(known[size] for size in sizes)
