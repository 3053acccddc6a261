"""Writes a guard for others to load: its adapter, merged weights in the Hugging Face layout, or MLX 4-bit.

Each function fills an existing empty folder; the caller makes it whole or not there (artifacts.writing) and checks that
what was written answers like what was trained.
"""

import json
from pathlib import Path
from typing import Any

# After wizloop's own, which readies the BLAS.
import mlx.core as mx
from mlx.utils import tree_flatten
from mlx_lm.utils import dequantize_model, make_shards, quantize_model, save_config

from wizloop.backends import artifacts
from wizloop.backends.guard_types import BackendError
from wizloop.backends.mlx import checkpoint as mlx_checkpoint
from wizloop.backends.mlx import layouts as mlx_layouts
from wizloop.backends.mlx import load as mlx_load

# Group sizes that MLX's affine quantisation knows, best first: a narrow guard needs a smaller one.
_GROUPS = (64, 32)


def export_adapter(base: str, adapter: Path, to: Path) -> None:
    """The LoRA adapter, in either layout, as mlx-lm reads it (`mlx_lm.generate --adapter-path`), with the name of its
    base beside it. Raises BadArtifact.
    """
    config, weights = mlx_layouts.read(adapter)
    mlx_checkpoint.save_adapter(to, config, weights)
    artifacts.name_base(base, to)


def export_safetensors(base: str, adapter: Path | None, to: Path) -> None:
    """Merged weights, config and tokenizer in the Hugging Face layout, which transformers loads."""
    loaded = _merged(base, adapter)
    _save(loaded.model, loaded.tokenizer, loaded.config, to)


def export_mlx_4bit(base: str, adapter: Path | None, to: Path) -> None:
    """Merged weights, then quantised to 4 bits: merging into weights that are 4-bit already would round the adapter
    away.

    Raises BackendError when no width of the model divides into MLX's groups.
    """
    loaded = _merged(base, adapter)
    widths = {layer.weight.shape[-1] for _, layer in loaded.model.named_modules() if hasattr(layer, "to_quantized")}
    group = next((size for size in _GROUPS if all(width % size == 0 for width in widths)), None)
    if group is None:
        raise BackendError(
            f"{base}: cannot be quantised: its layers are {sorted(widths)} wide, and MLX's groups are of 32 or 64"
        )
    model, config = quantize_model(loaded.model, loaded.config, group_size=group, bits=4)
    _save(model, loaded.tokenizer, config, to)


def _merged(base: str, adapter: Path | None) -> mlx_load.Loaded:
    """The base with its adapter in its weights, never quantised."""
    loaded = mlx_load.load(base, adapter, quantise=False, fuse=False)
    mlx_load.merge_adapter(loaded.model)
    if "quantization" in loaded.config:
        dequantize_model(loaded.model)
        for key in ("quantization", "quantization_config"):
            loaded.config.pop(key, None)
    return loaded


def _save(model: Any, tokenizer: Any, config: dict[str, Any], to: Path) -> None:
    weights = dict(tree_flatten(model.parameters()))
    shards = make_shards(weights)
    names = (
        [f"model-{i:05d}-of-{len(shards):05d}.safetensors" for i in range(1, len(shards) + 1)]
        if len(shards) > 1
        else ["model.safetensors"]
    )
    for name, shard in zip(names, shards, strict=True):
        mx.save_safetensors(str(to / name), shard, metadata={"format": "mlx" if "quantization" in config else "pt"})
    if len(shards) > 1:
        index = {
            "metadata": {},
            "weight_map": {key: name for name, shard in zip(names, shards, strict=True) for key in sorted(shard)},
        }
        (to / "model.safetensors.index.json").write_text(json.dumps(index, indent=2), encoding="utf-8")
    save_config(dict(config), to / "config.json")
    tokenizer.save_pretrained(to)
