"""Keys and values of one pass over a model, where nothing is decoded behind them.

mlx-lm's own cache leaves room for 256 tokens to come and copies itself three times to get it: a quarter of the time
that a forward pass takes on a CPU.
"""

from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import create_attention_mask

# Readies the BLAS.


class Kept:
    """A cache that keeps the keys and values [rows, heads, length, head size] of one pass, gradients included."""

    offset = 0
    keys: Any = None
    values: Any = None

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        self.keys, self.values = keys, values
        return keys, values

    def make_mask(self, length: int, **options: Any) -> Any:
        return create_attention_mask(
            length, self.offset, options.get("return_array", False), options.get("window_size")
        )


class Behind(Kept):
    """The same, where each of `rows` rows stands behind one row's keys and values, which it keeps in front."""

    def __init__(self, prefix: Kept, rows: int) -> None:
        self.keys, self.values = (
            mx.broadcast_to(each, (rows, *each.shape[1:])) for each in (prefix.keys, prefix.values)
        )
        self.offset = prefix.keys.shape[2]

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        return super().update_and_fetch(
            mx.concatenate([self.keys, keys], axis=2), mx.concatenate([self.values, values], axis=2)
        )
