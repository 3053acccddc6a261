"""Reads an adapter folder for MLX, in mlx-lm's layout or in PEFT's. It writes none, and puts nothing over a model.

One layout holds the transposes of the other under other names: see torch_layouts, which reads both for torch.
"""

import json
import re
from pathlib import Path
from typing import Any

from wizloop.backends.guard_types import BadArtifact

_CONFIG = "adapter_config.json"
_PEFT, _MLX = "adapter_model.safetensors", "adapters.safetensors"
_NAME = re.compile(r"base_model\.model\.(.+\.layers\.(\d+))\.(.+)\.lora_([AB])\.weight")
# What PEFT can say of a LoRA and mlx-lm cannot, with the value that says nothing.
_MORE = {"use_dora": False, "rank_pattern": {}, "alpha_pattern": {}, "bias": "none", "modules_to_save": None}


def is_peft(folder: Path) -> bool:
    """Whether an adapter is in PEFT's layout."""
    return (folder / _PEFT).is_file()


def read(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """(configuration, weights) of an adapter in either layout, as mlx-lm has them. Raises BadArtifact."""
    try:
        said: dict[str, Any] = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
        return _of_peft(folder, said) if is_peft(folder) else (said, _tensors(folder / _MLX))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise BadArtifact(f"{folder}: cannot be loaded as an adapter: {type(error).__name__}: {error}") from error


def weights(folder: Path) -> dict[str, Any]:
    """The weights alone, for which a checkpoint of mlx-lm's layout needs no configuration. Raises BadArtifact."""
    return read(folder)[1] if is_peft(folder) else _tensors(folder / _MLX)


def _tensors(file: Path) -> dict[str, Any]:
    import mlx.core as mx

    found: Any = mx.load(str(file))
    return dict(found)


def _of_peft(folder: Path, said: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    if said["peft_type"] != "LORA":
        raise BadArtifact(f"{folder}: is a {said['peft_type']} adapter; wizloop reads LoRA alone")
    more = [key for key, plain in _MORE.items() if (said.get(key) or plain) != plain]
    if more:
        raise BadArtifact(f'{folder}: mlx-lm has no {", ".join(more)} in its adapters: set guard.backend to "cuda"')
    blocks, layers, renamed = set(), set(), {}
    for name, each in _tensors(folder / _PEFT).items():
        found = _NAME.fullmatch(name)
        if found is None:
            raise BadArtifact(f"{folder}: {name} is in no block, and MLX keeps adapters in blocks alone")
        block, number, layer, side = found.groups()
        blocks.add(number)
        layers.add(layer)
        renamed[f"{block}.{layer}.lora_{side.lower()}"] = each.T
    rank = said["r"]
    scale = said["lora_alpha"] / (rank**0.5 if said.get("use_rslora") else rank)
    shape = {"rank": rank, "scale": scale, "dropout": 0.0, "keys": sorted(layers)}
    return {"fine_tune_type": "lora", "num_layers": len(blocks), "lora_parameters": shape}, renamed
