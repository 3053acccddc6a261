"""Checks of a recipe's teachers: files, key, price and, over the network, the model. None of them costs money."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, nullcontext, suppress
from datetime import datetime
from pathlib import Path
from types import MappingProxyType

from wizloop.backends.teachers import replay
from wizloop.backends.teachers.base import Answer
from wizloop.backends.teachers.remote import ModelInfo, RemoteTeacher
from wizloop.loop.controller.night import is_done
from wizloop.loop.phases.check import exempt
from wizloop.loop.preflight import Check
from wizloop.loop.preflight.data_sources import Source
from wizloop.loop.preflight.teacher_costs import check_usd
from wizloop.loop.teaching import clients, plugin_teachers, teachers
from wizloop.loop.teaching.prices import PriceError
from wizloop.plugins import PluginError
from wizloop.recipes.policies import PolicyError
from wizloop.recipes.schema import Recipe
from wizloop.store import teacher_checks
from wizloop.store.checked_teacher import ROWS_WANTED
from wizloop.store.db import Connection, Store

_ADVICE = {
    "unauthorised": "set another key with `wizloop keys set`, or choose a model that this key may use",
    "account_disabled": "the provider has disabled this account: contact its support",
    "spend_limit": "raise the spend limit with the provider",
    "account": "fix the account with the provider: credit, billing, region",
    "parameter": "choose another model or other settings in the recipe's [teacher]",
    "rate_limited": "the provider limits the rate: try again in a few minutes",
}
POLICY_IS_NO_JUDGE = (
    "it counts wording and understands nothing: on six public sets it found 12 to 19 % of the harmful prompts. It is "
    "for the demo and for trying things out"
)
"""docs/results.md, benchmarks/policy_teacher.py."""
_NONE_LEFT = "name another teacher in teacher.names, or set teacher.least_right lower, and start with that recipe"
_UNREACHED = "check the network and the address; a run asks the next teacher when this one cannot be reached"


def checks(
    recipe: Recipe, now: datetime, *, capped: bool, network: bool, out: Mapping[str, str] = MappingProxyType({})
) -> Iterator[Check]:
    """Check every teacher in the recipe's order; `capped` runs need a known price.

    `out` are the teachers that the run gave up, with the reasons: a provider may show a model to an account that cannot
    ask it.
    """
    for name, why in out.items():
        if name in recipe.teacher.names:
            yield Check(f"teacher {name}", False, f"it was given up: {why}", "fix that; the next start asks it again")
    for name in recipe.teacher.names:
        if plugin_teachers.is_installed(name):
            yield _plugin(recipe, name, now, capped=capped)
        elif name in clients.HERE or recipe.teacher.replay is not None:
            yield _local(recipe, name)
        else:
            yield from _remote(recipe, name, now, capped=capped, network=network)


def measured(recipe: Recipe, sources: Sequence[Source], store: Store | None, now: datetime) -> Iterator[Check]:
    """Say of each teacher how often it was right when it was last checked, or what a check would cost."""
    with nullcontext() if store is None else store.read() as db:
        known = {} if db is None else teacher_checks.every(db)
        taught = db is not None and is_done(db, 0, "teach")
        out = {name for name, one in known.items() if one.left_out}
        for name in recipe.teacher.names:
            if name in known:
                none_left = out >= set(recipe.teacher.names)
                yield Check("right", not none_left, known[name].sentence(), _NONE_LEFT if none_left else None)
            elif why := exempt(recipe, name):
                yield Check("right", True, f"{name}: not measured: {why}")
            elif recipe.teacher.least_right == 0 or taught:
                yield Check("right", True, f"{name}: not measured")
            else:
                yield Check("right", True, *_to_measure(recipe, name, sources, now, db))


def _to_measure(
    recipe: Recipe, name: str, sources: Sequence[Source], now: datetime, db: Connection | None
) -> tuple[str, str]:
    """Return that a teacher is not measured, what that would cost, and how to do it."""
    with suppress(PriceError, PolicyError):
        rows, usd = check_usd(recipe, name, sources, now, db)
        cost = "at an unknown cost" if usd is None else f"about ${usd:.2f}" if usd else "for nothing"
        few = "; with fewer than 60 its interval is wide" if rows < ROWS_WANTED else ""
        found = f"{name}: not measured, {cost} for {rows} rows of the seed{few}"
        return found, "a start does it before it teaches, and `wizloop doctor --ask-teacher` now"
    return f"{name}: not measured", "see its price or policies above"


def _local(recipe: Recipe, name: str) -> Check:
    """Check a teacher that runs here, or from a replay file: it needs its files and nothing else."""
    try:
        if name in clients.HERE:
            teachers.here(recipe, name)
        elif recipe.teacher.replay is not None:
            replay.load(Path(recipe.teacher.replay))
    except (ValueError, OSError) as error:
        return Check("teacher", False, f"{name}: {error}")
    advice = POLICY_IS_NO_JUDGE if name == "policy" else None
    return Check("teacher", True, f"{name}: runs here, needs no key and costs nothing", advice)


def _plugin(recipe: Recipe, name: str, now: datetime, *, capped: bool) -> Check:
    """Check a plugin's teacher: its settings and its price."""
    table = clients.table_of(recipe.teacher)
    try:
        client = plugin_teachers.client_of(recipe, name, table, now.date(), capped=capped)
    except (PluginError, PriceError, PolicyError) as error:
        return Check("teacher", False, str(error))
    paid = "unknown price" if client.tariff is None else "paid"
    return Check("teacher", True, f"{name}: {client.teacher.model}, {'free' if client.teacher.free else paid}")


def _remote(recipe: Recipe, name: str, now: datetime, *, capped: bool, network: bool) -> Iterator[Check]:
    key = None
    try:
        key = clients.key_of(name)
        yield Check("key", True, f"{name}: {f'found in {key.where}' if key else 'not needed'}")
    except clients.NotReady as error:
        network = False
        yield Check("key", False, str(error))
    yield _price(recipe, name, now, capped=capped)
    try:
        with closing(clients.teacher_of(recipe, name, key)) as teacher:
            if network:
                yield _reached(f"teacher {name}", teacher)
    except PolicyError as error:
        yield Check("teacher", False, str(error))


def _price(recipe: Recipe, name: str, now: datetime, *, capped: bool) -> Check:
    try:
        tariff = clients.tariff_of(recipe.teacher, name, now.date(), capped=capped)
    except PriceError as error:
        return Check("price", False, str(error))
    model = clients.remote_of(recipe.teacher, name).model
    if not clients.is_paid(recipe.teacher, name):
        return Check("price", True, f"{name}: free")
    if tariff is None:
        return Check("price", True, f"{name}: the price of {model} is unknown", "set no budget, or give its price")
    first = tariff.tiers[0]
    rate = f"${first.input:g} per million input tokens, ${first.output:g} per million output tokens"
    return Check("price", True, f"{name}: {model}, {rate}")


def _reached(check: str, teacher: RemoteTeacher) -> Check:
    """Look the model up with its provider, once."""
    reply = teacher.model_info()
    if isinstance(reply, Answer):
        return Check(check, False, f"{teacher.model}: {reply.category}", _ADVICE.get(reply.outcome, _UNREACHED))
    return _lifecycle(check, teacher.model, reply)


def _lifecycle(check: str, name: str, model: ModelInfo) -> Check:
    life = "available" if model.lifecycle == "unknown" else model.lifecycle
    found = f"{name}: {life}" + (f"; {model.note}" if model.note else "")
    if model.lifecycle == "retired":
        return Check(check, False, found, "choose another model in the recipe")
    advice = "choose a newer model in the next recipe" if model.lifecycle == "deprecated" else None
    return Check(check, True, found, advice)
