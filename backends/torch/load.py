"""Loads a model for torch: a local folder or a hub name, an adapter over it, on the CPU or on a CUDA card.

The one home of transformers' from_pretrained. It refuses code that comes with a model, and reads safetensors only.
"""

import importlib.util
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
from transformers.distributed import DistributedConfig
from transformers.utils import logging

from wizloop.backends import artifacts, devices, model_folder
from wizloop.backends.guard_types import BackendError, BadArtifact, ModelMissing
from wizloop.backends.torch.layouts import add_adapter

_PROBE = (1, 2, 3)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model in memory.

    `hidden(input_ids=..., ...)` returns transformers' output with `last_hidden_state`, `head(states)` the logits.
    """

    model: Any
    tokenizer: Any
    config: dict[str, Any]
    hidden: Callable[..., Any]
    head: Callable[[torch.Tensor], torch.Tensor]
    ends: frozenset[int]
    """Token ids that end a text."""
    device: str
    cache_argument: str
    """Name of the argument of `hidden` that takes the cache: see cache_argument."""


def choose_device(wanted: str) -> tuple[str, str]:
    """(device, why) for "auto", "cpu" or "cuda". Raises BackendError where "cuda" is wanted and no card can be used."""
    there = torch.cuda.is_available()
    if wanted == "cuda" and not there:
        found = "this torch was built without CUDA" if torch.version.cuda is None else "torch sees no CUDA card"
        raise BackendError(f'guard.device is "cuda", and {found}: check the driver, or use "auto" or "cpu"')
    if there and wanted != "cpu":
        return "cuda", f"torch sees {torch.cuda.get_device_name(0)}"
    return "cpu", "guard.device asks for the CPU" if wanted == "cpu" else "torch sees no CUDA card"


def load(base: str, adapter: Path | None, *, quantise: bool, device: str, fuse: bool = True, shares: int = 1) -> Loaded:
    """The model at `base` with `adapter` over it, merged into its weights where `fuse` is set and these are not
    quantised, or merging would round it away.

    On a CPU it computes in float32, on a card in the file's format. A folder with a manifest is checked against it.
    With `shares`, each of so many processes reads and holds a share of the weights (FSDP2), which are put together
    layer by layer in every pass; all of them must make it. Raises ModelMissing, BadArtifact, and BackendError where
    4 bits are wanted and bitsandbytes is not there.
    """
    folder = model_folder.find(base)
    for each in (folder, adapter):
        if each is not None and (each / artifacts.MANIFEST).is_file():
            artifacts.verify(each)
    config = model_folder.config_of(folder)
    _refuse_foreign(base, folder, config)
    model = _model(base, folder, device, quantise=quantise, shares=shares)
    # Only adapters learn. Before the first pass: a divided base would take weights that are frozen later for trained.
    model.requires_grad_(False)
    if adapter is not None:
        exact = not quantised(model)
        model = add_adapter(model, adapter)
        if fuse and exact:
            model = model.merge_and_unload()
    model.eval()
    hidden, head = split(model)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    return Loaded(model, tokenizer, config, hidden, head, _ends(model), device, cache_argument(hidden))


def cache_argument(hidden: Any) -> str:
    """Return the name of the cache's argument: transformers 5.24 renamed `past_key_values`, model by model."""
    return "cache" if "cache" in inspect.signature(hidden.forward).parameters else "past_key_values"


def quantised(model: Any) -> bool:
    """Whether the weights of a transformers model are held in fewer bits."""
    return getattr(model, "hf_quantizer", None) is not None


def split(model: Any) -> tuple[Callable[..., Any], Callable[[torch.Tensor], torch.Tensor]]:
    """The model as (hidden states, output head), so that logits are computed only where they are read.

    Raises BackendError where a probe finds that the two together are not the model.
    """
    whole = model.get_base_model() if hasattr(model, "get_base_model") else model
    hidden, head = whole.base_model, _head(whole)
    probe = torch.tensor([_PROBE], device=whole.device)
    # Not inference_mode, whose tensors a divided model would keep and could not learn with.
    with torch.no_grad():
        expected = whole(input_ids=probe, use_cache=False).logits
        apart = head(hidden(input_ids=probe, use_cache=False).last_hidden_state)
    if not torch.allclose(apart.float(), expected.float(), atol=1e-3, rtol=1e-3):
        kind = whole.config.model_type
        raise BackendError(f'a model of type {kind} is not known to the torch backend: set guard.backend to "mlx"')
    return hidden, head


def _head(model: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    """The output head with what Gemma, Cohere and Granite do to its logits, by their configurations' names for it."""
    layer: Callable[[torch.Tensor], torch.Tensor] = model.get_output_embeddings()
    cap: float | None = getattr(model.config, "final_logit_softcapping", None)
    scale = getattr(model.config, "logit_scale", None) or 1 / (getattr(model.config, "logits_scaling", None) or 1.0)
    if cap:
        return lambda states: torch.tanh(layer(states) / cap) * cap
    return layer if scale == 1.0 else lambda states: layer(states) * scale


def _model(base: str, folder: Path, device: str, *, quantise: bool, shares: int) -> Any:
    """The weights on the device. Raises BadArtifact where a file is damaged or a weight is missing."""
    # Its bars of progress would stand between the lines of a log.
    logging.disable_progress_bar()
    # Left out and not None: None would hide what a folder that is 4-bit already says of itself.
    asked: dict[str, Any] = {"quantization_config": _four_bits(base, device)} if quantise else {}
    if shares > 1:
        asked["distributed_config"] = DistributedConfig(fsdp_size=shares)
    try:
        model, found = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=torch.float32 if device == "cpu" else "auto",
            **asked,
            device_map={"": device} if shares == 1 and (quantise or device != "cpu") else None,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        if devices.out_of_memory(error):
            raise
        raise BadArtifact(f"{base}: cannot be loaded as a model: {error}") from error
    if found["missing_keys"] or found["mismatched_keys"]:
        wrong = sorted(str(each) for each in (*found["missing_keys"], *found["mismatched_keys"]))
        raise BadArtifact(f"{base}: {len(wrong)} weights are missing or of another shape, the first is {wrong[0]}")
    return model


def _four_bits(base: str, device: str) -> BitsAndBytesConfig:
    """QLoRA's format: NF4 with quantised constants, on a card computed in bfloat16 (arXiv:2305.14314, section 3)."""
    if importlib.util.find_spec("bitsandbytes") is None:
        raise BackendError(
            f"{base}: 4 bits on torch need bitsandbytes (pip install 'wizloop[cuda]', on Linux); "
            'or set guard.quantise to "none"'
        )
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32 if device == "cpu" else torch.bfloat16,
    )


def _refuse_foreign(base: str, folder: Path, config: dict[str, Any]) -> None:
    """MLX's 4-bit weights have no meaning to torch, and a folder of pickles is not read."""
    if "quantization" in config:
        raise BadArtifact(f"{base}: holds weights quantised for MLX; name the model that it was made from")
    if not any(folder.glob("*.safetensors")):
        raise ModelMissing(f"{base}: holds no .safetensors file; weights in another format are not read")


def _ends(model: Any) -> frozenset[int]:
    """Ids that end a text, by the model's own word: Llama 3 has three."""
    named = model.config.eos_token_id
    return frozenset(named if isinstance(named, list) else [] if named is None else [named])
