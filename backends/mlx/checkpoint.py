"""What an MLX checkpoint holds: adapter and optimiser. Step and halvings are in the folder's manifest (checkpoints)."""

import json
from pathlib import Path
from typing import Any

# After wizloop's own, which readies the BLAS.
import mlx.core as mx
from mlx.utils import tree_flatten, tree_unflatten

from wizloop.backends.checkpoints import Checkpoints
from wizloop.backends.mlx import load as mlx_load

ADAPTER = "adapters.safetensors"
CONFIG = "adapter_config.json"
_OPTIMISER = "optimizer.safetensors"


def trainable(model: Any) -> dict[str, mx.array]:
    """The weights that training changes, by name."""
    return dict(tree_flatten(model.trainable_parameters()))


def write_adapter(to: Path, model: Any, config: dict[str, Any]) -> None:
    """adapters.safetensors and adapter_config.json, as mlx-lm reads them."""
    save_adapter(to, config, trainable(model))


def save_adapter(to: Path, config: dict[str, Any], weights: dict[str, mx.array]) -> None:
    """Like write_adapter, of weights by mlx-lm's names."""
    mx.save_safetensors(str(to / ADAPTER), weights)
    (to / CONFIG).write_text(json.dumps(config, indent=2), encoding="utf-8")


def write(folder: Path, model: Any, optimiser: Any) -> None:
    """A checkpoint's files."""
    mx.save_safetensors(str(folder / ADAPTER), trainable(model))
    mx.save_safetensors(str(folder / _OPTIMISER), dict(tree_flatten(optimiser.state)))


def restore(saved: Checkpoints, model: Any, optimiser: Any, first: dict[str, mx.array]) -> int:
    """Put the last checkpoint, or else the weights `first`, into model and optimiser; steps that are done."""
    last = saved.last()
    if last is None:
        model.update(tree_unflatten(list(first.items())))
        return 0
    mlx_load.load_adapter_weights(model, last)
    state: Any = mx.load(str(last / _OPTIMISER))
    # The rate is computed from the step, so that a halved one holds after going back.
    state.pop("learning_rate", None)
    optimiser.state = {**optimiser.state, **tree_unflatten(list(state.items()))}
    return saved.step()
