"""Export a guard with torch: its adapter, merged weights in the Hugging Face layout, or these in bitsandbytes' 4 bits.

Each function fills an existing empty folder. The caller makes it whole or missing (artifacts.writing) and checks that
the export answers like the trained guard.
"""

import importlib.util
import shutil
from pathlib import Path
from typing import Any

from wizloop.backends import base_identity, devices
from wizloop.backends.guard_types import BackendError
from wizloop.backends.torch import adapter as torch_adapter
from wizloop.backends.torch.load import load, quantized


def export_adapter(base: str, adapter: Path, to: Path) -> None:
    """Write a LoRA adapter of either layout as PEFT reads it (`PeftModel.from_pretrained`), with its base's name.

    Raises BadArtifact.
    """
    config, tensors = torch_adapter.read(adapter)
    if config is None:
        raise BackendError(f"{adapter}: holds the weights of whole blocks, no adapter: export safetensors")
    torch_adapter.write(to, config, tensors)
    base_identity.name_base(base, to)


def export_safetensors(base: str, adapter: Path | None, to: Path) -> None:
    """Write merged weights, config, and tokenizer, which transformers and mlx-lm load."""
    _save(*_merged(base, adapter), to)


def export_nf4(base: str, adapter: Path | None, to: Path) -> None:
    """Write merged weights in bitsandbytes' 4-bit NF4, merged first: merging into 4 bits would round the adapter away.

    Raises BackendError without bitsandbytes.
    """
    if importlib.util.find_spec("bitsandbytes") is None:
        raise BackendError(
            "the format nf4 needs bitsandbytes (pip install 'wizloop[cuda]', on Linux); export safetensors instead"
        )
    whole = to / "whole"
    whole.mkdir()
    try:
        export_safetensors(base, adapter, whole)
        device, _ = devices.choose_device("auto")
        loaded = load(str(whole), None, quantise=True, device=device)
    finally:
        shutil.rmtree(whole)
    _save(loaded.model, loaded.tokenizer, to)


def _merged(base: str, adapter: Path | None) -> tuple[Any, Any]:
    """Return the base with the adapter merged into its weights, never quantized, and the tokenizer."""
    loaded = load(base, None, quantise=False, device="cpu")
    if quantized(loaded.model):
        raise BackendError(f"{base}: is quantized, and merging would round the adapter away: export only the adapter")
    if adapter is None:
        return loaded.model, loaded.tokenizer
    return torch_adapter.merged(torch_adapter.add_adapter(loaded.model, adapter)), loaded.tokenizer


def _save(model: Any, tokenizer: Any, to: Path) -> None:
    """Write weights, tokenizer, and a config that mlx-lm reads alike."""
    # Late import: only an export needs mlx-lm beside torch.
    from wizloop.backends.mlx import config as mlx_config

    model.save_pretrained(to)
    tokenizer.save_pretrained(to)
    mlx_config.rewrite(to)
