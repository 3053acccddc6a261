"""Whether a night can start on this machine: each thing that ends one at three in the morning, looked at beforehand.

It changes nothing and starts nothing. A check that is not ok says what to do; one that is may still have advice.
"""

import os
import platform
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from wizloop.loop.controller import lock

_LEAST_DISK, _LEAST_MEMORY = 2e9, 1.5e9
_SLOW_GFLOPS = 20


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at: whether it is well, what was found, and what to do."""

    name: str
    ok: bool
    found: str
    advice: str | None = None

    def as_json(self) -> dict[str, Any]:
        """As `doctor --json` prints it."""
        return asdict(self)


def examine(workspace: Path, recipe: str | None) -> list[Check]:
    """Look at everything, in the order in which a night needs it; `recipe` None is the run's own, or demo."""
    loaded, of_recipe = _recipe(workspace, recipe)
    checks = [
        _python(),
        _mlx(),
        _sqlite(),
        disk(workspace),
        _memory(),
        lock_of(workspace),
        _store(workspace),
        of_recipe,
    ]
    if loaded is not None:
        checks += [
            model(loaded),
            runs_on(loaded),
            *trains_in(loaded),
            *exports(loaded),
            *_server(loaded),
            _teacher(loaded),
            *_reached(loaded),
            _data(loaded, workspace),
        ]
    return [*checks, *_plugins(), _time(loaded)]


def _plugins() -> list[Check]:
    """What other packages add, where there is any; without one nothing is loaded for it."""
    from wizloop import plugins

    if not any(plugins.installed(kind) for kind in plugins.KINDS):
        return []
    from wizloop.loop.preflight import plugins_ready

    return plugins_ready.checks()


def _python() -> Check:
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    return Check("python", sys.version_info >= (3, 11), found)


def _mlx() -> Check:
    try:
        from wizloop.backends.mlx.blas import measure_speed

        speed = measure_speed()
    except (ImportError, OSError, RuntimeError) as error:
        return Check("mlx", False, f"does not work: {error}", "install wizloop again on Apple silicon or Linux")
    found = f"{speed.version} on {speed.device}; {speed.blas.name} BLAS, {speed.gflops:.0f} GFLOP/s"
    slow = f"under {_SLOW_GFLOPS} GFLOP/s a demo night takes far longer than ten minutes"
    return Check("mlx", True, found, speed.blas.advice or (slow if speed.gflops < _SLOW_GFLOPS else None))


def _sqlite() -> Check:
    from wizloop.store import sqlite

    driver = sqlite.driver()
    journal, warning = sqlite.journal_for(driver.sqlite_version_info)
    return Check("sqlite", True, f"{driver.sqlite_version} of {driver.__name__}, journal mode {journal}", warning)


def disk(workspace: Path) -> Check:
    """Whether there is room where the workspace is, or would be made, and whether anything may be written there."""
    there = next(folder for folder in (workspace.absolute(), *workspace.absolute().parents) if folder.exists())
    if not there.is_dir():
        return Check("disk", False, f"{there} is a file", "name a folder: --workspace")
    if not os.access(there, os.W_OK):
        return Check(
            "disk", False, f"{there} may not be written to", "see its permissions, or name another --workspace"
        )
    free = shutil.disk_usage(there).free
    advice = None if free >= _LEAST_DISK else f"make room: a night writes models and exports into {workspace}"
    return Check("disk", advice is None, f"{free / 1e9:.1f} GB free at {there}", advice)


def _memory() -> Check:
    import psutil

    free = psutil.virtual_memory().available
    advice = None if free >= _LEAST_MEMORY else "close something: the demo night needs 1.5 GB"
    return Check("memory", advice is None, f"{free / 1e9:.1f} GB available", advice)


def lock_of(workspace: Path) -> Check:
    """Whether no other process has the workspace."""
    if not lock.is_held(workspace):
        return Check("workspace", True, f"{workspace} is free")
    who = lock.holder(workspace)
    by = f"process {who.pid} on {who.host}, since {who.since}" if who else "another process"
    return Check("workspace", False, f"{workspace} is held by {by}", "use `wizloop status`, or another --workspace")


def _store(workspace: Path) -> Check:
    from wizloop.store import control, errors
    from wizloop.store.db import Store

    try:
        with Store.open(workspace, readonly=True) as store, store.read() as db:
            run = control.get_run(db)
    except errors.NoWorkspace:
        return Check("store", True, "not made yet: the first start makes it")
    except errors.StoreError as error:
        return Check("store", isinstance(error, errors.SchemaTooOld), str(error))
    return Check("store", True, "no run yet" if run is None else f"the run {run.name} is {run.state}")


def _recipe(workspace: Path, asked: str | None) -> tuple[Any, Check]:
    from wizloop.loop.controller.starting import default_recipe
    from wizloop.recipes import schema
    from wizloop.store import control, errors
    from wizloop.store.db import Store

    run, default = None, "demo"
    try:
        with Store.open(workspace, readonly=True) as store, store.read() as db:
            run, default = control.get_run(db), default_recipe(db)
    except errors.StoreError:
        pass  # What is wrong with the store is told by its own check.
    try:
        kept = run.recipe_json if run is not None and asked is None else None
        recipe = schema.load(asked or default) if kept is None else schema.stored(kept)
    except ValueError as error:
        return None, Check("recipe", False, str(error))
    rounds = recipe.rounds if run is None or kept is None else run.rounds_wanted
    return recipe, Check("recipe", True, f"{recipe.name}, {rounds} rounds after round 0")


def model(recipe: Any) -> Check:
    """Whether the base is to be had: made here, a folder, in the hub's cache on this disk, or still to be fetched."""
    base = recipe.guard.base
    if base == "tiny":
        return Check("model", True, "the tiny guard: built at the first start")
    folder = Path(base).expanduser()
    if folder.is_dir():
        whole = (folder / "config.json").is_file()
        return Check("model", whole, f"the folder {base}", None if whole else "it holds no config.json: no model")
    if base.count("/") != 1 or base.startswith((".", "/", "~")):
        return Check("model", False, f"{base}: no such folder", "name a folder or a hub's model")
    from huggingface_hub import try_to_load_from_cache

    if isinstance(try_to_load_from_cache(base, "config.json"), str):
        return Check("model", True, f"{base}: in the hub's cache on this disk")
    return Check("model", True, f"{base}: not on this disk", "it is downloaded at the first start")


def runs_on(recipe: Any) -> Check:
    """Which backend and device the recipe comes to on this machine, and why."""
    from wizloop.backends import devices
    from wizloop.backends.guard_types import BackendError

    try:
        picked = devices.pick(recipe.guard.backend, recipe.guard.device)
    except BackendError as error:
        return Check("backend", False, str(error), "or change guard.backend and guard.device in the recipe")
    slow = picked.backend == "cuda" and picked.device == "cpu"
    advice = "torch without a card is for trying things out: MLX is faster on a CPU" if slow else None
    return Check("backend", True, picked.sentence(), advice)


def trains_in(recipe: Any) -> list[Check]:
    """In how many processes the recipe would train, where it asks for more than one."""
    if recipe.train.launch == "one":
        return []
    from wizloop.backends.guard_types import BackendError
    from wizloop.loop.guard.backend import Torch, choose_backend

    guard, sharded = recipe.guard, recipe.train.sharding == "fsdp"
    try:
        backend = choose_backend(guard.backend, guard.device, recipe.train.processes, sharded=sharded)
        count = backend.count() if isinstance(backend, Torch) else 1
    except BackendError as error:
        return [Check("training", False, str(error), "or change [train] in the recipe")]
    held = "a share of the base (FSDP)" if sharded else "the whole base"
    several = "1 process" if count == 1 else f"{count} processes"
    return [Check("training", True, f"{several} by accelerate, each with {held}")]


def exports(recipe: Any) -> list[Check]:
    """Whether what the recipe comes to here writes the formats of [export]; nothing where it comes to nothing."""
    from wizloop.backends import devices
    from wizloop.backends.guard_types import BackendError
    from wizloop.loop.guard.backend import class_of, export_fault

    try:
        backend = class_of(devices.pick(recipe.guard.backend, recipe.guard.device))
    except BackendError:
        return []
    if why := export_fault(backend, recipe.export.formats):
        return [Check("export", False, why, "change export.formats in the recipe")]
    return [Check("export", True, f"{', '.join(recipe.export.formats) or 'nothing'}, by the {backend.NAME} backend")]


def _server(recipe: Any) -> list[Check]:
    """One look at the server that answers for the guard, where there is one."""
    if recipe.guard.server is None:
        return []
    from wizloop.backends.guard_types import BackendError
    from wizloop.loop.guard import server

    try:
        has = ", ".join(server.listed(recipe.guard.server)) or "no model"
    except BackendError as error:
        return [Check("server", False, str(error))]
    return [Check("server", True, f"{recipe.guard.server.base_url} has {has}")]


def _teacher(recipe: Any) -> Check:
    def ready() -> str:
        from wizloop.loop.teaching.clients import clients_of

        asked = clients_of(recipe, datetime.now().astimezone(), capped=recipe.budget_usd is not None)
        return ", then ".join(f"{client.name} ({'free' if client.teacher.free else 'paid'})" for client in asked)

    return _tried("teacher", ready)


def _reached(recipe: Any) -> list[Check]:
    """One look at each teacher behind a network; where there is none, its libraries stay unloaded."""
    if set(recipe.teacher.names) <= {"policy", "recorded"}:
        return []
    from wizloop.loop.preflight.teachers_ready import findings

    found = findings(recipe, datetime.now().astimezone())
    return [Check(f"teacher {one.name}", one.ok, one.found, one.advice) for one in found]


def _data(recipe: Any, workspace: Path) -> Check:
    from wizloop.loop.data.records import ImportRefused
    from wizloop.loop.data.sample_reader import refuse_hidden

    if recipe.source == "demo":
        return Check("data", True, "the demo pool, made from the seed")
    if recipe.source == "imported":
        return _tried("data", partial(imported, workspace))
    try:
        for data in recipe.data:
            refuse_hidden(data)
    except ImportRefused as error:
        return Check("data", False, str(error))
    missing = [data.path for data in recipe.data if data.hub_split is None and not Path(data.path).is_file()]
    if missing:
        return Check("data", False, f"{missing[0]} is not there", "paths are relative to the folder you start in")
    return Check("data", True, f"{len(recipe.data)} files are there")


def imported(workspace: Path) -> str:
    """What `wizloop import` brought. Raises ImportRefused where no run can be made of it."""
    from wizloop.loop.phases.import_samples import check_usable
    from wizloop.store import errors, samples
    from wizloop.store.db import Store

    counts, labels = dict.fromkeys(samples.SPLITS, 0), {}
    with suppress(errors.StoreError), Store.open(workspace, readonly=True) as store, store.read() as db:
        counts, labels = samples.counts(db), samples.label_counts(db)
    check_usable(counts, labels)
    return "imported: " + ", ".join(f"{split} {n:,}" for split, n in counts.items())


def _time(recipe: Any) -> Check:
    now = datetime.now().astimezone()
    until = f"; no phase begins after {recipe.until}" if recipe is not None and recipe.until else ""
    return Check("time", now.year >= 2025, f"{now:%Y-%m-%d %H:%M} (UTC{now:%z}){until}")


def _tried(name: str, look: Callable[[], str]) -> Check:
    """What `look` finds, or the sentence with which it refused."""
    try:
        return Check(name, True, look())
    except (ValueError, OSError) as error:
        return Check(name, False, str(error))
