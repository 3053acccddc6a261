"""Cross-entropy on MLX, which costs most of a step where the vocabulary is large beside the model.

Twice, for one reason: MLX computes exponentials on a CPU one number at a time, and NumPy, which can read the same
memory there, is several times as fast. A test holds the two to each other.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

# After wizloop's own, which readies the BLAS.
import mlx.core as mx
import mlx.nn as nn
import numpy as np
from numpy.typing import NDArray

from wizloop.backends.mlx import load as mlx_load

# Rows at a time: what is between two of NumPy's passes stays in the processor's cache.
_ROWS = 16


def entropies(logits: mx.array, targets: mx.array) -> mx.array:
    """[...]: cross-entropy in float32 of `targets` [...] under `logits` [..., vocabulary]; it can be differentiated by
    the logits.
    """
    logits = logits.astype(mx.float32)
    return on_cpu(logits, targets) if mlx_load.on_cpu() else nn.losses.cross_entropy(logits, targets)


@contextmanager
def steps() -> Iterator[None]:
    """What training steps run in: on a CPU they are not compiled, because a compiled step cannot call NumPy."""
    if not mlx_load.on_cpu():
        yield
        return
    mx.disable_compile()
    try:
        yield
    finally:
        mx.enable_compile()


def on_cpu(logits: mx.array, targets: mx.array) -> mx.array:
    """`entropies` by NumPy, of float32."""
    return cast(mx.array, _forward(logits, targets))


@mx.custom_function
def _forward(logits: mx.array, targets: mx.array) -> mx.array:
    values, total = _rows(logits), np.empty(targets.size, np.float32)
    room = np.empty((_ROWS, values.shape[1]), np.float32)
    for rows in _slices(len(values)):
        most = values[rows].max(axis=-1, keepdims=True)
        each = np.subtract(values[rows], most, out=room[: len(most)])
        total[rows] = np.log(np.exp(each, out=each).sum(axis=-1)) + most[:, 0]
    chosen = values[np.arange(len(values)), np.asarray(targets).reshape(-1)]
    return mx.array((total - chosen).reshape(targets.shape))


@_forward.vjp
def _backward(primals: tuple[mx.array, mx.array], cotangent: mx.array, _: mx.array) -> tuple[Any, Any]:
    """Softmax less one at the target, times what comes from above."""
    logits, targets = primals
    values, above = _rows(logits), np.asarray(cotangent).reshape(-1, 1)
    result = np.empty_like(values)
    for rows in _slices(len(values)):
        each = np.subtract(values[rows], values[rows].max(axis=-1, keepdims=True), out=result[rows])
        np.exp(each, out=each)
        each *= above[rows] / each.sum(axis=-1, keepdims=True)
    result[np.arange(len(values)), np.asarray(targets).reshape(-1)] -= above[:, 0]
    return mx.array(result.reshape(logits.shape)), mx.zeros_like(targets)


def _rows(logits: mx.array) -> NDArray[np.float32]:
    return np.asarray(logits).reshape(-1, logits.shape[-1])


def _slices(rows: int) -> Iterator[slice]:
    return (slice(at, at + _ROWS) for at in range(0, rows, _ROWS))
