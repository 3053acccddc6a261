"""LoRA adapters on torch, in PEFT's layout: adapter_model.safetensors and adapter_config.json.

PEFT makes and reads the layers. Written here rather than by its save_pretrained: that one adds a card, asks the hub
about the base, and keeps the path of the base, which is nobody's business who gets the adapter.
"""

import json
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file, save_file

from wizloop.backends.guard_types import BadArtifact, LoraShape

ADAPTER = "adapter_model.safetensors"
CONFIG = "adapter_config.json"


def add_new_adapter(model: Any, lora: LoraShape, *, seed: int) -> Any:
    """`model` frozen, with fresh LoRA layers, drawn from the seed, on the linear layers of its last blocks."""
    blocks = model.get_decoder().layers
    count = len(blocks) if lora.layers < 0 else min(lora.layers, len(blocks))
    linear = {name.rsplit(".", 1)[-1] for name, layer in blocks.named_modules() if isinstance(layer, torch.nn.Linear)}
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.rank,
        lora_alpha=lora.rank * lora.scale,
        lora_dropout=lora.dropout,
        target_modules=sorted(linear),
        layers_to_transform=None if count == len(blocks) else list(range(len(blocks) - count, len(blocks))),
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return get_peft_model(model, config)


def weights(model: Any) -> dict[str, Any]:
    """The adapter's tensors by the names that PEFT's files have."""
    # Its own alone are handed over: PEFT would put a divided base together, for which all processes would have to ask.
    own = {name: each for name, each in model.named_parameters() if ".lora_" in name}
    state: dict[str, Any] = get_peft_model_state_dict(model, state_dict=own, save_embedding_layers=False)
    return state


def write(to: Path, model: Any) -> None:
    """The adapter as PEFT reads it, into the folder `to`."""
    save(to, model.peft_config["default"], weights(model))


def save(to: Path, config: LoraConfig, tensors: dict[str, Any]) -> None:
    """Like write, of tensors by the names that PEFT's files have."""
    save_file({name: each.detach().contiguous().cpu() for name, each in tensors.items()}, to / ADAPTER)
    said = config.to_dict() | {"base_model_name_or_path": None, "inference_mode": True}
    text = json.dumps(said, indent=2, sort_keys=True, default=sorted)
    (to / CONFIG).write_text(text, encoding="utf-8")


def read(folder: Path, model: Any) -> None:
    """Put the weights in `folder` into a model that has LoRA layers already. Raises BadArtifact when they do not fit
    exactly.
    """
    put(load_file(folder / ADAPTER), model, folder)


def put(tensors: dict[str, Any], model: Any, where: Path) -> None:
    """Like read, of tensors in memory; `where` is named when they do not fit."""
    shapes = {name: tuple(each.shape) for name, each in tensors.items()}
    if shapes != {name: tuple(each.shape) for name, each in weights(model).items()}:
        raise BadArtifact(
            f"{where}: its adapter has another shape than [train] asks for (rank, layers, or another base)"
        )
    set_peft_model_state_dict(model, tensors)
