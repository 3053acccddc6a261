"""Reads an adapter folder for torch, in PEFT's layout or in mlx-lm's, and puts it over a model. It writes none.

mlx-lm keeps lora_a [inputs, rank] and lora_b [rank, outputs] and multiplies by `scale`; PEFT keeps their transposes and
multiplies by alpha over rank.
"""

import json
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file

from wizloop.backends.guard_types import BadArtifact

_CONFIG = "adapter_config.json"
_PEFT, _MLX = "adapter_model.safetensors", "adapters.safetensors"
_WITHIN = "base_model.model."


def add_adapter(model: Any, folder: Path) -> Any:
    """The PEFT model of `model` with the adapter in `folder`, for asking only. Raises BadArtifact when they do not fit,
    or when a weight is not a finite number.
    """
    config, tensors = read(folder)
    if not all(bool(torch.isfinite(each).all()) for each in tensors.values()):
        raise BadArtifact(f"{folder}: holds a weight that is not a finite number; remove the folder and start again")
    try:
        over = get_peft_model(model, config)
    except ValueError as error:
        raise BadArtifact(f"{folder}: cannot be loaded as an adapter: {error}") from error
    expected = get_peft_model_state_dict(over, save_embedding_layers=False)
    if {name: each.shape for name, each in tensors.items()} != {name: each.shape for name, each in expected.items()}:
        raise BadArtifact(f"{folder}: its weights do not fit this base; it belongs to another model")
    set_peft_model_state_dict(over, tensors)
    return over


def read(folder: Path) -> tuple[LoraConfig, dict[str, torch.Tensor]]:
    """(configuration, weights by PEFT's names) of an adapter in either layout. Raises BadArtifact."""
    try:
        said: dict[str, Any] = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
        if "peft_type" in said:
            return _peft(folder, said)
        return _mlx(folder, said)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise BadArtifact(f"{folder}: cannot be loaded as an adapter: {type(error).__name__}: {error}") from error


def _peft(folder: Path, said: dict[str, Any]) -> tuple[LoraConfig, dict[str, torch.Tensor]]:
    if said["peft_type"] != "LORA":
        raise BadArtifact(f"{folder}: is a {said['peft_type']} adapter; wizloop reads LoRA alone")
    config = LoraConfig.from_pretrained(str(folder))
    config.inference_mode = True
    return config, load_file(folder / _PEFT)


def _mlx(folder: Path, said: dict[str, Any]) -> tuple[LoraConfig, dict[str, torch.Tensor]]:
    kind = said.get("fine_tune_type", "lora")
    if kind != "lora":
        raise BadArtifact(f"{folder}: is a {kind} adapter; wizloop reads LoRA alone")
    weights = load_file(folder / _MLX)
    rank, scale = said["lora_parameters"]["rank"], said["lora_parameters"]["scale"]
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=rank,
        lora_alpha=rank * scale,
        target_modules=sorted({name.rpartition(".")[0] for name in weights}),
        inference_mode=True,
    )
    return config, {_peft_name(name): each.T.contiguous() for name, each in weights.items()}


def _peft_name(name: str) -> str:
    """`model.layers.0.mlp.up_proj.lora_a` as `base_model.model.model.layers.0.mlp.up_proj.lora_A.weight`."""
    module, _, letter = name.rpartition(".lora_")
    return f"{_WITHIN}{module}.lora_{letter.upper()}.weight"
