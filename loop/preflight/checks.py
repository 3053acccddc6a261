"""The checks that `wizloop doctor` and `wizloop start --dry-run` run before a start. They change nothing."""

import os
import platform
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import psutil

from wizloop import plugins
from wizloop.backends import devices, model_folder
from wizloop.backends.guard_types import BackendError
from wizloop.loop import keys
from wizloop.loop.controller import lock
from wizloop.loop.controller.starting import RunLimits, check_base, effective_limits, followed
from wizloop.loop.data import format_choice
from wizloop.loop.guard import server
from wizloop.loop.guard.backend import Torch, base_fault, choose_backend, class_of, export_fault
from wizloop.loop.guard.published import registry
from wizloop.loop.preflight import Check, data_sources, prompt_checks, teacher_checks
from wizloop.loop.preflight.data_sources import Source
from wizloop.loop.preflight.memory import whole_weights
from wizloop.recipes import schema
from wizloop.recipes.schema import BUILT_IN, Recipe
from wizloop.store import control, errors, given_up, sqlite
from wizloop.store.db import Store

_LEAST_DISK, _LEAST_MEMORY = 2e9, 1.5e9
_SLOW_GFLOPS = 20
_NO_STORE = Check("store", True, "does not exist yet: the first start creates it")


class _Unread(ValueError):
    """The workspace exists and cannot be read, so what a start would follow is unknown."""


@dataclass(frozen=True)
class Preflight:
    """Checks, and the recipe, sources and limits that they found; the recipe is None if it cannot be used."""

    checks: list[Check]
    recipe: Recipe | None
    sources: list[Source]
    limits: RunLimits


def preflight(workspace: Path, named: str | None, limits: RunLimits, now: datetime, *, thorough: bool) -> Preflight:
    """Check everything that a start needs, in the order in which it needs it.

    `named` None takes the run's own recipe, or the default. With `thorough`, servers and
    providers are asked, at no cost, and every installed plugin is imported.
    """
    with opened(workspace) as (store, of_store):
        checks = [_python(), _mlx(), _sqlite(), _disk(workspace), _memory(), _lock(workspace), of_store]
        try:
            recipe, limits = _recipe(store, of_store, named, limits)
        except ValueError as error:
            of_recipe = Check("recipe", isinstance(error, _Unread) and of_store.ok, str(error))
            return Preflight([*checks, of_recipe, _time(limits, now)], None, [], limits)
        sources = data_sources.sources_of(recipe, store)
        checks += [Check("recipe", True, f"{recipe.name}, {_rounds(limits)} after round 0")]
        checks += [
            _model(recipe, store),
            *_backend(recipe),
            *_training(recipe, workspace),
            *prompt_checks.checks(recipe),
        ]
        checks += _other_members(recipe)
        checks += _server(recipe, thorough)
        capped = limits.budget_usd is not None
        checks += teacher_checks.checks(recipe, now, capped=capped, network=thorough, out=_out(store))
        checks += teacher_checks.measured(recipe, sources, store, now)
        checks += [*_data(sources, recipe), *(plugin_checks() if thorough else ()), _time(limits, now)]
        return Preflight(checks, recipe, sources, limits)


def plugin_checks() -> list[Check]:
    """Return one check for each installed plugin, by kind and name; imports them."""
    return [_plugin(kind, name) for kind in plugins.KINDS for name in plugins.installed(kind)]


@contextmanager
def opened(workspace: Path) -> Iterator[tuple[Store | None, Check]]:
    """Open the workspace's store for reading; yields None if it does not exist or cannot be read."""
    try:
        store = Store.open(workspace, readonly=True)
    except errors.NoWorkspace:
        yield None, _NO_STORE
    except errors.StoreError as error:
        # A start upgrades an older store; any other error keeps it from starting.
        yield None, Check("store", isinstance(error, errors.SchemaTooOld), str(error))
    else:
        with store:
            with store.read() as db:
                run = control.get_run(db)
            yield store, Check("store", True, "no run yet" if run is None else f"run {run.name}: {run.state}")


def _out(store: Store | None) -> dict[str, str]:
    """Return the teachers that the run's newest round gave up, with the reasons."""
    if store is None:
        return {}
    with store.read() as db:
        return given_up.newest(db)


def _python() -> Check:
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    return Check("python", sys.version_info >= (3, 11), found)


def _mlx() -> Check:
    try:
        from wizloop.backends.mlx.blas import measure_speed

        speed = measure_speed()
    except (ImportError, OSError, RuntimeError) as error:
        return Check("mlx", False, f"does not work: {error}", "install wizloop again on Apple silicon or Linux")
    found = f"{speed.version} on {speed.device}; BLAS: {speed.blas.name}, {speed.gflops:.0f} GFLOP/s"
    slow = f"below {_SLOW_GFLOPS} GFLOP/s a demo night takes much longer than ten minutes"
    return Check("mlx", True, found, speed.blas.advice or (slow if speed.gflops < _SLOW_GFLOPS else None))


def _sqlite() -> Check:
    driver = sqlite.driver()
    journal, warning = sqlite.journal_for(driver.sqlite_version_info)
    return Check("sqlite", True, f"{driver.sqlite_version} of {driver.__name__}, journal mode {journal}", warning)


def _disk(workspace: Path) -> Check:
    """Check space and write permission where the workspace is, or will be created."""
    folder = _existing(workspace)
    if not folder.is_dir():
        return Check("disk", False, f"{folder} is a file", "choose a folder with --workspace")
    if not os.access(folder, os.W_OK):
        return Check("disk", False, f"{folder} is not writable", "change its permissions, or use another --workspace")
    free = shutil.disk_usage(folder).free
    advice = None if free >= _LEAST_DISK else f"free some space: a night writes models and exports into {workspace}"
    return Check("disk", advice is None, f"{free / 1e9:.1f} GB free at {folder}", advice)


def _existing(workspace: Path) -> Path:
    """Return the workspace, or the nearest folder above it that exists."""
    return next(each for each in (workspace.absolute(), *workspace.absolute().parents) if each.exists())


def _memory() -> Check:
    free = psutil.virtual_memory().available
    advice = None if free >= _LEAST_MEMORY else "close other programs: the demo night needs 1.5 GB"
    return Check("memory", advice is None, f"{free / 1e9:.1f} GB available", advice)


def _lock(workspace: Path) -> Check:
    if not lock.is_held(workspace):
        return Check("workspace", True, f"{workspace} is free")
    found = f"{workspace} is in use by {lock.holder_name(workspace)}"
    return Check("workspace", False, found, "see `wizloop status`, or use another --workspace")


def _rounds(limits: RunLimits) -> str:
    return "1 round" if limits.rounds == 1 else f"{limits.rounds} rounds"


def _recipe(store: Store | None, of_store: Check, named: str | None, limits: RunLimits) -> tuple[Recipe, RunLimits]:
    """Return the recipe that a start would follow, with its limits. Raises RecipeError, OtherRecipe, _Unread."""
    recipe = None if named is None else schema.load(named)
    if store is None:
        if of_store is not _NO_STORE:
            raise _Unread("not checked: what the run follows is in the workspace, which cannot be read yet")
        recipe = recipe or schema.load("demo")
        return recipe, effective_limits(recipe, None, limits)
    with store.read() as db:
        recipe = followed(db, recipe, limits)
        return recipe, effective_limits(recipe, control.get_run(db), limits)


def _model(recipe: Recipe, store: Store | None) -> Check:
    """Check that the base exists: built here, a folder, a GGUF file, in the hub's cache, or on the hub."""
    base = recipe.guard.base
    if base == "tiny":
        return Check("model", True, "the tiny guard: built at the first start")
    folder = Path(base).expanduser()
    if folder.is_dir() and not (folder / "config.json").is_file():
        return Check("model", False, f"the folder {base}", "it has no config.json: not a model")
    if folder.is_file():
        return _file(folder)
    if not folder.is_dir() and (base.count("/") != 1 or base.startswith((".", "/", "~"))):
        advice = "set guard.base to a model folder, a GGUF file or a hub name"
        return Check("model", False, f"{base}: no such folder", advice)
    if why := _unreadable(recipe) or _another(recipe, store):
        return Check("model", False, why)
    if folder.is_dir():
        return Check("model", True, f"the folder {base}")
    if model_folder.on_disk(base) is not None:
        return Check("model", True, f"{base}: in the hub's cache on this disk")
    return Check("model", True, f"{base}: not on this disk", "it is downloaded at the first start")


def _another(recipe: Recipe, store: Store | None) -> str | None:
    """Return that the base is another than the workspace's run began with, or None."""
    if store is None:
        return None
    try:
        check_base(store, recipe)
    except BackendError as error:
        return str(error)
    return None


def _unreadable(recipe: Recipe) -> str | None:
    """Return why the recipe's backend cannot read the base's config.json, or None, also where it cannot be asked."""
    guard = recipe.guard
    try:
        backend = class_of(devices.pick(guard.backend, guard.device))
    except BackendError:
        return None
    return base_fault(backend, guard.base, guard.max_prompt_tokens + guard.max_trace_tokens)


def _other_members(recipe: Recipe) -> list[Check]:
    """Check each member that no adapter makes: its model, chat template and instruction."""
    checks: list[Check] = []
    for number, other in enumerate(recipe.members.others, start=1):
        given = {"base": other.base or recipe.guard.base, "instruction": other.instruction or recipe.guard.instruction}
        asked = recipe.model_copy(update={"guard": recipe.guard.model_copy(update=given)})
        found = [_model(asked, None), *prompt_checks.checks(asked)] if other.base else prompt_checks.checks(asked)[:1]
        if other.base and recipe.guard.server is not None:
            found.append(Check("server", False, "it runs the guard's base alone: leave out the member's base"))
        checks += [replace(one, name=f"member {number} {one.name}") for one in found]
    return checks


def _file(path: Path) -> Check:
    """Check that a GGUF file can be read, and that the cache has room for its folder."""
    try:
        described, fault = model_folder.file_check(path)
    except BackendError as error:
        return Check("model", False, str(error))
    return Check("model", fault is None, f"{path}: {described}", fault)


def _backend(recipe: Recipe) -> Iterator[Check]:
    """Check that the recipe's backend runs here and writes its export formats."""
    try:
        picked = devices.pick(recipe.guard.backend, recipe.guard.device)
    except BackendError as error:
        yield Check("backend", False, str(error), "or change guard.backend and guard.device in the recipe")
        return
    slow = picked.backend == "cuda" and picked.device == "cpu"
    advice = "torch without a GPU is for trying things out: MLX is faster on a CPU" if slow else None
    yield Check("backend", True, picked.sentence(), advice)
    backend, formats = class_of(picked), recipe.export.formats
    if why := export_fault(backend, formats, recipe.guard.base):
        yield Check("export", False, why, "change export.formats in the recipe")
    else:
        yield Check("export", True, f"{', '.join(formats) or 'nothing'}, by the {backend.NAME} backend")


def _training(recipe: Recipe, workspace: Path) -> list[Check]:
    """Check the number of training processes, if the recipe asks for more than one, and the room for whole weights."""
    if recipe.train.method == "full":
        free = shutil.disk_usage(_existing(workspace)).free
        return [Check("training", *whole_weights(recipe, free))]
    if recipe.train.launch == "one":
        return []
    guard, sharded = recipe.guard, recipe.train.sharding == "fsdp"
    try:
        backend = choose_backend(guard.backend, guard.device, recipe.train.processes, sharded=sharded)
        count = backend.count() if isinstance(backend, Torch) else 1
    except BackendError as error:
        return [Check("training", False, str(error), "or change [train] in the recipe")]
    share = "a share of the base (FSDP)" if sharded else "the whole base"
    return [Check("training", True, f"{count} process{'' if count == 1 else 'es'} by accelerate, each with {share}")]


def _server(recipe: Recipe, network: bool) -> list[Check]:
    if recipe.guard.server is None:
        return []
    url = recipe.guard.server.base_url
    if not network:
        key = keys.find("server")
        how = f"with the key in {key.where}" if key else "without a key"
        return [Check("server", True, f"{url}: first used at the start, {how}")]
    try:
        return [Check("server", True, f"{url} has {', '.join(server.listed(recipe.guard.server)) or 'no model'}")]
    except BackendError as error:
        return [Check("server", False, str(error))]


def _data(sources: Sequence[Source], recipe: Recipe) -> list[Check]:
    checks = [Check("data", each.ok, f"{each.name}: {each.found}") for each in sources]
    lacking = data_sources.lacking_for_a_promise(sources, recipe)
    checks += [Check("promise", True, said, "import more into dev, or promise less") for said in lacking]
    together = data_sources.fault(sources, recipe)
    return [*checks, Check("data", False, together)] if together else checks


def _time(limits: RunLimits, now: datetime) -> Check:
    until = f"; no phase starts after {limits.until}" if limits.until else ""
    return Check("time", now.year >= 2025, f"{now:%Y-%m-%d %H:%M} (UTC{now:%z}){until}")


def _plugin(kind: plugins.Kind, name: str) -> Check:
    entries = plugins.installed(kind)[name]
    taken = {"format": (name,) if format_choice.taken(name) else (), "guard": tuple(registry.BUILT_IN)}
    built_in = BUILT_IN.get(kind, taken.get(kind, ()))
    why = plugins.fault(kind, name, built_in)
    packages = " and ".join(plugins.package_of(entry) for entry in entries)
    return Check(f"{kind} {name}", why is None, why or f"{packages} ({entries[0].value})")
