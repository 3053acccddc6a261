"""Writes a guard that torch trained for others to load: its adapter, merged weights in the Hugging Face layout, or
these in 4 bits for bitsandbytes.

Each function fills an existing empty folder; the caller makes it whole or not there (artifacts.writing) and checks that
what was written answers like what was trained.
"""

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

from wizloop.backends import artifacts
from wizloop.backends.guard_types import BackendError
from wizloop.backends.torch import adapter as torch_adapter
from wizloop.backends.torch import layouts as torch_layouts
from wizloop.backends.torch import load as torch_load


def export_adapter(base: str, adapter: Path, to: Path) -> None:
    """The LoRA adapter, in either layout, as PEFT reads it (`PeftModel.from_pretrained`), with the name of its base
    beside it. Raises BadArtifact.
    """
    config, weights = torch_layouts.read(adapter)
    torch_adapter.save(to, config, weights)
    artifacts.name_base(base, to)


def export_safetensors(base: str, adapter: Path | None, to: Path) -> None:
    """Merged weights, config and tokenizer, which transformers and mlx-lm load."""
    model, tokenizer = _merged(base, adapter)
    _save(model, tokenizer, to)


def export_nf4(base: str, adapter: Path | None, to: Path) -> None:
    """Merged weights, then 4-bit NF4 by bitsandbytes: merging into weights that are 4-bit already would round the
    adapter away.

    Raises BackendError where there is no bitsandbytes.
    """
    if importlib.util.find_spec("bitsandbytes") is None:
        raise BackendError(
            "the format nf4 needs bitsandbytes (pip install 'wizloop[cuda]', on Linux); export safetensors instead"
        )
    whole = to / "whole"
    whole.mkdir()
    try:
        export_safetensors(base, adapter, whole)
        device, _ = torch_load.choose_device("auto")
        loaded = torch_load.load(str(whole), None, quantise=True, device=device)
    finally:
        shutil.rmtree(whole)
    _save(loaded.model, loaded.tokenizer, to)


def _merged(base: str, adapter: Path | None) -> tuple[Any, Any]:
    """The base with its adapter in its weights, never quantised, and the tokenizer."""
    loaded = torch_load.load(base, None, quantise=False, device="cpu")
    if torch_load.quantised(loaded.model):
        raise BackendError(f"{base}: is quantised, and merging would round the adapter away: export the adapter alone")
    if adapter is None:
        return loaded.model, loaded.tokenizer
    return torch_layouts.add_adapter(loaded.model, adapter).merge_and_unload(), loaded.tokenizer


def _save(model: Any, tokenizer: Any, to: Path) -> None:
    model.save_pretrained(to)
    tokenizer.save_pretrained(to)
    path = to / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(_for_both(config), indent=2, sort_keys=True), encoding="utf-8")


def _for_both(config: dict[str, Any]) -> dict[str, Any]:
    """transformers 5 nests the rotary settings where mlx-lm's Llama does not look: it would go on with its defaults."""
    rope = dict(config.get("rope_parameters") or {})
    if "rope_theta" in rope:
        config.setdefault("rope_theta", rope.pop("rope_theta"))
    if rope.get("rope_type", "default") != "default":
        config.setdefault("rope_scaling", rope)
    return config
