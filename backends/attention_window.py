"""The sliding window that a model's config.json asks for, and in which layers. Loads no model library."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# Families whose every layer has the window, if there is one (transformers' masks for them).
_EVERYWHERE = frozenset({"mistral", "mixtral", "phi3", "phimoe", "qwen3_moe", "starcoder2"})
# Families that have a window only where `use_sliding_window` says so.
_SWITCHED = frozenset({"qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "smollm3"})
# transformers' default where mistral's config names none.
_MISTRAL = 4096


@dataclass(frozen=True, slots=True)
class Window:
    """Each token attends to `size` tokens, itself included: in all layers, or in some."""

    size: int
    everywhere: bool


def window_of(config: Mapping[str, Any]) -> Window | None:
    """Return the window of a model by its config.json, or None if it attends to the whole text."""
    text: Mapping[str, Any] = config.get("text_config") or config
    family = text.get("model_type", config.get("model_type"))
    size = text.get("sliding_window", _MISTRAL if family == "mistral" else None)
    kinds = text.get("layer_types")
    if not size or (family in _SWITCHED and not text.get("use_sliding_window", False)):
        return None
    if kinds is not None and "sliding_attention" not in kinds:
        return None
    return Window(int(size), family in _EVERYWHERE or (kinds is not None and set(kinds) == {"sliding_attention"}))
