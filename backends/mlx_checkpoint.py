"""Checkpoints of a training in progress: adapter, optimiser, step and the rate's halvings, each in a folder that is
whole or not there.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from wizloop.backends import artifacts, mlx_load
from wizloop.backends.guard_types import BadArtifact

# After wizloop's own, which readies the BLAS.
import mlx.core as mx
from mlx.utils import tree_flatten, tree_unflatten

ADAPTER = "adapters.safetensors"
CONFIG = "adapter_config.json"


def trainable(model: Any) -> dict[str, mx.array]:
    """The weights that training changes, by name."""
    return dict(tree_flatten(model.trainable_parameters()))


def write_adapter(to: Path, model: Any, config: dict[str, Any]) -> None:
    """adapters.safetensors and adapter_config.json, as mlx-lm reads them."""
    mx.save_safetensors(str(to / ADAPTER), trainable(model))
    (to / CONFIG).write_text(json.dumps(config, indent=2), encoding="utf-8")


class Checkpoints:
    """The checkpoints of one training. `fingerprint` names its data and settings: a checkpoint of another one is not
    used.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self._folder, self._fingerprint = folder, fingerprint
        folder.mkdir(parents=True, exist_ok=True)
        artifacts.sweep(folder)
        for stale in folder.iterdir():
            if stale.is_dir() and not self._is_ours(stale):
                shutil.rmtree(stale)

    def halvings(self) -> int:
        last = self._last()
        return int(artifacts.about(last)["halvings"]) if last else 0

    def restore(self, model: Any, optimiser: Any, first: dict[str, mx.array]) -> int:
        """Put the last checkpoint, or else the weights `first`, into model and optimiser; steps that are done."""
        last = self._last()
        if last is None:
            model.update(tree_unflatten(list(first.items())))
            return 0
        mlx_load.load_adapter_weights(model, last)
        saved: Any = mx.load(str(last / "optimizer.safetensors"))
        # The rate is computed from the step, so that a halved one holds after going back.
        saved.pop("learning_rate", None)
        optimiser.state = {**optimiser.state, **tree_unflatten(list(saved.items()))}
        return int(artifacts.about(last)["step"])

    def save(self, model: Any, optimiser: Any, step: int, halvings: int) -> None:
        final = self._folder / f"step-{step:07d}"
        if final.exists():
            return
        older = [path for path in self._folder.glob("step-*") if path != final]
        with artifacts.writing(final, {"step": step, "halvings": halvings, "fingerprint": self._fingerprint}) as folder:
            mx.save_safetensors(str(folder / ADAPTER), trainable(model))
            mx.save_safetensors(str(folder / "optimizer.safetensors"), dict(tree_flatten(optimiser.state)))
        for path in older:
            shutil.rmtree(path)

    def scratch(self) -> Path:
        """Where mlx-lm's loop may leave its own copy of the adapter."""
        return self._folder / "unused.safetensors"

    def remove(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def _last(self) -> Path | None:
        return max(self._folder.glob("step-*"), default=None)

    def _is_ours(self, folder: Path) -> bool:
        try:
            artifacts.verify(folder)
        except BadArtifact:
            return False
        return bool(artifacts.about(folder)["fingerprint"] == self._fingerprint)
