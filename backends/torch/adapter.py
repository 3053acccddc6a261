"""LoRA and DoRA adapters on torch: create, read in PEFT's or mlx-lm's layout, write in PEFT's. Whole blocks, too.

mlx-lm keeps lora_a [inputs, rank] and lora_b [rank, outputs] and multiplies by `scale`; PEFT keeps their transposes and
multiplies by alpha over rank. PEFT's save_pretrained is not used: it adds a model card, asks the hub about the base,
and keeps the base's path, which is private.

Method full has a file of the same name, with the changed weights themselves in float32.
"""

import json
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

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

Tensors = dict[str, torch.Tensor]
"""An adapter's weights by the names in PEFT's files."""


def add_new_adapter(model: Any, lora: LoraShape, *, seed: int) -> Any:
    """Freeze `model` and add fresh LoRA layers, drawn from the seed, to the linear layers of its last blocks.

    Method full adds none and lets the blocks be trained. See adapted_layers for the layers that get none. Raises
    BadArtifact where the method cannot train the base.
    """
    blocks = model.get_decoder().layers
    count = len(blocks) if lora.layers < 0 else min(lora.layers, len(blocks))
    family, names = model.config.model_type, [name for name, _ in blocks.named_modules()]
    mixture = any(name.endswith((".experts", ".block_sparse_moe")) for name in names)
    if lora.method == "full":
        if mixture or getattr(model, "hf_quantizer", None) is not None:
            raise BadArtifact(NOT_WHOLE)
        # In 16 bits most of a step would be rounded away; a GPU still computes in them, by autocast.
        model.float()
        blocks[len(blocks) - count :].requires_grad_(True)
        return model
    linear = {
        name.rsplit(".", 1)[-1]
        for name, layer in blocks.named_modules()
        if isinstance(layer, torch.nn.Linear) and is_adapted(name, family, mixture=mixture)
    }
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.rank,
        lora_alpha=lora.rank * lora.scale,
        lora_dropout=lora.dropout,
        use_dora=lora.method == "dora",
        target_modules=sorted(linear),
        layers_to_transform=None if count == len(blocks) else list(range(len(blocks) - count, len(blocks))),
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = get_peft_model(model, config)
    if lora.method == "dora" and not all(
        bool(each.all()) for name, each in weights(made).items() if "magnitude" in name
    ):
        raise BadArtifact(NO_MAGNITUDE)
    return made


def add_adapter(model: Any, folder: Path) -> Any:
    """Add the adapter in `folder` to a model for inference; return the PEFT model, or the model with changed weights.

    Raises BadArtifact if it does not fit or holds a weight that is not a finite number.
    """
    config, tensors = read(folder)
    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values()):
        raise BadArtifact(f"{folder}: holds a weight that is not a finite number; remove the folder and start again")
    if config is None:
        known = dict(model.named_parameters())
        if any(name not in known or known[name].shape != each.shape for name, each in tensors.items()):
            raise BadArtifact(f"{folder}: its weights do not fit this base; it belongs to another model")
        _change(model, tensors)
        return model
    try:
        peft_model = get_peft_model(model, config)
    except ValueError as error:
        raise BadArtifact(f"{folder}: cannot be loaded as an adapter: {error}") from error
    if _shapes(tensors) != _shapes(get_peft_model_state_dict(peft_model, save_embedding_layers=False)):
        raise BadArtifact(f"{folder}: its weights do not fit this base; it belongs to another model")
    set_peft_model_state_dict(peft_model, tensors)
    return peft_model


def merged(model: Any) -> Any:
    """Return what add_adapter returned, with the adapter's products in the weights."""
    return model.merge_and_unload() if isinstance(model, PeftModel) else model


def _change(model: Any, tensors: Tensors) -> None:
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, tensor in tensors.items():
            parameters[name].copy_(tensor)


def weights(model: Any) -> Tensors:
    """Return the tensors that training changes: the adapter's, or those of the blocks."""
    if not isinstance(model, PeftModel):
        return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    # Only the LoRA layers are passed: PEFT would gather a sharded base, which needs a call in every process.
    own = {name: parameter for name, parameter in model.named_parameters() if ".lora_" in name}
    state: Tensors = get_peft_model_state_dict(model, state_dict=own, save_embedding_layers=False)
    return state


def load_weights(model: Any, tensors: Tensors, source: Path) -> None:
    """Load an adapter's tensors into a model that already has LoRA layers.

    Raises BadArtifact, which names `source`, if names or shapes differ.
    """
    if _shapes(tensors) != _shapes(weights(model)):
        raise BadArtifact(
            f"{source}: its adapter has another shape than [train] asks for (rank, layers, or another base)"
        )
    if isinstance(model, PeftModel):
        set_peft_model_state_dict(model, tensors)
    else:
        _change(model, tensors)


def write(folder: Path, config: LoraConfig, tensors: Tensors) -> None:
    """Write adapter_model.safetensors and adapter_config.json as PEFT reads them."""
    _write(folder, tensors, config.to_dict() | {"base_model_name_or_path": None, "inference_mode": True})


def _write(folder: Path, tensors: Tensors, fields: dict[str, Any]) -> None:
    save_file({name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}, folder / PEFT_ADAPTER)
    text = json.dumps(fields, indent=2, sort_keys=True, default=sorted)
    (folder / ADAPTER_CONFIG).write_text(text, encoding="utf-8")


def write_of(model: Any, folder: Path) -> None:
    """Write a model's adapter, or the weights of its blocks."""
    if isinstance(model, PeftModel):
        write(folder, model.peft_config["default"], weights(model))
    else:
        _write(folder, weights(model), {"fine_tune_type": "full"})


def read(folder: Path) -> tuple[LoraConfig | None, Tensors]:
    """Read an adapter in either layout as (configuration, weights), or changed weights without one.

    Raises BadArtifact.
    """
    try:
        fields: dict[str, Any] = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
        kind = fields.get("peft_type") or fields.get("fine_tune_type", "lora")
        if kind == "full":
            if not (folder / PEFT_ADAPTER).is_file():
                raise BadArtifact(f"{folder}: {of_other_library('MLX', 'mlx')}")
            return None, load_file(folder / PEFT_ADAPTER)
        if kind not in ("LORA", "lora", "dora"):
            raise BadArtifact(f"{folder}: is a {kind} adapter; wizloop reads only LoRA")
        return (
            _from_peft(folder)
            if "peft_type" in fields
            else _from_mlx(folder, fields["lora_parameters"], dora=kind == "dora")
        )
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise BadArtifact(f"{folder}: cannot be loaded as an adapter: {type(error).__name__}: {error}") from error


def _from_peft(folder: Path) -> tuple[LoraConfig, Tensors]:
    config = LoraConfig.from_pretrained(str(folder))
    config.inference_mode = True
    return config, load_file(folder / PEFT_ADAPTER)


def _from_mlx(folder: Path, parameters: dict[str, Any], *, dora: bool) -> tuple[LoraConfig, Tensors]:
    tensors = load_file(folder / MLX_ADAPTER)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=parameters["rank"],
        lora_alpha=parameters["rank"] * parameters["scale"],
        target_modules=sorted({name.rpartition(".")[0] for name in tensors}),
        use_dora=dora,
        inference_mode=True,
    )
    return config, {_peft_name(name): tensor.t().contiguous() for name, tensor in tensors.items()}


def _peft_name(name: str) -> str:
    """Turn `model.layers.0.mlp.up_proj.lora_a` into `base_model.model.model.layers.0.mlp.up_proj.lora_A.weight`."""
    if name.endswith(".m"):
        return f"base_model.model.{name.removesuffix('.m')}.lora_magnitude_vector"
    module, _, letter = name.rpartition(".lora_")
    return f"base_model.model.{module}.lora_{letter.upper()}.weight"


def _shapes(tensors: Tensors) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}
