"""What a transformers cache holds, as plain tensors, and caches made of it.

Keys and values are kept whole even where a layer has a window: the model's own mask leaves out what is too far back.
Rows can then join, leave, and share a prefix. A state cannot be cut: rows with states are of equal length.
"""

from collections.abc import Sequence
from typing import Any

import torch
from transformers.cache_utils import (
    DummyLayer,
    DynamicCache,
    DynamicLayer,
    DynamicSlidingWindowLayer,
    LinearAttentionAndFullAttentionLayer,
    LinearAttentionAndSlidingWindowAttentionLayer,
    LinearAttentionLayer,
)

from wizloop.backends.guard_types import BackendError

Held = list[dict[str, torch.Tensor]]
"""Each layer's tensors by name: "keys" and "values" [rows, heads, length, width], and states [rows, ...]."""

_ATTENTION = (DynamicLayer, DynamicSlidingWindowLayer)
_BOTH = (LinearAttentionAndFullAttentionLayer, LinearAttentionAndSlidingWindowAttentionLayer)
_STATES = {"conv": "conv_states", "recurrent": "recurrent_states"}


def has_states(config: Any) -> bool:
    """Return whether a layer keeps a state. Raises BackendError for a layer whose rows could not join and leave."""
    layers = DynamicCache(config=config).layers
    known = (*_ATTENTION, *_BOTH, LinearAttentionLayer, DummyLayer)
    other = next((type(layer).__name__ for layer in layers if type(layer) not in known), None)
    if other is None and not any(isinstance(layer, DynamicLayer) for layer in layers):
        other = "state in every layer"
    if other is not None:
        raise BackendError(
            f"a model of type {config.model_type} keeps a {other}, which the torch backend does not know: use a model "
            "with attention"
        )
    return any(type(layer) not in _ATTENTION for layer in layers)


def empty(config: Any, *, states: bool) -> DynamicCache:
    """Return the cache of an empty text; `states` as has_states says."""
    cache = DynamicCache()
    if states:
        cache.layers = [_without_window(layer) for layer in DynamicCache(config=config).layers]
        cache.layer_class_to_replicate = None
    return cache


def held(cache: DynamicCache) -> Held:
    """Return what a cache holds."""
    return [layer_tensors(layer) for layer in cache.layers]


def layer_tensors(layer: Any) -> dict[str, torch.Tensor]:
    """Return one layer's tensors."""
    found = {"keys": layer.keys, "values": layer.values} if isinstance(layer, DynamicLayer) else {}
    for name, states in _STATES.items():
        for at, state in getattr(layer, states, {}).items():
            if state is not None:
                found[f"{name}{at}"] = state
    return found


def of_row(layers: Held, row: int, length: int) -> Held:
    """Return one row's tensors, cut to `length` tokens to drop its padding."""
    return [
        {
            name: each[row : row + 1, :, :length] if name in ("keys", "values") else each[row : row + 1]
            for name, each in layer.items()
        }
        for layer in layers
    ]


def of_rows(layers: Held, rows: int) -> DynamicCache:
    """Repeat one row's tensors in a transformers cache. Keys and values are not copied until more is added."""
    cache = DynamicCache()
    cache.layers = [_layer(layer, rows) for layer in layers]
    return cache


def give_states(layer: Any, tensors: dict[str, torch.Tensor]) -> None:
    """Put states into a layer, which changes them in place."""
    layer.number_of_states = 1 + max(int(name[-1]) for name in tensors)
    LinearAttentionLayer.__init__(layer, layer.number_of_states)
    for name, state in tensors.items():
        kind, at = name[:-1], int(name[-1])
        getattr(layer, _STATES[kind])[at] = state
        getattr(layer, f"is_{_STATES[kind]}_initialized")[at] = layer.has_previous_state[at] = True
        if kind == "conv":
            layer.conv_kernel_size[at] = state.shape[-1]
        layer.dtype, layer.device = state.dtype, state.device


def split(tensors: dict[str, torch.Tensor]) -> tuple[Sequence[torch.Tensor], dict[str, torch.Tensor]]:
    """Return a layer's (keys, values), or nothing, and its states."""
    attention = [tensors[name] for name in ("keys", "values") if name in tensors]
    return attention, {name: each for name, each in tensors.items() if name not in ("keys", "values")}


def _layer(tensors: dict[str, torch.Tensor], rows: int) -> Any:
    attention, states = split(tensors)
    if not attention and not states:
        return DummyLayer()
    if not attention:
        layer: Any = LinearAttentionLayer()
    else:
        layer = LinearAttentionAndFullAttentionLayer() if states else DynamicLayer()
    if states:
        give_states(layer, {name: each.repeat(rows, *[1] * (each.ndim - 1)) for name, each in states.items()})
    if attention:
        DynamicLayer.lazy_initialization(layer, *attention)
        layer.keys, layer.values = (each.expand(rows, -1, -1, -1) for each in attention)
    return layer


def _without_window(layer: Any) -> Any:
    """Return a layer that keeps the whole text in place of one that forgets what is before its window."""
    if type(layer) is DynamicSlidingWindowLayer:
        return DynamicLayer()
    if type(layer) is LinearAttentionAndSlidingWindowAttentionLayer:
        return LinearAttentionAndFullAttentionLayer(layer.number_of_states)
    return layer
