"""Who is asked, how, with which key and at which price: the recipe's teachers made ready. It asks them nothing."""

from datetime import date, datetime
from pathlib import Path

from wizloop.loop import keys, prices, teachers
from wizloop.loop.calls import Seat
from wizloop.recipes.schema import Recipe
from wizloop.recipes.teaching import Remote, Teachers

HERE = ("policy", "recorded")
"""The teachers that run in this process and take no key."""


class NotReady(ValueError):
    """A teacher that the recipe names cannot be asked."""


def seats(recipe: Recipe, now: datetime, *, capped: bool) -> list[Seat]:
    """The teachers, first asked first.

    Raises NotReady for a missing key, PriceError for a price that is not known where there is a cap, PolicyError,
    ImportRefused.
    """
    table = table_of(recipe.teacher)
    return [
        _seat(recipe, name, _priced(recipe.teacher, name, table, now.date(), capped)) for name in recipe.teacher.names
    ]


def check(recipe: Recipe, now: datetime, *, capped: bool) -> None:
    """Raises what `seats` raises for keys and prices, and makes nothing: to be asked before a night begins."""
    table = table_of(recipe.teacher)
    for name in recipe.teacher.names:
        if name not in HERE:
            _priced(recipe.teacher, name, table, now.date(), capped)
            key_of(name)


def table_of(section: Teachers) -> prices.Table:
    """The price table with the recipe's own file. Raises PriceError."""
    return prices.load(None if section.prices is None else Path(section.prices))


def remote_of(section: Teachers, name: str) -> Remote:
    """The section of a teacher that is asked over a network."""
    found: Remote | None = getattr(section, name)
    assert found is not None
    return found


def is_paid(section: Teachers, name: str) -> bool:
    """Whether a teacher's answers cost money."""
    return name not in HERE and (section.openai is None or name != "openai" or section.openai.paid)


def key_of(name: str) -> keys.Key | None:
    """The key of a teacher; None for a server that needs none. Raises NotReady."""
    found = keys.find(name)
    if found is None and name != "openai":
        wanted = " or ".join(keys.variables(name))
        raise NotReady(f"there is no key for {name}: set {wanted}, or put it away with `wizloop keys set {name}`")
    return found


def _priced(section: Teachers, name: str, table: prices.Table, day: date, capped: bool) -> prices.Tariff | None:
    """What a teacher costs; None for a free one. Raises PriceError where a cap needs a price that is not known."""
    if not is_paid(section, name):
        return None
    model = remote_of(section, name).model
    found = table.tariff(name, model, day)
    if found is None and capped:
        known = ", ".join(table.known(name, day)) or "no model of it"
        raise prices.PriceError(
            f"the price of {name}'s {model} is not known, and no budget can be kept without it: give it in a file that "
            f"teacher.prices names, take a model whose price is known ({known}), or set no budget"
        )
    return found


def _seat(recipe: Recipe, name: str, tariff: prices.Tariff | None) -> Seat:
    if name in HERE:
        return Seat(teachers.here(recipe, name))
    raise NotReady(name)
