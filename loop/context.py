"""What a phase is given: the store, the recipe, the clock, randomness, models, and the way to be interrupted.

It knows no phase and decides nothing of the run.
"""

import gc
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from wizloop.backends import devices
from wizloop.loop.guard import instructing
from wizloop.loop.guard.backend import Backend, Guard, chosen
from wizloop.loop.guard.judge import Judge, Limits, load_guard, renderer_of
from wizloop.loop.guard.rendering import Renderer
from wizloop.loop.interrupted import Interrupted
from wizloop.loop.measures.calibration import Calibration
from wizloop.recipes.schema import Recipe, RecipeError, stored
from wizloop.store import control, errors, events, models, steps
from wizloop.store.db import Connection, Store

T = TypeVar("T")

EVERY_SECONDS = 1.0
"""How often progress is written and the person's wish is read, at most."""
LOADED = 2
"""How many guards are kept in memory, where a card has room for them."""


def seed_of(*parts: str | int) -> int:
    """31 bits that follow from `parts` and from nothing else."""
    return int.from_bytes(hashlib.sha256(json.dumps(parts).encode()).digest()[:4], "big") >> 1


@dataclass
class Context:
    """One phase of one round, at work in one process."""

    store: Store
    workspace: Path
    recipe: Recipe
    round: int
    phase: str
    now: Callable[[], datetime]
    stop_asked: Callable[[], bool]
    """Whether a signal to end has arrived."""
    scale: float = 1.0
    """What batch sizes are multiplied by; halved after an out-of-memory death."""
    given: Backend | None = None
    """What runs models; None: what the recipe's [guard] comes to on this machine, chosen when it is first needed."""
    _loaded: dict[str, Guard] = field(default_factory=dict, repr=False)
    _renderer: Renderer | None = field(default=None, repr=False)
    _told_at: datetime | None = field(default=None, repr=False)

    def between_pieces(self, done: int, total: int, waiting: str = "") -> None:
        """Note how far the phase is and what it waits for, and end it here if that is wanted. Raises Interrupted."""
        if self.stop_asked():
            raise Interrupted("signal")
        now = self.now()
        due = self._told_at is None or abs((now - self._told_at).total_seconds()) >= EVERY_SECONDS
        if not due and done < total:
            return
        self._told_at = now
        with self.store.write() as db:
            steps.progress(db, self.round, self.phase, done, total, waiting)
            run = control.get_run(db)
        if run is not None and run.wanted == "pause":
            raise Interrupted("pause")
        if run is not None and run.wanted == "stop_now":
            raise Interrupted("stop")

    def say(self, message: str, level: str = "info", data: Mapping[str, Any] | None = None) -> None:
        """Write an event for the morning's reader."""
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
        """31 bits that follow from the recipe's seed, the round, the phase and `parts`, and from nothing else."""
        return seed_of(self.recipe.seed, self.round, self.phase, *parts)

    def rng(self, *parts: str | int) -> np.random.Generator:
        """A generator from `seed(*parts)`: a piece that is done again draws the same."""
        return np.random.default_rng(self.seed(*parts))

    def size(self, wanted: int) -> int:
        """A batch size, smaller after an out-of-memory death."""
        return max(1, int(wanted * self.scale))

    def pieces(self, items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
        """`items` in runs of `size` (scaled), in order."""
        step = self.size(size)
        for start in range(0, len(items), step):
            yield items[start : start + step]

    def folder(self, model: models.Model) -> Path:
        """Where a model lies."""
        return self.workspace / model.path

    def base(self) -> str:
        """The base as a backend takes it: the recipe's hub name or folder, or this workspace's tiny guard."""
        name = self.recipe.guard.base
        return str(self.workspace / "models" / "base") if name == "tiny" else name

    @property
    def backend(self) -> Backend:
        """What runs models. Raises BackendError where the recipe asks for one that is not there."""
        if self.given is None:
            guard, train = self.recipe.guard, self.recipe.train
            processes = 1 if train.launch == "one" else train.processes
            self.given = chosen(guard.backend, guard.device, processes, sharded=train.sharding == "fsdp")
        return self.given

    @property
    def quantise(self) -> bool:
        """Whether the base is held in 4 bits."""
        return self.recipe.guard.quantise == "4bit"

    def adapter(self, model: models.Model) -> Path | None:
        """The model's folder over the base; None for the base itself."""
        return None if model.role == "base" else self.folder(model)

    @property
    def renderer(self) -> Renderer:
        """The run's one renderer. Raises errors.NotFound where its instruction was not read yet."""
        if self._renderer is None:
            self._renderer = renderer_of(self.recipe.guard, self.base(), self._instruction())
        return self._renderer

    def judge(self, model: models.Model) -> Judge:
        """Load a model as a judge: with the run's renderer and limits, and the calibration of its own.

        Raises ModelMissing, BadArtifact.
        """
        calibration = Calibration.from_json(model.calibration_json)
        return Judge(self.guard(model), self.renderer, calibration, self.limits(model))

    def limits(self, model: models.Model) -> Limits:
        """The recipe's limits, with DeepConf's window by the length of the traces that the model learned to write."""
        return Limits.of(self.recipe, json.loads(model.meta_json).get("window"))

    def guard(self, model: models.Model) -> Guard:
        """Load a model, or give the loaded one; its files are checked against their manifest first.

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
            # A model that is part of a cycle would stay on the card beside the next.
            gc.collect()

    def check(self, model: models.Model) -> None:
        """Compare a model's files with their manifest. Raises ModelMissing, BadArtifact."""
        from wizloop.backends import artifacts

        adapter = self.adapter(model)
        if self.recipe.guard.base == "tiny":
            artifacts.verify(Path(self.base()))
        if adapter is not None:
            artifacts.verify(adapter)

    def _load(self, model: models.Model) -> Guard:
        self.check(model)
        adapter = self.adapter(model)
        return load_guard(self.recipe.guard, lambda: self.backend, self.base(), adapter)

    def _instruction(self) -> str:
        """The shipped instruction, or the text that the phase prepare read: a file that changes later changes no run.

        Raises errors.NotFound before it was read.
        """
        setting = self.recipe.guard.instruction
        known = instructing.shipped(setting)
        if known is not None:
            return known
        with self.store.read() as db:
            first = steps.get_round(db, 0)
        text = None if first is None else first.record.get("instruction")
        if text is None:
            raise errors.NotFound(f"{setting}: the phase prepare reads it, and is not done yet")
        return str(text)


class Standalone(Context):
    """A context outside of a night: no progress is written, and nobody interrupts."""

    def between_pieces(self, done: int, total: int, waiting: str = "") -> None:
        """Do nothing."""


def standalone(store: Store, workspace: Path, recipe: Recipe, phase: str, now: datetime) -> Standalone:
    """Build the context of a command that uses a run's models; its seeds follow from `phase`."""
    return Standalone(store, workspace, recipe, 0, phase, lambda: now, lambda: False)


def recipe_of(db: Connection) -> Recipe:
    """Return the recipe of the workspace's run. Raises errors.NoRun, errors.OtherVersion."""
    run = control.get_run(db)
    if run is None:
        raise errors.NoRun
    try:
        return stored(run.recipe_json)
    except RecipeError as error:
        raise errors.OtherVersion(str(error)) from None
