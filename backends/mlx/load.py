"""Load a model for MLX: a local folder or a hub name, with an adapter, in the number format that the device is fast in.

The only caller of mlx-lm's loader. Code that comes with a model is refused, and pickles are never read: mlx-lm reads
safetensors only.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx_lm.utils import dequantize_model, load_model, load_tokenizer, quantize_model

from wizloop.backends import artifacts, model_config, model_folder, unreadable
from wizloop.backends.guard_types import NOT_FINITE, BadArtifact
from wizloop.backends.mlx import config as mlx_config
from wizloop.backends.mlx import cpu_kernels, layouts
from wizloop.backends.mlx.adapter import add_adapter, merge_adapter

_PROBE = (1, 2, 3)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model in memory. `hidden(tokens, cache)` returns [rows, length, width], `head(hidden)` the logits."""

    model: Any
    tokenizer: Any
    config: dict[str, Any]
    hidden: Callable[..., mx.array]
    head: Callable[[mx.array], mx.array]


def on_cpu() -> bool:
    """Return whether MLX computes on the CPU."""
    return bool(mx.default_device().type == mx.DeviceType.cpu)


def use_cpu() -> None:
    """Compute on the CPU in this process, even where there is a GPU."""
    mx.set_default_device(mx.cpu)


def load(base: str, adapter: Path | None, *, quantise: bool, fuse: bool) -> Loaded:
    """Load the model `base` with `adapter`, merged into the weights if `fuse` is set and the base is not quantized.

    On a CPU it computes in float32, the only format with a fast product there; weights that a file holds rounded are
    the same numbers then, and are only kept rounded under an adapter, for the memory. A folder with a manifest is
    checked against it. Raises ModelMissing, BadArtifact.
    """
    folder = model_folder.find(base)
    artifacts.verify_listed(folder, adapter)
    if on_cpu():
        cpu_kernels.keep_memory()
    with unreadable.reading(f"{base}: cannot be loaded as a model"):
        return _loaded(base, folder, adapter, quantise=quantise, fuse=fuse)


def _loaded(base: str, folder: Path, adapter: Path | None, *, quantise: bool, fuse: bool) -> Loaded:
    written = mlx_config.read(folder)
    model, config = load_model(
        folder, model_config=model_config.for_short_texts(written), get_model_classes=layouts.classes
    )
    config |= {key: written[key] for key in ("rope_scaling",) if key in written}
    if on_cpu() and adapter is None and not quantise and "quantization" in config:
        dequantize_model(model)
        config = {key: value for key, value in config.items() if not key.startswith("quantization")}
    if on_cpu() and "quantization" not in config:
        model.set_dtype(mx.float32)
    if quantise and "quantization" not in config:
        model, config = quantize_model(model, config, group_size=64, bits=4)
    if adapter is not None:
        add_adapter(model, adapter)
        if fuse and "quantization" not in config:
            merge_adapter(model)
    model.eval()
    mx.eval(model.parameters())
    if not bool(mx.isfinite(model(mx.array([_PROBE]))).all().item()):
        raise BadArtifact(f"{base}: {NOT_FINITE}")
    with unreadable.reading(f"{folder}: its tokenizer cannot be loaded from tokenizer.json"):
        ends = config.get("eos_token_id")
        tokenizer = load_tokenizer(folder, {"trust_remote_code": False}, eos_token_ids=ends)
    return Loaded(model, tokenizer, config, *split(model))


def split(model: Any) -> tuple[Callable[..., mx.array], Callable[[mx.array], mx.array]]:
    """Split a model into (hidden states, output head), so that logits are computed only where they are read.

    A model that scales or caps its logits after the head cannot be split this way. A probe finds it; then `hidden`
    returns the logits themselves and `head` changes nothing.
    """
    inner = getattr(model, "model", None)
    embedding = getattr(inner, "embed_tokens", None)
    head = getattr(model, "lm_head", None) or getattr(embedding, "as_linear", None)
    if inner is not None and head is not None:
        probe = mx.array([_PROBE])
        try:
            logits = head(inner(probe))
        except (TypeError, AttributeError, ValueError):
            return model, _unchanged
        if bool(mx.allclose(logits, model(probe), atol=1e-4).item()):
            return inner, head
    return model, _unchanged


def _unchanged(logits: mx.array) -> mx.array:
    return logits
