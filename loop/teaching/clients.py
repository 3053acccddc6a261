"""Who is asked, how, with which key and at which price: the recipe's teachers made ready. It asks them nothing."""

from collections.abc import Callable, Sequence
from datetime import date, datetime
from pathlib import Path

from wizloop.backends.teachers import prompt as teacher_prompt
from wizloop.backends.teachers import replay as replay_teacher
from wizloop.backends.teachers.batch_api import BatchTeacher
from wizloop.backends.teachers.claude_batches import ClaudeBatches
from wizloop.backends.teachers.gemini_batches import GeminiBatches
from wizloop.backends.teachers.openai_server import OpenAIServer
from wizloop.backends.teachers.reach import Reach
from wizloop.backends.teachers.remote import RemoteTeacher
from wizloop.loop import keys
from wizloop.loop.teaching import plugin_teachers, prices, teachers
from wizloop.loop.teaching.calls import Seat
from wizloop.recipes.schema import Recipe
from wizloop.recipes.teaching import Batching, Gemini, Remote, Teachers

HERE = ("policy", "recorded")
"""The teachers that run in this process and take no key."""
_IN_BATCHES: dict[str, Callable[[Reach], RemoteTeacher]] = {"claude": ClaudeBatches, "gemini": GeminiBatches}


class NotReady(ValueError):
    """A teacher that the recipe names cannot be asked."""


def seats(recipe: Recipe, now: datetime, *, capped: bool) -> list[Seat]:
    """The teachers, first asked first.

    Raises NotReady for a missing key, PriceError for a price that is not known where there is a cap, PolicyError,
    ImportRefused, BadRecording.
    """
    if recipe.teacher.replay is not None:
        kept = replay_teacher.load(Path(recipe.teacher.replay))
        return [
            _own_seat(recipe, name, now, False, kept)
            if runs_here(name)
            else Seat(_replay(recipe, name, kept), live=remote_of(recipe.teacher, name))
            for name in recipe.teacher.names
        ]
    table = table_of(recipe.teacher)
    return [
        _own_seat(recipe, name, now, capped)
        if runs_here(name)
        else seat_of(recipe, name, _priced(recipe.teacher, name, table, now.date(), capped), key_of(name))
        for name in recipe.teacher.names
    ]


def runs_here(name: str) -> bool:
    """Return whether a teacher runs in this process, as far as wizloop knows: policy, recorded, or an installed one."""
    return name in HERE or plugin_teachers.is_one(name)


def _own_seat(
    recipe: Recipe, name: str, now: datetime, capped: bool, kept: dict[str, replay_teacher.Kept] | None = None
) -> Seat:
    """A teacher that needs no adapter of ours. `kept` stands in for one that costs money."""
    if not plugin_teachers.is_one(name):
        return Seat(teachers.here(recipe, name))
    seat = plugin_teachers.seat_of(recipe, name, table_of(recipe.teacher), now.date(), capped=capped)
    if kept is None or seat.teacher.free:
        return seat
    return Seat(replay_teacher.ReplayTeacher(name, seat.teacher.model, seat.teacher.version, kept))


def seat_of(recipe: Recipe, name: str, tariff: prices.Tariff | None, key: keys.Key | None) -> Seat:
    """A teacher behind a network. Without a key it can say what it would send, and not send it."""
    settings = remote_of(recipe.teacher, name)
    teacher = teacher_of(recipe, name, key)
    if isinstance(settings, Batching) and settings.mode == "batch":
        assert isinstance(teacher, ClaudeBatches | GeminiBatches)
        both: BatchTeacher = teacher
        return Seat(teacher, tariff, batches=(both, settings))
    return Seat(teacher, tariff, live=settings)


def teacher_of(recipe: Recipe, name: str, key: keys.Key | None) -> RemoteTeacher:
    """The adapter of a teacher behind a network. Raises PolicyError."""
    settings = remote_of(recipe.teacher, name)
    server = recipe.teacher.openai
    reach = Reach(
        model=settings.model,
        told=teacher_prompt.instruction(teachers.policies_of(recipe)),
        secret=None if key is None else key.secret,
        base_url=server.base_url if server is not None and name == "openai" else keys.address(name),
        max_tokens=settings.max_tokens,
        deadline_s=settings.deadline_s,
        effort=settings.effort if isinstance(settings, Batching) else None,
        flex=isinstance(settings, Gemini) and settings.mode == "flex",
    )
    if name == "openai":
        return OpenAIServer(reach, paid=is_paid(recipe.teacher, name))
    return _IN_BATCHES[name](reach)


def close(asked: Sequence[Seat]) -> None:
    """Close the connections of teachers behind a network."""
    for seat in asked:
        if isinstance(seat.teacher, RemoteTeacher):
            seat.teacher.close()


def check(recipe: Recipe, now: datetime, *, capped: bool) -> None:
    """Raises what `seats` raises for keys and prices, and makes nothing: to be asked before a night begins."""
    if recipe.teacher.replay is not None:
        return
    table = table_of(recipe.teacher)
    for name in recipe.teacher.names:
        if plugin_teachers.is_one(name):
            _own_seat(recipe, name, now, capped)
        elif name not in HERE:
            _priced(recipe.teacher, name, table, now.date(), capped)
            key_of(name)


def table_of(section: Teachers) -> prices.Table:
    """The price table with the recipe's own file. Raises PriceError."""
    return prices.load(None if section.prices is None else Path(section.prices))


def tariff_of(section: Teachers, name: str, day: date, *, capped: bool = False) -> prices.Tariff | None:
    """What a teacher costs; None for a free one, or where the price is not known. Raises PriceError where it is not
    known and a cap needs it.
    """
    return _priced(section, name, table_of(section), day, capped=capped)


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


def _replay(recipe: Recipe, name: str, kept: dict[str, replay_teacher.Kept]) -> replay_teacher.ReplayTeacher:
    """A stand-in for a teacher, under the name, model and version that the kept calls were made with."""
    model = remote_of(recipe.teacher, name).model
    versions = {one.version for one in kept.values() if (one.teacher, one.model) == (name, model)}
    version = versions.pop() if len(versions) == 1 else teacher_of(recipe, name, None).version
    return replay_teacher.ReplayTeacher(name, model, version, kept)
