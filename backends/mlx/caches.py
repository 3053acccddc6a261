"""Key-value caches of a single pass, after which nothing is decoded.

mlx-lm's own cache reserves 256 tokens and copies itself three times to do so: a quarter of a forward pass on a CPU.
"""

from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import BatchKVCache, create_attention_mask


class PrefillCache:
    """The keys and values [rows, heads, length, head size] of one pass, gradients included.

    With `window`, each token attends to that many, itself included.
    """

    offset = 0
    keys: Any = None
    values: Any = None

    def __init__(self, window: int | None = None) -> None:
        self.window = window

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Store the keys and values of the pass."""
        self.keys, self.values = keys, values
        return keys, values

    def make_mask(self, length: int, **options: Any) -> Any:
        """Return the attention mask that mlx-lm's models ask a cache for."""
        window = options.get("window_size") or _reached(self.window, self.offset + length)
        return create_attention_mask(length, self.offset, options.get("return_array", False), window)


class SuffixCache(PrefillCache):
    """A pass of `rows` rows that follow one row's prefix, whose keys and values it keeps in front."""

    def __init__(self, prefix: PrefillCache, rows: int) -> None:
        self.keys, self.values = (
            mx.broadcast_to(each, (rows, *each.shape[1:])) for each in (prefix.keys, prefix.values)
        )
        super().__init__(prefix.window)
        self.offset = prefix.keys.shape[2]

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Append the keys and values of the pass to the prefix's."""
        return super().update_and_fetch(
            mx.concatenate([self.keys, keys], axis=2), mx.concatenate([self.values, values], axis=2)
        )


class BatchCache(BatchKVCache):
    """mlx-lm's cache of rows padded on the left, for attention whose masks it does not know."""

    def __init__(self, left_padding: list[int], window: int | None, *, grouped: bool) -> None:
        super().__init__(left_padding)
        self.window, self.grouped = window, grouped

    def make_mask(self, length: int, return_array: bool = False, **options: Any) -> Any:
        """Return mlx-lm's mask, within the window; `grouped` adds the axis of heads that share keys, as in gemma2."""
        options["window_size"] = options.get("window_size") or _reached(self.window, self._idx + length)
        mask = super().make_mask(length, return_array, **options)
        return mask[:, :, None] if self.grouped else mask


def _reached(window: int | None, length: int) -> int | None:
    """Return the window if a text of this length is longer: a mask that says "causal" is faster."""
    return window if window and length > window else None
