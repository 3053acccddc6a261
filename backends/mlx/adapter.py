"""LoRA and DoRA adapters on MLX: create, and read and write in mlx-lm's layout or in PEFT's. Blocks trained whole, too.

mlx-lm keeps lora_a [inputs, rank] and lora_b [rank, outputs] and multiplies by `scale`; PEFT keeps their transposes and
multiplies by alpha over rank. DoRA's magnitudes are `m` in the one and `lora_magnitude_vector` in the other.

Method full has the same files as mlx-lm's: adapters.safetensors holds the changed weights themselves, in float32.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_unflatten
from mlx_lm.models.switch_layers import QuantizedSwitchLinear, SwitchLinear
from mlx_lm.tuner.utils import linear_to_lora_layers, load_adapters

from wizloop.backends.adapted_layers import is_adapted
from wizloop.backends.guard_types import BadArtifact, LoraShape
from wizloop.backends.model_folder import (
    ADAPTER_CONFIG,
    MLX_ADAPTER,
    NO_MAGNITUDE,
    NOT_WHOLE,
    PEFT_ADAPTER,
    of_other_library,
)

_OURS = re.compile(r"(.+\.layers\.(\d+)\.(?:.+\.)?([^.]+))\.(?:lora_([ab])|m)")
_NAME = re.compile(r"base_model\.model\.(.+\.layers\.(\d+))\.(.+)\.(?:lora_([AB])\.weight|lora_magnitude_vector)")
_LINEAR = (nn.Linear, nn.QuantizedLinear)
_EXPERTS = (SwitchLinear, QuantizedSwitchLinear)
# PEFT's settings that mlx-lm lacks, each with the value that has no effect.
_ONLY_PEFT: dict[str, Any] = {"rank_pattern": {}, "alpha_pattern": {}, "bias": "none", "modules_to_save": None}


def add_new_adapter(model: Any, lora: LoraShape) -> dict[str, Any]:
    """Freeze the model and add fresh LoRA layers to its blocks' linear layers. Return the adapter_config.json.

    Method full adds none and unfreezes the blocks. See adapted_layers for the layers that get none. Raises BadArtifact
    where the method cannot train the base.
    """
    model.freeze()
    layers = len(model.layers) if lora.layers < 0 else min(lora.layers, len(model.layers))
    if lora.method == "full":
        _unfreeze(model, layers)
        return {"fine_tune_type": "full", "num_layers": layers}
    parameters: dict[str, Any] = {"rank": lora.rank, "scale": lora.scale, "dropout": lora.dropout}
    if keys := _keys(model):
        parameters["keys"] = keys
    linear_to_lora_layers(model, layers, parameters, use_dora=lora.method == "dora")
    if lora.method == "dora" and not all(
        bool(each.all()) for name, each in trainable(model).items() if name.endswith(".m")
    ):
        raise BadArtifact(NO_MAGNITUDE)
    return {"fine_tune_type": lora.method, "num_layers": layers, "lora_parameters": parameters}


def _unfreeze(model: Any, layers: int) -> None:
    """Make all weights of the last blocks trainable. Raises BadArtifact."""
    kinds = (nn.QuantizedLinear, nn.QuantizedEmbedding, *_EXPERTS)
    if any(isinstance(layer, kinds) for _, layer in model.named_modules()):
        raise BadArtifact(NOT_WHOLE)
    # In 16 bits most of a step would be rounded away.
    model.set_dtype(mx.float32)
    for block in model.layers[len(model.layers) - layers :]:
        block.unfreeze()


def _keys(model: Any) -> list[str]:
    """Return the names in a block of the layers that get an adapter, or nothing where all linear layers do."""
    mixture = any(isinstance(layer, _EXPERTS) for _, layer in model.named_modules())
    names = {name for block in model.layers for name, layer in block.named_modules() if isinstance(layer, _LINEAR)}
    family = getattr(model, "model_type", "")
    adapted = {name for name in names if is_adapted(name, family, mixture=mixture)}
    return sorted(adapted) if mixture or adapted != names else []


def add_adapter(model: Any, folder: Path) -> None:
    """Add the adapter in `folder` to a model for inference.

    Raises BadArtifact when it does not fit or holds a weight that is not a finite number.
    """
    config, weights = read(folder)
    if not all(bool(mx.isfinite(weight).all().item()) for weight in weights.values()):
        raise BadArtifact(f"{folder}: holds a weight that is not a finite number; remove the folder and start again")
    if is_full(config):
        change(model, folder)
        return
    try:
        if not _is_peft(folder):
            load_adapters(model, str(folder))
            return
        dora = config["fine_tune_type"] == "dora"
        linear_to_lora_layers(model, config["num_layers"], config["lora_parameters"], use_dora=dora)
    except (ValueError, FileNotFoundError, RuntimeError, KeyError) as error:
        raise BadArtifact(f"{folder}: cannot be loaded as an adapter: {error}") from error
    ends = (".lora_a", ".lora_b", *([".m"] if dora else []))
    expected = {name for name, _ in tree_flatten(model.parameters()) if name.endswith(ends)}
    if expected != set(weights):
        raise BadArtifact(f"{folder}: its weights do not fit this base; it belongs to another model")
    model.load_weights(list(weights.items()), strict=False)


def is_full(config: Mapping[str, Any]) -> bool:
    """Return whether an adapter_config.json describes changed weights, and no adapter."""
    return config.get("fine_tune_type") == "full"


def change(model: Any, folder: Path) -> dict[str, mx.array]:
    """Put the changed weights in `folder` into a model, in its number format; return those that were there, by name.

    Raises BadArtifact.
    """
    weights, known = read(folder)[1], dict(tree_flatten(model.parameters()))
    if any(name not in known or known[name].shape != weight.shape for name, weight in weights.items()):
        raise BadArtifact(f"{folder}: its weights do not fit this base; it belongs to another model")
    model.update(tree_unflatten([(name, each.astype(known[name].dtype)) for name, each in weights.items()]))
    return {name: known[name] for name in weights}


def merge_adapter(model: Any) -> None:
    """Add the LoRA products to the weights and drop the LoRA layers. Quantized layers are dequantized first."""
    merged = [(name, layer.fuse(dequantize=True)) for name, layer in model.named_modules() if hasattr(layer, "fuse")]
    if merged:
        model.update_modules(tree_unflatten(merged))


def trainable(model: Any) -> dict[str, mx.array]:
    """Return the weights that training changes, by name."""
    return dict(tree_flatten(model.trainable_parameters()))


def write(folder: Path, config: dict[str, Any], weights: dict[str, mx.array]) -> None:
    """Write adapters.safetensors and adapter_config.json as mlx-lm reads them."""
    mx.save_safetensors(str(folder / MLX_ADAPTER), weights)
    (folder / ADAPTER_CONFIG).write_text(json.dumps(config, indent=2), encoding="utf-8")


def write_peft(folder: Path, config: dict[str, Any], weights: dict[str, mx.array]) -> None:
    """Write an adapter of mlx-lm's layout as PEFT reads it. Raises BadArtifact for weights that PEFT has no name for.

    PEFT itself needs torch, which an MLX installation does not have.
    """
    renamed, layers, modules = dict[str, mx.array](), set[int](), set[str]()
    for name, weight in weights.items():
        parts = _OURS.fullmatch(name)
        if parts is None or weight.ndim > 2:
            raise BadArtifact(f"{name} has no name in PEFT's layout: export adapter-mlx, or safetensors")
        module, number, layer, side = parts.groups()
        layers.add(int(number))
        modules.add(layer)
        kind = f"lora_{side.upper()}.weight" if side else "lora_magnitude_vector"
        renamed[f"base_model.model.{module}.{kind}"] = mx.contiguous(weight.T)
    shape = config["lora_parameters"]
    mx.save_safetensors(str(folder / PEFT_ADAPTER), renamed, metadata={"format": "pt"})
    fields = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": shape["rank"],
        "lora_alpha": shape["rank"] * shape["scale"],
        "lora_dropout": 0.0,
        "use_dora": config["fine_tune_type"] == "dora",
        "bias": "none",
        "target_modules": sorted(modules),
        "layers_to_transform": sorted(layers),
        "inference_mode": True,
        "base_model_name_or_path": None,
    }
    (folder / ADAPTER_CONFIG).write_text(json.dumps(fields, indent=2, sort_keys=True), encoding="utf-8")


def read(folder: Path) -> tuple[dict[str, Any], dict[str, mx.array]]:
    """Read an adapter in either layout as (configuration, weights) in mlx-lm's. Raises BadArtifact."""
    try:
        config: dict[str, Any] = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
        if is_full(config) and _is_peft(folder):
            raise BadArtifact(f"{folder}: {of_other_library('torch', 'cuda')}")
        return _from_peft(folder, config) if _is_peft(folder) else (config, _tensors(folder / MLX_ADAPTER))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise BadArtifact(f"{folder}: cannot be loaded as an adapter: {type(error).__name__}: {error}") from error


def load_weights(model: Any, folder: Path) -> None:
    """Load an adapter's weights, in either layout, into a model that already has LoRA layers.

    A checkpoint in mlx-lm's layout needs no configuration. Raises BadArtifact when names or shapes differ.
    """
    weights = read(folder)[1] if _is_peft(folder) else _tensors(folder / MLX_ADAPTER)
    expected = {name: value.shape for name, value in trainable(model).items()}
    if {name: value.shape for name, value in weights.items()} != expected:
        raise BadArtifact(
            f"{folder}: its adapter has another shape than [train] asks for (rank, layers, or another base)"
        )
    model.update(tree_unflatten(list(weights.items())))


def _is_peft(folder: Path) -> bool:
    return (folder / PEFT_ADAPTER).is_file()


def _tensors(file: Path) -> dict[str, mx.array]:
    tensors: Any = mx.load(str(file))
    return dict(tensors)


def _from_peft(folder: Path, config: dict[str, Any]) -> tuple[dict[str, Any], dict[str, mx.array]]:
    if config["peft_type"] != "LORA":
        raise BadArtifact(f"{folder}: is a {config['peft_type']} adapter; wizloop reads only LoRA")
    unknown = [key for key, default in _ONLY_PEFT.items() if (config.get(key) or default) != default]
    if unknown:
        raise BadArtifact(f'{folder}: mlx-lm has no {", ".join(unknown)} in its adapters: set guard.backend to "cuda"')
    blocks, layers, renamed = set(), set(), {}
    for name, weight in _tensors(folder / PEFT_ADAPTER).items():
        parts = _NAME.fullmatch(name)
        if parts is None:
            raise BadArtifact(f"{folder}: {name} is in no block, and MLX keeps adapters only in blocks")
        block, number, layer, side = parts.groups()
        blocks.add(number)
        layers.add(layer)
        renamed[f"{block}.{layer}.{f'lora_{side.lower()}' if side else 'm'}"] = weight.T
    rank = config["r"]
    scale = config["lora_alpha"] / (rank**0.5 if config.get("use_rslora") else rank)
    shape = {"rank": rank, "scale": scale, "dropout": 0.0, "keys": sorted(layers)}
    kind = "dora" if config.get("use_dora") else "lora"
    return {"fine_tune_type": kind, "num_layers": len(blocks), "lora_parameters": shape}, renamed
