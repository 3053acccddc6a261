"""The real tiny guard trained for a few steps, as a recipe in which one key differs says."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.backends.lessons import nothing
from tests.loop.small_night import recipe
from wizloop.backends.guard_types import DpoPair, OnStep, SftExample, TrainResult, no_wait
from wizloop.loop.context import Context
from wizloop.loop.guard.backend import Mlx
from wizloop.loop.phases import model_training
from wizloop.store.db import Store

SFT: Mapping[str, Any] = {
    "rank": 4,
    "dropout": 0.0,
    "word_dropout": 0.0,
    "epochs": 1,
    "least_steps": 0,
    "batch": 24,
    "lr": 1e-3,
    "verdict_weight": 1.0,
}
"""One step on all examples, with nothing left to chance."""
DPO: Mapping[str, Any] = {"epochs": 1, "batch": 24, "lr": 1e-3}


@dataclass(frozen=True)
class Learned:
    """What a training left."""

    result: TrainResult
    folder: Path

    @property
    def losses(self) -> list[float]:
        """Return the loss before each step."""
        return [loss for _, loss in self.result.losses]

    @property
    def weights(self) -> dict[str, NDArray[np.float32]]:
        """Return the adapter's weights by name."""
        from safetensors.numpy import load_file

        return dict(load_file(self.folder / "adapters.safetensors"))


@dataclass(frozen=True)
class School:
    """Trains the tiny guard on MLX by a recipe, each time into a folder of its own."""

    base: Path
    store: Store

    def context(self, train: Mapping[str, Any], dpo: Mapping[str, Any]) -> Context:
        """Return the phase train of a recipe that differs from the shared one in these keys."""
        asked = recipe(guard={"base": str(self.base)}, train={**SFT, **train}, dpo={**DPO, **dpo})
        return Context(
            self.store,
            self.store.folder,
            asked,
            0,
            "train",
            lambda: datetime(2026, 3, 1, tzinfo=UTC),
            lambda: False,
            given=Mlx(),
        )

    def sft(self, examples: Sequence[SftExample], on_step: OnStep = nothing, **changed: Any) -> Learned:
        """Train by R-SFT."""
        train = model_training.sft(self.context(changed, {}), "r00-sft", None, examples)
        return self._learned(train, on_step)

    def dpo(
        self,
        start: Path,
        pairs: Sequence[DpoPair],
        on_step: OnStep = nothing,
        train: Mapping[str, Any] | None = None,
        **changed: Any,
    ) -> Learned:
        """Train by HS-DPO, from an adapter."""
        return self._learned(model_training.dpo(self.context(train or {}, changed), "r00", start, pairs), on_step)

    def _learned(self, train: model_training.Train, on_step: OnStep) -> Learned:
        folder = self.store.folder / f"t{len(list(self.store.folder.glob('t*')))}"
        folder.mkdir()
        return Learned(train(folder, self.store.folder / "checkpoint", on_step, no_wait), folder)
