"""Export a guard: its adapter in PEFT's layout or mlx-lm's, merged weights in the Hugging Face layout, or MLX's bits.

Each function fills an existing empty folder. The caller makes it whole or missing (artifacts.writing) and checks that
the export answers like the trained guard.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten
from mlx_lm.utils import dequantize_model, make_shards, quantize_model, save_config

from wizloop.backends import base_identity, model_config, model_folder
from wizloop.backends.guard_types import BackendError
from wizloop.backends.mlx import adapter as mlx_adapter
from wizloop.backends.mlx.load import Loaded, load

# Group sizes of MLX's affine quantization, best first: a narrow guard needs a smaller one.
_GROUPS = (64, 32)


def export_adapter(base: str, adapter: Path, to: Path) -> None:
    """Write a LoRA adapter of either layout as PEFT reads it (`PeftModel.from_pretrained`), with its base's name.

    Raises BadArtifact.
    """
    mlx_adapter.write_peft(to, *mlx_adapter.read(adapter))
    base_identity.name_base(base, to)


def export_adapter_mlx(base: str, adapter: Path, to: Path) -> None:
    """Write a LoRA adapter of either layout for `mlx_lm.generate --adapter-path`, with its base's name.

    Raises BadArtifact.
    """
    mlx_adapter.write(to, *mlx_adapter.read(adapter))
    base_identity.name_base(base, to)


def export_safetensors(base: str, adapter: Path | None, to: Path) -> None:
    """Write merged weights, config, and tokenizer in the Hugging Face layout, which transformers loads.

    Weights that no adapter changes are the base's own, by its names: mlx-lm renames and stacks some as it loads.
    """
    full = adapter is not None and mlx_adapter.is_full(mlx_adapter.read(adapter)[0])
    loaded = load(base, None if full else adapter, quantise=False, fuse=False)
    adapted = {
        f"{name}.weight": layer.linear.weight for name, layer in loaded.model.named_modules() if hasattr(layer, "fuse")
    }
    if full and adapter is not None:
        adapted = mlx_adapter.change(loaded.model, adapter)
    exact = not loaded.config.get("quantization_config")
    merged = _merge(loaded)
    weights = _in_published_layout(model_folder.find(base), merged, adapted) if exact else None
    if weights is None or (adapter is not None and not adapted):
        weights = merged
    _save(weights, loaded.tokenizer, loaded.config, to)


def export_quantized(base: str, adapter: Path | None, to: Path, *, bits: int) -> None:
    """Write merged weights in 4 or 8 bits, merged first: merging into rounded weights would round the adapter away.

    Raises BackendError if a layer's width is not a multiple of an MLX group size.
    """
    loaded = load(base, adapter, quantise=False, fuse=False)
    _merge(loaded)
    widths = {layer.weight.shape[-1] for _, layer in loaded.model.named_modules() if hasattr(layer, "to_quantized")}
    group = next((size for size in _GROUPS if all(width % size == 0 for width in widths)), None)
    if group is None:
        raise BackendError(
            f"{base}: cannot be quantized: its layers are {sorted(widths)} wide, and MLX's groups are of 32 or 64"
        )
    model, config = quantize_model(loaded.model, loaded.config, group_size=group, bits=bits)
    _save(dict(tree_flatten(model.parameters())), loaded.tokenizer, config, to)


def _merge(loaded: Loaded) -> dict[str, mx.array]:
    """Merge the adapter into weights that are not quantized, or no longer; return all weights by mlx-lm's names."""
    mlx_adapter.merge_adapter(loaded.model)
    if "quantization" in loaded.config:
        dequantize_model(loaded.model)
        for key in ("quantization", "quantization_config"):
            loaded.config.pop(key, None)
    return dict(tree_flatten(loaded.model.parameters()))


def _in_published_layout(
    folder: Path, merged: dict[str, mx.array], adapted: Mapping[str, mx.array]
) -> dict[str, mx.array] | None:
    """Return a folder's weights with those of adapted layers replaced.

    `adapted` are the layers' weights before the merge. None where one is not there as it is: mlx-lm has renamed it, or
    multiplied it as it loaded (Falcon H1).
    """
    published: dict[str, mx.array] = {}
    for file in sorted(folder.glob("model*.safetensors")):
        published |= mx.load(str(file))  # type: ignore[arg-type]
    names = {name: _published_name(name, weight, published) for name, weight in adapted.items()}
    if None in names.values():
        return None
    dtype = _dtype(merged)
    plain = {
        name: each.astype(dtype) if mx.issubdtype(each.dtype, mx.floating) else each for name, each in published.items()
    }
    return plain | {str(there): merged[name] for name, there in names.items()}


def _published_name(name: str, weight: mx.array, published: Mapping[str, mx.array]) -> str | None:
    """Return the name of an equal weight in a published folder; mlx-lm puts some text models into another."""
    inner = name.removeprefix("language_model.")
    for there in (name, inner, inner.replace("model.", "model.language_model.", 1)):
        other = published.get(there)
        if other is not None and other.shape == weight.shape and mx.array_equal(other.astype(weight.dtype), weight):
            return there
    return None


def _dtype(weights: dict[str, mx.array]) -> mx.Dtype:
    return next(each.dtype for each in weights.values() if mx.issubdtype(each.dtype, mx.floating))


def _save(weights: dict[str, mx.array], tokenizer: Any, config: dict[str, Any], to: Path) -> None:
    """Write weights, tokenizer, and a config that says their number format, and that transformers reads alike."""
    dtype = str(_dtype(weights)).rpartition(".")[2]
    shards = make_shards(weights)
    names = ["model.safetensors"]
    if len(shards) > 1:
        names = [f"model-{i:05d}-of-{len(shards):05d}.safetensors" for i in range(1, len(shards) + 1)]
    for name, shard in zip(names, shards, strict=True):
        mx.save_safetensors(str(to / name), shard, metadata={"format": "mlx" if "quantization" in config else "pt"})
    if len(shards) > 1:
        places = {key: name for name, shard in zip(names, shards, strict=True) for key in sorted(shard)}
        text = json.dumps({"metadata": {}, "weight_map": places}, indent=2)
        (to / "model.safetensors.index.json").write_text(text, encoding="utf-8")
    save_config(model_config.with_dtype(config, dtype), to / "config.json", keep_vision_config=True)
    tokenizer.save_pretrained(to)
