"""Build teacher clients from a recipe: model, key, price. Sends no requests."""

from collections.abc import Callable, Collection, Sequence
from datetime import date, datetime
from pathlib import Path

from wizloop.backends.teachers import replay
from wizloop.backends.teachers.claude import Claude
from wizloop.backends.teachers.claude_batches import ClaudeBatches
from wizloop.backends.teachers.gemini import Gemini
from wizloop.backends.teachers.gemini_batches import GeminiBatches
from wizloop.backends.teachers.openai_server import OpenAIServer
from wizloop.backends.teachers.remote import Access, RemoteTeacher
from wizloop.loop import keys
from wizloop.loop.teaching import plugin_teachers, prices, teachers
from wizloop.loop.teaching.calls import HERE as HERE
from wizloop.loop.teaching.calls import TeacherClient
from wizloop.recipes.schema import Recipe
from wizloop.recipes.teaching import Batching, Remote, Teachers

TEMPLATES = ("policy", "recorded")
"""The teachers that fill in sentences of ours: what they write is no reasoning that a screen could judge."""
_LIVE: dict[str, Callable[[Access], RemoteTeacher]] = {"claude": Claude, "gemini": Gemini}
_BATCHES: dict[str, Callable[[Access], RemoteTeacher]] = {"claude": ClaudeBatches, "gemini": GeminiBatches}


class NotReady(ValueError):
    """A teacher that the recipe names cannot be asked."""


def clients_of(recipe: Recipe, now: datetime, *, capped: bool) -> list[TeacherClient]:
    """Build the recipe's teacher clients, in its order.

    Raises NotReady for a missing key, PriceError for a price that is unknown and needed for a cap, PolicyError,
    PluginError, ImportRefused, BadRecording.
    """
    section = recipe.teacher
    kept = None if section.replay is None else replay.load(Path(section.replay))

    def build(name: str) -> TeacherClient:
        if runs_here(name):
            return _own_client(recipe, name, now, capped and kept is None, kept)
        if kept is not None:
            return TeacherClient(_replay(recipe, name, kept), settings=remote_of(section, name))
        return client_of(recipe, name, tariff_of(section, name, now.date(), capped=capped), key_of(name))

    return [build(name) for name in section.names]


def believed(recipe: Recipe, left_out: Collection[str]) -> Recipe:
    """Return the recipe without the teachers that a check left out, as far as any is left."""
    names = tuple(name for name in recipe.teacher.names if name not in left_out)
    section = recipe.teacher.model_copy(update={"names": names or recipe.teacher.names})
    kept = recipe.model_copy(update={"teacher": section})
    return recipe if names == recipe.teacher.names else kept


def for_kept_back(recipe: Recipe) -> list[TeacherClient]:
    """Return the teacher that proposes verdicts on samples that no other may see: the policy reasoner, if it is none.

    Raises PolicyError.
    """
    if "policy" in recipe.teacher.names or not teachers.words_of(recipe).is_part_of_ours():
        return []
    return [TeacherClient(teachers.here(recipe, "policy"), for_kept_back=True)]


def runs_here(name: str) -> bool:
    """Return whether a teacher runs in this process, as far as wizloop knows: those of HERE, or an installed one."""
    return name in HERE or plugin_teachers.is_installed(name)


def _own_client(
    recipe: Recipe, name: str, now: datetime, capped: bool, kept: dict[str, replay.Kept] | None = None
) -> TeacherClient:
    """Build the client of a teacher without a built-in adapter; `kept` calls replace one that costs money."""
    if name in HERE:
        return TeacherClient(teachers.here(recipe, name))
    client = plugin_teachers.client_of(recipe, name, table_of(recipe.teacher), now.date(), capped=capped)
    if kept is None or client.teacher.free:
        return client
    return TeacherClient(replay.ReplayTeacher(name, client.teacher.model, client.teacher.version, kept))


def client_of(recipe: Recipe, name: str, tariff: prices.Tariff | None, key: keys.Key | None) -> TeacherClient:
    """Build the client of a remote teacher. Without a key it can show its requests, and not send them."""
    teacher, settings = teacher_of(recipe, name, key), remote_of(recipe.teacher, name)
    batches = teacher if isinstance(teacher, ClaudeBatches | GeminiBatches) else None
    return TeacherClient(teacher, tariff, settings, batches)


def teacher_of(recipe: Recipe, name: str, key: keys.Key | None) -> RemoteTeacher:
    """Build the adapter of a remote teacher, for its mode in the recipe. Raises PolicyError."""
    settings = remote_of(recipe.teacher, name)
    server = recipe.teacher.openai
    mode = settings.mode if isinstance(settings, Batching) else "live"
    access = Access(
        model=settings.model,
        instruction=teachers.instruction_of(recipe, small=recipe.teacher.answer == "small"),
        secret=None if key is None else key.secret,
        base_url=server.base_url if server is not None and name == "openai" else keys.address(name),
        max_tokens=settings.max_tokens,
        deadline_s=settings.deadline_s,
        effort=settings.effort if isinstance(settings, Batching) else None,
        flex=mode == "flex",
        length=recipe.teacher.reasoning,
        small=recipe.teacher.answer == "small",
        words=teachers.words_of(recipe),
        categories=teachers.categories_of(recipe),
    )
    if name == "openai":
        return OpenAIServer(access, paid=is_paid(recipe.teacher, name))
    return (_BATCHES if mode == "batch" else _LIVE)[name](access)


def close(clients: Sequence[TeacherClient]) -> None:
    """Close the connections of remote teachers."""
    for client in clients:
        if isinstance(client.teacher, RemoteTeacher):
            client.teacher.close()


def check(recipe: Recipe, now: datetime, *, capped: bool) -> None:
    """Raise what `clients_of` raises for keys and prices, without building anything, before a run starts."""
    if recipe.teacher.replay is not None:
        return
    for name in recipe.teacher.names:
        if plugin_teachers.is_installed(name):
            _own_client(recipe, name, now, capped)
        elif name not in HERE:
            tariff_of(recipe.teacher, name, now.date(), capped=capped)
            key_of(name)


def table_of(section: Teachers) -> prices.Table:
    """Load the price table with the recipe's own file. Raises PriceError."""
    return prices.load(None if section.prices is None else Path(section.prices))


def tariff_of(section: Teachers, name: str, day: date, *, capped: bool = False) -> prices.Tariff | None:
    """Return a teacher's tariff; None if it is free or its price is unknown.

    Raises PriceError if the price is unknown and a cap needs it, or if the recipe's price file is invalid.
    """
    table = table_of(section)
    if not is_paid(section, name):
        return None
    model = remote_of(section, name).model
    found = table.tariff(name, model, day)
    if found is None and capped:
        known = ", ".join(table.known(name, day)) or "no model of it"
        raise prices.PriceError(
            f"the price of {name}'s {model} is not known, and no budget can be enforced without it: add it to a file "
            f"that teacher.prices names, use a model with a known price ({known}), or set no budget"
        )
    return found


def remote_of(section: Teachers, name: str) -> Remote:
    """Return the recipe's section on a remote teacher."""
    found: Remote | None = getattr(section, name)
    assert found is not None
    return found


def is_paid(section: Teachers, name: str) -> bool:
    """Return whether a teacher's answers cost money."""
    return name not in HERE and (section.openai is None or name != "openai" or section.openai.paid)


def key_of(name: str) -> keys.Key | None:
    """Return a teacher's key; None for a server that needs none. Raises NotReady."""
    found = keys.find(name)
    if found is None and name != "openai":
        wanted = " or ".join(keys.variables(name))
        raise NotReady(f"there is no key for {name}: set {wanted}, or store it with `wizloop keys set {name}`")
    return found


def _replay(recipe: Recipe, name: str, calls: dict[str, replay.Kept]) -> replay.ReplayTeacher:
    """Build the stand-in for a teacher, with the name, model and version of the recorded calls."""
    model = remote_of(recipe.teacher, name).model
    versions = {call.version for call in calls.values() if (call.teacher, call.model) == (name, model)}
    version = versions.pop() if len(versions) == 1 else teacher_of(recipe, name, None).version
    small, words = recipe.teacher.answer == "small", teachers.words_of(recipe)
    return replay.ReplayTeacher(name, model, version, calls, small=small, words=words)
