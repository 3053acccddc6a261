"""What a run would need and do, looked at before it begins: for `wizloop start --dry-run`.

It makes no workspace, writes nothing and sends nothing: of what lies behind a network it knows what the recipe says.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from wizloop.loop import keys
from wizloop.loop.controller.starting import Limits, OtherRecipe, followed
from wizloop.loop.data.records import ImportRefused
from wizloop.loop.guard import instructions
from wizloop.loop.preflight import data_sources, doctor, plugins_ready, teacher_costs
from wizloop.loop.preflight.data_sources import Source
from wizloop.loop.preflight.doctor import Check
from wizloop.loop.preflight.plan import Plan, bounds_of, plan_of
from wizloop.loop.preflight.teacher_costs import Asking
from wizloop.loop.teaching import clients, plugin_teachers
from wizloop.loop.teaching.prices import PriceError
from wizloop.plugins import PluginError
from wizloop.recipes import schema
from wizloop.recipes.policies import PolicyError
from wizloop.recipes.schema import Recipe, RecipeError
from wizloop.store import errors
from wizloop.store.db import Store


@dataclass(frozen=True)
class Ahead:
    """What was looked at, and the plan; None where there is no recipe to make one of."""

    checks: list[Check]
    plan: Plan | None

    @property
    def missing(self) -> list[Check]:
        """What keeps the run from starting."""
        return [check for check in self.checks if not check.ok]

    def as_json(self) -> dict[str, Any]:
        """As `wizloop start --dry-run --json` prints it."""
        missing = [f"{check.name}: {check.found}" for check in self.missing]
        plan = None
        if self.plan is not None:
            plan = asdict(self.plan) | {"expected_usd": self.plan.expected_usd, "most_usd": self.plan.most_usd}
        return {"ok": not missing, "missing": missing, "checks": [one.as_json() for one in self.checks], "plan": plan}


def look(workspace: Path, asked: str | None, limits: Limits, now: datetime) -> Ahead:
    """Look at everything that a start of this recipe, or of the workspace's run, would need."""
    with _store(workspace) as (store, of_store):
        place = [of_store, doctor.lock_of(workspace), doctor.disk(workspace)]
        try:
            recipe = _recipe(store, asked, limits)
        except (RecipeError, OtherRecipe) as error:
            return Ahead([Check("recipe", False, str(error)), *place], None)
        found, bounds = data_sources.sources(recipe, store), bounds_of(recipe, store, limits)
        checks = [Check("recipe", True, recipe.name), doctor.runs_on(recipe), doctor.model(recipe), _prompt(recipe)]
        checks += [*doctor.trains_in(recipe), *doctor.exports(recipe), *_server(recipe)]
        checks += _data(found)
        checks += _teachers(recipe, capped=bounds.budget_usd is not None, now=now)
        askings: list[Asking] = []
        try:
            with nullcontext() if store is None else store.read() as db:
                askings = teacher_costs.askings(recipe, found, bounds.rounds, now, db)
        except (PriceError, PolicyError, PluginError) as error:
            checks.append(Check("teacher", False, str(error)))
        return Ahead([*checks, *place], plan_of(recipe, found, bounds, limits, askings))


@contextmanager
def _store(workspace: Path) -> Iterator[tuple[Store | None, Check]]:
    """The workspace's store for reading, or None where it is not there or cannot be read."""
    try:
        store = Store.open(workspace, readonly=True)
    except errors.NoWorkspace:
        yield None, Check("workspace", True, f"{workspace}: the start makes it")
        return
    except errors.StoreError as error:
        # A start brings a store of before up to date; whatever else is wrong keeps it from starting.
        yield None, Check("workspace", isinstance(error, errors.SchemaTooOld), str(error))
        return
    with store:
        yield store, Check("workspace", True, f"{workspace} is there")


def _recipe(store: Store | None, asked: str | None, limits: Limits) -> Recipe:
    named = None if asked is None else schema.load(asked)
    if store is None:
        return named or schema.load("demo")
    with store.read() as db:
        return followed(db, named, limits)


def _prompt(recipe: Recipe) -> Check:
    """The instruction in front of every sample, as far as it can be read without a network."""
    setting = recipe.guard.instruction
    try:
        text = instructions.read(recipe, far=False)
    except ImportRefused as error:
        return Check("prompt", False, str(error))
    if text is None:
        return Check("prompt", True, f"{setting}: of a dataset of the hub, read at the first start")
    return Check("prompt", True, f"{setting}: {len(text):,} characters in front of every sample")


def _server(recipe: Recipe) -> list[Check]:
    """Where the guard is asked, if not here. It is not asked now."""
    if recipe.guard.server is None:
        return []
    key = keys.find("server")
    how = f"with the key in {key.where}" if key else "without a key"
    return [Check("server", True, f"{recipe.guard.server.base_url}: asked at the first start, {how}")]


def _data(found: Sequence[Source]) -> list[Check]:
    checks = [Check("data", one.ok, f"{one.name}: {one.found}") for one in found]
    together = data_sources.fault(found)
    return [*checks, Check("data", False, together)] if together and all(one.ok for one in found) else checks


def _teachers(recipe: Recipe, *, capped: bool, now: datetime) -> list[Check]:
    """Of each teacher its key, there or not, and its price."""
    checks = []
    for name in recipe.teacher.names:
        if plugin_teachers.is_installed(name):
            checks.append(plugins_ready.teacher(recipe, name, capped=capped, now=now))
            continue
        if name in clients.HERE or recipe.teacher.replay is not None:
            checks.append(_here(recipe, name))
            continue
        try:
            key = clients.key_of(name)
            checks.append(Check("key", True, f"{name}: {f'there, in {key.where}' if key else 'none is needed'}"))
        except clients.NotReady as error:
            checks.append(Check("key", False, str(error)))
        checks.append(_price(recipe, name, capped=capped, now=now))
    return checks


def _here(recipe: Recipe, name: str) -> Check:
    """A teacher that runs here needs its files and nothing else."""
    paths = [recipe.teacher.policies, recipe.teacher.replay]
    if name == "recorded" and recipe.teacher.recorded is not None:
        paths.append(recipe.teacher.recorded.path)
    missing = [path for path in paths if path is not None and not Path(path).is_file()]
    if missing:
        return Check("teacher", False, f"{name}: {missing[0]} is not there")
    return Check("teacher", True, f"{name}: runs here, needs no key and costs nothing")


def _price(recipe: Recipe, name: str, *, capped: bool, now: datetime) -> Check:
    if not clients.is_paid(recipe.teacher, name):
        return Check("price", True, f"{name}: free")
    model = clients.remote_of(recipe.teacher, name).model
    try:
        tariff = clients.tariff_of(recipe.teacher, name, now.date(), capped=capped)
    except PriceError as error:
        return Check("price", False, str(error))
    if tariff is None:
        return Check("price", True, f"{name}: the price of {model} is not known", "set no budget, or give its price")
    first = tariff.tiers[0]
    return Check("price", True, f"{name}: {model}, ${first.input:g} in and ${first.output:g} out a million tokens")
