"""Which caches a model on MLX needs: those of plain attention, which are fast, or mlx-lm's own.

Plain are models whose every layer keeps the keys and values of the whole text. mlx-lm's code for them attends to all of
it; where the model was trained with a window in every layer, the masks of caches.py hold it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlx_lm.models.cache import ArraysCache, BatchKVCache, CacheList, KVCache, RotatingKVCache, make_prompt_cache

from wizloop.backends.attention_window import window_of
from wizloop.backends.guard_types import BackendError
from wizloop.backends.mlx.caches import BatchCache, PrefillCache

_MERGED = (KVCache, RotatingKVCache, ArraysCache)


@dataclass(frozen=True, slots=True)
class Kind:
    """A model's caches: `plain` or not, how many, the window of plain attention, and whether any keeps a state."""

    plain: bool
    layers: int
    states: bool = False
    window: int | None = None
    grouped: bool = False
    """The model's masks need an axis for the heads that share keys."""

    def empty(self) -> list[PrefillCache]:
        """Return the caches of one pass of plain attention."""
        return [PrefillCache(self.window) for _ in range(self.layers)]

    def batch(self, left_padding: list[int]) -> BatchKVCache:
        """Return a cache of rows that are decoded together and attend to the whole text."""
        if self.window is None and not self.grouped:
            return BatchKVCache(left_padding)
        return BatchCache(left_padding, self.window, grouped=self.grouped)


def kind_of(model: Any, config: Mapping[str, Any]) -> Kind:
    """Return the kind of a model. Raises BackendError where one of its caches cannot be merged into a batch."""
    caches = make_prompt_cache(model)
    other = next((type(cache).__name__ for cache in _flat(caches) if type(cache) not in _MERGED), None)
    if other is not None:
        raise BackendError(
            f"a model of type {config.get('model_type')} keeps a {other}, which mlx-lm cannot batch: use another "
            'model, or set guard.backend to "cuda"'
        )
    if any(type(cache) is not KVCache for cache in caches):
        return Kind(False, len(caches), any(type(cache) is ArraysCache for cache in _flat(caches)))
    window = window_of(config)
    everywhere = window.size if window and window.everywhere else None
    return Kind(True, len(caches), window=everywhere, grouped=_grouped(config))


def _grouped(config: Mapping[str, Any]) -> bool:
    """Return whether mlx-lm computes the scores itself, by groups of heads, and adds the mask to these."""
    heads, shared = config.get("num_attention_heads"), config.get("num_key_value_heads")
    return config.get("model_type") == "gemma2" and heads != shared


def _flat(caches: Sequence[Any]) -> Iterator[Any]:
    for cache in caches:
        yield from cache.caches if type(cache) is CacheList else (cache,)
