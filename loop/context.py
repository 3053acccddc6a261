"""The context of a phase: store, recipe, clock, seeds, models, progress and interruption."""

import gc
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from wizloop.backends import devices, model_folder
from wizloop.loop.guard import kept_rendering, linear_way, run_base, shown_policies
from wizloop.loop.guard.backend import Backend, Guard, choose_backend
from wizloop.loop.guard.judge import Judge, Limits, load_guard
from wizloop.loop.guard.linear_way import Linear
from wizloop.loop.guard.otherwise import Otherwise
from wizloop.loop.guard.readers import STRICT, TOLERANT, Reader
from wizloop.loop.guard.rendering import Renderer
from wizloop.loop.interrupted import Interrupted
from wizloop.loop.measures.calibration import Calibration
from wizloop.loop.words import DEFAULT, Declaration
from wizloop.recipes.schema import Recipe, RecipeError, stored
from wizloop.store import control, errors, events, models, steps
from wizloop.store.db import Connection, Store
from wizloop.store.rows import pieces

T = TypeVar("T")

EVERY_SECONDS = 1.0
"""Minimum interval, in seconds, between progress writes and checks for a request to pause or stop."""
WRITTEN = 250
"""Rows per transaction: the night's writers block each other for a few milliseconds at most."""
LOADED = 2
"""Guards kept in memory, if the GPU has room for them."""


def seed_of(*parts: str | int) -> int:
    """Return a 31-bit seed that depends on `parts` only."""
    return int.from_bytes(hashlib.sha256(json.dumps(parts).encode()).digest()[:4], "big") >> 1


@dataclass
class Context:
    """One phase of one round, running in one process."""

    store: Store
    workspace: Path
    recipe: Recipe
    round: int
    phase: str
    now: Callable[[], datetime]
    stop_asked: Callable[[], bool]
    """Whether a termination signal has arrived."""
    scale: float = 1.0
    """Factor on batch sizes; halved after the process ran out of memory."""
    given: Backend | None = None
    """The backend; None: chosen from the recipe's [guard] on first use."""
    _loaded: dict[str, Guard] = field(default_factory=dict, repr=False)
    _renderer: Renderer | None = field(default=None, repr=False)
    _revision: str | None = field(default=None, repr=False)
    _reported_at: datetime | None = field(default=None, repr=False)
    _reported: tuple[int, int] = field(default=(0, 0), repr=False)

    def progress(self, done: int, total: int, waiting: str = "") -> None:
        """Store the progress and what the phase waits for. Raises Interrupted if the user or a signal ends it."""
        if self.stop_asked():
            raise Interrupted("signal")
        now = self.now()
        due = self._reported_at is None or abs((now - self._reported_at).total_seconds()) >= EVERY_SECONDS
        if not due and done < total:
            return
        self._reported_at, self._reported = now, (done, total)
        with self.store.write() as db:
            steps.progress(db, self.round, self.phase, done, total, waiting)
            run = control.get_run(db)
        if run is not None and run.wanted == "pause":
            raise Interrupted("pause")
        if run is not None and run.wanted == "stop_now":
            raise Interrupted("stop")

    def wait(self, doing: str) -> None:
        """Store what is done before the next progress: a model that is loaded, a first step. Raises Interrupted."""
        self._reported_at = None
        self.progress(*self._reported, doing)

    def say(self, message: str, level: str = "info", data: Mapping[str, Any] | None = None) -> None:
        """Add an event to the run's log."""
        data_json = None if data is None else json.dumps(data, sort_keys=True)
        with self.store.write() as db:
            events.add(
                db,
                level=level,
                message=message,
                now=self.now(),
                phase=self.phase,
                round=self.round,
                data_json=data_json,
            )

    def seed(self, *parts: str | int) -> int:
        """Return a 31-bit seed that depends on the recipe's seed, the round, the phase and `parts` only."""
        return seed_of(self.recipe.seed, self.round, self.phase, *parts)

    def rng(self, *parts: str | int) -> np.random.Generator:
        """Return a generator seeded with `seed(*parts)`: a repeated batch draws the same."""
        return np.random.default_rng(self.seed(*parts))

    def batches(self, items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
        """Yield `items` in batches of `size` times `scale`, in order."""
        yield from pieces(items, max(1, int(size * self.scale)))

    def write_batches(self, rows: Sequence[T], write: Callable[[Connection, Sequence[T]], object]) -> None:
        """Write rows in batches, each in its own transaction."""
        for batch in self.batches(rows, WRITTEN):
            with self.store.write() as db:
                write(db, batch)

    def folder(self, model: models.Model) -> Path:
        """Return a model's folder."""
        return self.workspace / model.path

    def base(self) -> str:
        """Return the base for a backend: the workspace's tiny guard, the recipe's folder, or owner/name@commit.

        Before phase prepare has pinned it, a hub's model is named without its commit.
        """
        name = self.recipe.guard.base
        if name == "tiny":
            return str(self.workspace / "models" / "base")
        if self._revision is None:
            with self.store.read() as db:
                self._revision = run_base.revision(db)
        return name if self._revision is None else f"{model_folder.name_of(name)}@{self._revision}"

    @property
    def backend(self) -> Backend:
        """The backend that runs models. Raises BackendError if the recipe's is not available."""
        if self.given is None:
            guard, train = self.recipe.guard, self.recipe.train
            processes = 1 if train.launch == "one" else train.processes
            self.given = choose_backend(guard.backend, guard.device, processes, sharded=train.sharding == "fsdp")
        return self.given

    @property
    def declared(self) -> Declaration:
        """The tasks and label words of the recipe."""
        return Declaration.of(self.recipe.tasks)

    @property
    def quantise(self) -> bool:
        """Whether the base is quantized to 4 bits."""
        return self.recipe.guard.quantise == "4bit"

    def adapter(self, model: models.Model) -> Path | None:
        """Return the model's adapter folder; None for the base, and for a member with a model of its own."""
        other = Otherwise.of(model.meta_json)
        return None if model.role == "base" or (other is not None and other.base) else self.folder(model)

    @property
    def renderer(self) -> Renderer:
        """The run's renderer, as phase prepare kept it.

        Raises errors.NotFound before prepare has read its instruction, OtherRendering if its hash is another now.
        """
        if self._renderer is None:
            record = self.first_record()
            self._renderer = kept_rendering.renderer_from(self.recipe.guard, self.base(), record, self.declared)
            if kept_rendering.is_former(record):
                self._keep_former(str(record["rendering"]), self._renderer)
        return self._renderer

    @property
    def asking(self) -> Recipe:
        """The recipe as teachers are asked by it: policies and categories are those that phase prepare kept."""
        record = self.first_record()
        return shown_policies.asking(kept_rendering.asking(self.recipe, record), record)

    def check_rendering(self) -> None:
        """Compare the rendering with its stored hash, if the run is prepared. Raises OtherRendering."""
        if "rendering" in self.first_record():
            self.renderer  # noqa: B018

    def _keep_former(self, known: str, renderer: Renderer) -> None:
        """Keep the rendering of a run that an earlier version prepared, and tell whether it is the same."""
        with self.store.write() as db:
            steps.merge_record(db, 0, kept_rendering.record_of(renderer))
        if renderer.hash != known:
            self.say(
                "The chat template gives other text than when this run was prepared (it may print the date): the run "
                f"keeps today's from here on (sha256 {known[:12]} then, {renderer.hash[:12]} now).",
                "warn",
            )

    def judge(self, model: models.Model) -> Judge:
        """Load a model as a judge, with its own calibration and the run's renderer and limits, or a member's own.

        Raises ModelMissing, BadArtifact.
        """
        calibration = Calibration.from_json(model.calibration_json, self.declared)
        judge = Judge(self.guard(model), self.renderer, calibration, self.limits(model), self.reader(model))
        if calibration.reads_linear:
            judge = replace(judge, linear=self.linear(model))
        other = Otherwise.of(model.meta_json)
        return judge if other is None else other.judge(judge)

    def linear_folder(self, model: models.Model) -> Path:
        """Return the folder of the linear head that belongs to a model."""
        return self.workspace / "models" / f"{model.name}-linear"

    def linear(self, model: models.Model) -> Linear:
        """Return the linear head of a model, which reads the base's states. Raises BadArtifact."""
        head, depth = linear_way.load(self.linear_folder(model), self.declared)
        with self.store.read() as db:
            base = models.by_name(db, "base")
        assert base is not None
        tokens = self.recipe.guard.max_prompt_tokens
        return Linear(head, depth, partial(self.guard, base), self.renderer, tokens)

    def reader(self, model: models.Model) -> Reader:
        """Return how a model's traces are read: tolerantly only for the base, which was never trained here."""
        return TOLERANT if model.role == "base" else STRICT

    def limits(self, model: models.Model) -> Limits:
        """Return the recipe's limits, with the DeepConf window for the traces that the model was trained on."""
        return Limits.of(self.recipe, json.loads(model.meta_json).get("window"))

    def guard(self, model: models.Model) -> Guard:
        """Return a loaded model, checking its files against their manifest before loading.

        Raises ModelMissing, BadArtifact.
        """
        found = self._loaded.pop(model.name, None)
        if found is None:
            self._make_room()
            found = self._load(model)
        self._loaded[model.name] = found
        return found

    def _make_room(self) -> None:
        while len(self._loaded) >= (LOADED if devices.room_for_another() else 1):
            del self._loaded[next(iter(self._loaded))]
            # A model in a reference cycle would stay on the GPU next to the new one.
            gc.collect()

    def check(self, model: models.Model) -> None:
        """Check a model's files against their manifest, and that the base is still the run's.

        Raises ModelMissing, BadArtifact.
        """
        from wizloop.backends import artifacts

        adapter = self.adapter(model)
        if self.recipe.guard.base == "tiny":
            artifacts.verify(Path(self.base()))
        else:
            with self.store.read() as db:
                run_base.refuse_another(db, self.base(), model_folder.find(self.base()))
        if adapter is not None:
            artifacts.verify(adapter)

    def _load(self, model: models.Model) -> Guard:
        self.wait(f"loading {model.name}")
        self.check(model)
        other = Otherwise.of(model.meta_json)
        base = self.base() if other is None or not other.base else other.base
        return load_guard(self.recipe.guard, lambda: self.backend, base, self.adapter(model))

    def first_record(self) -> Mapping[str, Any]:
        """Return the record of round 0, empty before it begins."""
        with self.store.read() as db:
            first = steps.get_round(db, 0)
        return {} if first is None else first.record


class Standalone(Context):
    """A context outside a night: it stores no progress and is never interrupted."""

    def progress(self, done: int, total: int, waiting: str = "") -> None:
        """Do nothing."""

    def _keep_former(self, known: str, renderer: Renderer) -> None:
        """Do nothing: the next start keeps it."""


def standalone(store: Store, workspace: Path, recipe: Recipe, phase: str, now: datetime) -> Standalone:
    """Build the context of a command that uses a run's models; its seeds depend on `phase`."""
    return Standalone(store, workspace, recipe, 0, phase, lambda: now, lambda: False)


def declared_of(db: Connection) -> Declaration:
    """Return the tasks and label words of the workspace's run, or the default before there is one."""
    return DEFAULT if control.get_run(db) is None else Declaration.of(recipe_of(db).tasks)


def recipe_of(db: Connection) -> Recipe:
    """Return the recipe of the workspace's run. Raises errors.NoRun, errors.OtherVersion."""
    run = control.get_run(db)
    if run is None:
        raise errors.NoRun
    try:
        return stored(run.recipe_json)
    except RecipeError as error:
        raise errors.OtherVersion(str(error)) from None
