"""Loads a model for MLX: a local folder or a hub name, an adapter over it, in the number format that the device is fast
in.

The one home of `mlx_lm.load`. It refuses code that comes with a model, and pickles are never read: mlx-lm reads
safetensors only.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wizloop.backends import model_folder
from wizloop.backends.guard_types import BadArtifact, LoraShape
from wizloop.backends.mlx import blas
from wizloop.backends.mlx import cpu_kernels as mlx_on_cpu
from wizloop.backends.mlx import layouts as mlx_layouts

# Must come before mlx.core: see blas.
BLAS = blas.preload()

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_unflatten
from mlx_lm.tuner.utils import linear_to_lora_layers, load_adapters
from mlx_lm.utils import load_model, load_tokenizer, quantize_model


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model in memory. `hidden(tokens, cache)` gives [rows, length, width], `head(hidden)` the logits."""

    model: Any
    tokenizer: Any
    config: dict[str, Any]
    hidden: Callable[..., mx.array]
    head: Callable[[mx.array], mx.array]


def on_cpu() -> bool:
    return bool(mx.default_device().type == mx.DeviceType.cpu)


def use_cpu() -> None:
    """Compute on the CPU in this process, where a GPU is."""
    mx.set_default_device(mx.cpu)


def load(base: str, adapter: Path | None, *, quantise: bool, fuse: bool) -> Loaded:
    """The model at `base` with `adapter` over it, merged into its weights where `fuse` is set and the base is not
    quantised.

    On a CPU it computes in float32, the only format with a fast product there. Raises ModelMissing, BadArtifact.
    """
    folder = model_folder.find(base)
    if on_cpu():
        mlx_on_cpu.keep_memory()
    try:
        model, config = load_model(folder)
    except (ValueError, FileNotFoundError, RuntimeError, KeyError) as error:
        raise BadArtifact(f"{base}: cannot be loaded as a model: {error}") from error
    if on_cpu() and "quantization" not in config:
        model.set_dtype(mx.float32)
    if quantise and "quantization" not in config:
        model, config = quantize_model(model, config, group_size=64, bits=4)
    if adapter is not None:
        _add_adapter(model, adapter)
        if fuse and "quantization" not in config:
            merge_adapter(model)
    model.eval()
    mx.eval(model.parameters())
    tokenizer = load_tokenizer(folder, {}, eos_token_ids=config.get("eos_token_id"))
    hidden, head = split(model)
    return Loaded(model, tokenizer, config, hidden, head)


def merge_adapter(model: Any) -> None:
    """Add the adapters' product to the weights and drop the adapter layers; quantised layers are dequantised first."""
    merged = [(name, layer.fuse(dequantize=True)) for name, layer in model.named_modules() if hasattr(layer, "fuse")]
    if merged:
        model.update_modules(tree_unflatten(merged))


def add_new_adapter(model: Any, lora: LoraShape) -> dict[str, Any]:
    """Freeze the model and put fresh LoRA layers on the linear layers of its blocks; the adapter_config.json that says
    so.
    """
    model.freeze()
    layers = len(model.layers) if lora.layers < 0 else min(lora.layers, len(model.layers))
    parameters = {"rank": lora.rank, "scale": lora.scale, "dropout": lora.dropout}
    linear_to_lora_layers(model, layers, parameters)
    return {"fine_tune_type": "lora", "num_layers": layers, "lora_parameters": parameters}


def load_adapter_weights(model: Any, adapter: Path) -> None:
    """Put the weights in `adapter`, in either layout, into a model that has LoRA layers already. Raises BadArtifact
    when they do not fit exactly.
    """
    weights = mlx_layouts.weights(adapter)
    present = dict(tree_flatten(model.trainable_parameters()))
    if {name: value.shape for name, value in weights.items()} != {name: value.shape for name, value in present.items()}:
        raise BadArtifact(
            f"{adapter}: its adapter has another shape than [train] asks for (rank, layers, or another base)"
        )
    model.update(tree_unflatten(list(weights.items())))


def split(model: Any) -> tuple[Callable[..., mx.array], Callable[[mx.array], mx.array]]:
    """The model as (hidden states, output head), so that logits are computed only where they are read.

    Models that scale or cap their logits after the head do not come apart this way: a probe finds them, and then
    `hidden` gives the logits themselves and `head` changes nothing.
    """
    inner = getattr(model, "model", None)
    embedding = getattr(inner, "embed_tokens", None)
    head = getattr(model, "lm_head", None) or getattr(embedding, "as_linear", None)
    if inner is not None and head is not None:
        probe = mx.array([[1, 2, 3]])
        try:
            apart = head(inner(probe))
        except (TypeError, AttributeError, ValueError):
            return model, _unchanged
        if bool(mx.allclose(apart, model(probe), atol=1e-4).item()):
            return inner, head
    return model, _unchanged


def _unchanged(logits: mx.array) -> mx.array:
    return logits


def _add_adapter(model: Any, adapter: Path) -> None:
    try:
        if mlx_layouts.is_peft(adapter):
            _add_peft(model, adapter)
        else:
            load_adapters(model, str(adapter))
    except (ValueError, FileNotFoundError, RuntimeError, KeyError) as error:
        raise BadArtifact(f"{adapter}: cannot be loaded as an adapter: {error}") from error
    if not all(bool(mx.isfinite(weight).all().item()) for weight in _adapter_weights(model)):
        raise BadArtifact(f"{adapter}: holds a weight that is not a finite number; remove the folder and start again")


def _add_peft(model: Any, adapter: Path) -> None:
    config, weights = mlx_layouts.read(adapter)
    linear_to_lora_layers(model, config["num_layers"], config["lora_parameters"])
    there = {name for name, _ in tree_flatten(model.parameters()) if name.endswith((".lora_a", ".lora_b"))}
    if there != set(weights):
        raise BadArtifact(f"{adapter}: its weights do not fit this base; it belongs to another model")
    model.load_weights(list(weights.items()), strict=False)


def _adapter_weights(model: Any) -> list[mx.array]:
    return [
        layer[name]
        for _, layer in model.named_modules()
        for name in ("lora_a", "lora_b")
        if isinstance(layer, nn.Module) and name in layer
    ]


def device_name() -> str:
    """The device as `wizloop doctor` names it."""
    if on_cpu():
        return f"CPU ({sys.platform}, {BLAS.name})"
    return str(mx.device_info().get("device_name", "GPU"))
