"""Faster inference on a CPU: attention and SwiGLU by NumPy, and freed memory that the process keeps.

On a CPU MLX computes exponentials one number at a time; NumPy, which reads the same memory, is several times as fast. A
test compares the results with MLX's own. Training uses MLX's own: these would keep every intermediate array alive.
"""

import ctypes
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import mlx.core as mx
import numpy as np
from mlx_lm.models import activations
from numpy.typing import NDArray

# Numbers at a time, so that what is between two NumPy passes stays in the processor's cache.
_AT_ONCE = 16_384

# Options of glibc's malloc.h, and the free memory that a process keeps, in bytes.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _KEPT = -1, -3, 1 << 30

_fast: Any = mx.fast
_their_attention = mx.fast.scaled_dot_product_attention


def keep_memory() -> None:
    """Make glibc keep up to 1 GB of freed memory, which it otherwise returns to the system after every large array.

    Getting the same pages again took a fifth of a training step. Does nothing with another C library.
    """
    if sys.platform == "linux" and hasattr(process := ctypes.CDLL(None), "mallopt"):
        for threshold in (_MMAP_THRESHOLD, _TRIM_THRESHOLD):
            process.mallopt(threshold, _KEPT)


def faster(model: Any, forward: Callable[..., mx.array]) -> Callable[..., mx.array]:
    """Wrap `forward`, a call of `model` or of a part of it, to use these functions in place of mlx-lm's.

    The result can be neither differentiated nor compiled, because NumPy supports neither.
    """
    homes = {sys.modules[type(each).__module__] for each in model.modules()}
    gated = [home for home in homes if getattr(home, "swiglu", None) is activations.swiglu]

    def run(*args: Any, **options: Any) -> mx.array:
        with _replaced(gated):
            return forward(*args, **options)

    return run


@contextmanager
def _replaced(gated: list[Any]) -> Iterator[None]:
    # mlx-lm's models look both up at call time. Nothing else may see them replaced.
    _fast.scaled_dot_product_attention = attention
    for home in gated:
        home.swiglu = swiglu
    try:
        yield
    finally:
        _fast.scaled_dot_product_attention = _their_attention
        for home in gated:
            home.swiglu = activations.swiglu


def attention(
    queries: mx.array, keys: mx.array, values: mx.array, *, scale: float, mask: Any = None, **options: Any
) -> mx.array:
    """Compute mx.fast.scaled_dot_product_attention; MLX's own for other types than float32 or other options."""
    if queries.dtype != mx.float32 or any(given is not None for given in options.values()):
        return _their_attention(queries, keys, values, scale=scale, mask=mask, **options)
    rows, heads, asked, size = queries.shape
    known = keys.shape[2]
    # Heads that share keys follow one another in the products.
    scores = (queries * scale).reshape(rows, keys.shape[1], -1, size) @ keys.swapaxes(-1, -2)
    shares = softmax(_masked(scores.reshape(rows, heads, asked, known), mask))
    return (shares.reshape(rows, keys.shape[1], -1, known) @ values).reshape(rows, heads, asked, -1)


def _masked(scores: mx.array, mask: Any) -> mx.array:
    """Mask `scores` [rows, heads, queries, keys]."""
    if mask is None:
        return scores
    if isinstance(mask, str):
        asked, known = scores.shape[-2:]
        mask = mx.array(np.tri(asked, known, known - asked, dtype=bool))
    return mx.where(mask, scores, mx.finfo(mx.float32).min) if mask.dtype == mx.bool_ else scores + mask


def softmax(scores: mx.array) -> mx.array:
    """Compute the float32 softmax over the last axis, in place where `scores` is contiguous."""
    result = mx.contiguous(scores)
    values = np.asarray(result).reshape(-1, result.shape[-1])
    for some in _slices(len(values), values.shape[1]):
        each = values[some]
        each -= each.max(axis=-1, keepdims=True)
        np.exp(each, out=each)
        each /= each.sum(axis=-1, keepdims=True)
    return result


def swiglu(gate: mx.array, x: mx.array) -> mx.array:
    """Compute silu(gate) * x; MLX's own for other types than float32."""
    if not gate.dtype == x.dtype == mx.float32:
        return cast(mx.array, activations.swiglu(gate, x))
    gates, values = np.asarray(gate).reshape(-1), np.asarray(x).reshape(-1)
    result = np.empty_like(gates)
    for some in _slices(len(gates)):
        each = _sigmoid(gates[some], result[some])
        each *= gates[some]
        each *= values[some]
    return mx.array(result.reshape(gate.shape))


def _sigmoid(values: NDArray[np.float32], room: NDArray[np.float32]) -> NDArray[np.float32]:
    np.negative(values, out=room)
    # Far below zero this is infinite, and its inverse is the right zero.
    with np.errstate(over="ignore"):
        np.exp(room, out=room)
    room += 1
    return np.reciprocal(room, out=room)


def _slices(count: int, width: int = 1) -> Iterator[slice]:
    step = max(1, _AT_ONCE // width)
    return (slice(at, at + step) for at in range(0, count, step))
