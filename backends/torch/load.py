"""Load a model for torch: a local folder or a hub name, with an adapter, on the CPU or on a CUDA GPU.

The only caller of transformers' from_pretrained for models. Code that comes with a model is refused, and only
safetensors are read.
"""

import importlib.util
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    BitsAndBytesConfig,
)
from transformers.distributed import DistributedConfig
from transformers.utils import logging

from wizloop.backends import artifacts, model_config, model_files, model_folder, tokens, unreadable
from wizloop.backends.guard_types import NOT_FINITE, BackendError, BadArtifact, ModelMissing
from wizloop.backends.torch.adapter import add_adapter, merged

_PROBE = (1, 2, 3)
_OF_LAYER = re.compile(r"(model\.)?layers\.\d+\.")


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model in memory.

    `hidden(input_ids=..., ...)` returns transformers' output with `last_hidden_state`, `head(states)` the logits.
    """

    model: Any
    tokenizer: Any
    hidden: Callable[..., Any]
    head: Callable[[torch.Tensor], torch.Tensor]
    ends: frozenset[int]
    """Token ids that end a text."""
    device: str
    cache_argument: str
    """Name of the argument of `hidden` that takes the cache: see cache_argument."""


def load(base: str, adapter: Path | None, *, quantise: bool, device: str, fuse: bool = True, shares: int = 1) -> Loaded:
    """Load the model `base` with `adapter`, merged into the weights if `fuse` is set and these are not quantized.

    Merging into quantized weights would round the adapter away. On a CPU it computes in float32, on a GPU in the
    file's format. A folder with a manifest is checked against it. With `shares`, each of that many processes reads and
    holds a share of the weights (FSDP2), gathered layer by layer in every pass, which all processes must run. Raises
    ModelMissing, BadArtifact, and BackendError if 4 bits are wanted without bitsandbytes.
    """
    folder = model_folder.find(base)
    artifacts.verify_listed(folder, adapter)
    _refuse_foreign(base, folder)
    with unreadable.reading(f"{base}: cannot be loaded as a model"):
        return _loaded(base, folder, adapter, quantise=quantise, device=device, fuse=fuse, shares=shares)


def _loaded(
    base: str, folder: Path, adapter: Path | None, *, quantise: bool, device: str, fuse: bool, shares: int
) -> Loaded:
    _refuse_too_large(base, folder)
    model = _model(base, folder, device, quantise=quantise, shares=shares)
    # Only adapters learn. Before the first pass: a sharded base would treat weights frozen later as trained.
    model.requires_grad_(False)
    if adapter is not None:
        exact = not quantized(model)
        model = add_adapter(model, adapter)
        if fuse and exact:
            model = merged(model)
    model.eval()
    hidden, head = split(model)
    return Loaded(model, tokens.of_folder(folder), hidden, head, _ends(model), device, cache_argument(hidden))


def config_fault(folder: Path) -> str | None:
    """Return why transformers cannot build the causal language model of a folder's config.json, or None."""
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, StrictDataclassError) as error:
        return f"transformers cannot read it ({type(error).__name__}: {error})"
    if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING:
        return None
    return f"transformers has no causal language model of type {config.model_type}: use another model"


def cache_argument(hidden: Any) -> str:
    """Return the name of the cache's argument: transformers 5.24 renamed `past_key_values`, model by model."""
    return "cache" if "cache" in inspect.signature(hidden.forward).parameters else "past_key_values"


def quantized(model: Any) -> bool:
    """Return whether the weights of a transformers model are quantized."""
    return getattr(model, "hf_quantizer", None) is not None


def split(model: Any) -> tuple[Callable[..., Any], Callable[[torch.Tensor], torch.Tensor]]:
    """Split a model into (hidden states, output head), so that logits are computed only where they are read.

    Raises BadArtifact if a probe's logits are not finite, BackendError if it shows that the two are not the model.
    """
    whole = model.get_base_model() if hasattr(model, "get_base_model") else model
    hidden, head = whole.base_model, _head(whole)
    probe = torch.tensor([_PROBE], device=whole.device)
    # Not inference_mode, whose tensors a sharded model would keep and could not train with.
    with torch.no_grad():
        expected = whole(input_ids=probe, use_cache=False).logits
        if not torch.isfinite(expected).all():
            raise BadArtifact(f"{whole.name_or_path}: {NOT_FINITE}")
        apart = head(hidden(input_ids=probe, use_cache=False).last_hidden_state)
    if not torch.allclose(apart.float(), expected.float(), atol=1e-3, rtol=1e-3):
        kind = whole.config.model_type
        raise BackendError(f'a model of type {kind} is not known to the torch backend: set guard.backend to "mlx"')
    return hidden, head


def _head(model: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the output head with the cap or scale of Gemma, Cohere, Falcon H1, and Granite, as their configs say."""
    layer: Callable[[torch.Tensor], torch.Tensor] = model.get_output_embeddings()
    cap: float | None = getattr(model.config, "final_logit_softcapping", None)
    scale = getattr(model.config, "logit_scale", None) or getattr(model.config, "lm_head_multiplier", None)
    scale = scale or 1 / (getattr(model.config, "logits_scaling", None) or 1.0)
    if cap:
        return lambda states: torch.tanh(layer(states) / cap) * cap
    return layer if scale == 1.0 else lambda states: layer(states) * scale


def _model(base: str, folder: Path, device: str, *, quantise: bool, shares: int) -> Any:
    """Load the weights onto the device. Raises BadArtifact if a file is damaged or a weight is missing."""
    # Its progress bars would end up between the lines of a log.
    logging.disable_progress_bar()
    # Omitted rather than None, which would hide the quantization of a folder that is already 4-bit.
    options: dict[str, Any] = {"quantization_config": _four_bits(base, device)} if quantise else {}
    if shares > 1:
        options["distributed_config"] = DistributedConfig(fsdp_size=shares)
    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=torch.float32 if device == "cpu" else "auto",
            **options,
            device_map={"": device} if shares == 1 and (quantise or device != "cpu") else None,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise unreadable.refusal(f"{base}: cannot be loaded as a model", error) or error from error
    wrong = sorted(str(key) for key in (*report["missing_keys"], *report["mismatched_keys"]))
    if more := sorted(key for key in map(str, report["unexpected_keys"]) if _OF_LAYER.match(key)):
        raise BadArtifact(f"{base}: holds weights of more layers than the config names, the first is {more[0]}")
    if wrong:
        raise BadArtifact(f"{base}: {len(wrong)} weights are missing or of another shape, the first is {wrong[0]}")
    return model


def _four_bits(base: str, device: str) -> BitsAndBytesConfig:
    """Return QLoRA's format: NF4 with quantized constants, bfloat16 on a GPU (arXiv:2305.14314, section 3)."""
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


def _refuse_foreign(base: str, folder: Path) -> None:
    """Refuse MLX's 4-bit weights, which torch cannot read, and a folder of pickles."""
    if model_folder.is_for_mlx(str(folder)):
        raise BadArtifact(f"{base}: holds weights quantized for MLX; use the model that it was made from")
    if not any(folder.glob("*.safetensors")):
        raise ModelMissing(f"{base}: holds no .safetensors file; weights in another format are not read")


def _refuse_too_large(base: str, folder: Path) -> None:
    """Refuse a config that, with transformers' defaults, is not of these weights: all of it would be filled first."""
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    if why := model_files.too_large(config.get_text_config().to_dict(), folder):
        raise BadArtifact(f"{base}: {why}")


def _ends(model: Any) -> frozenset[int]:
    """Return the ids that end a text by the model's two configurations: Gemma names its end of turn in one only."""
    return model_config.end_tokens(model.config.to_dict(), model.generation_config.to_dict())
