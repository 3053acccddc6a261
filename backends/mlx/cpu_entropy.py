"""Cross-entropy on MLX, most of a training step's cost where the vocabulary is large compared with the model.

Implemented twice: on a CPU MLX computes exponentials one number at a time, and NumPy, which reads the same memory, is
several times as fast. A test compares the two.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from numpy.typing import NDArray

from wizloop.backends.mlx.load import on_cpu

# Rows at a time, so that what is between two NumPy passes stays in the processor's cache.
_ROWS = 16


def entropies(logits: mx.array, targets: mx.array) -> mx.array:
    """Return the float32 cross-entropy [...] of `targets` [...] under `logits` [..., vocabulary].

    It can be differentiated by the logits.
    """
    logits = logits.astype(mx.float32)
    return by_numpy(logits, targets) if on_cpu() else nn.losses.cross_entropy(logits, targets)


@contextmanager
def steps() -> Iterator[None]:
    """Run training steps uncompiled on a CPU, because a compiled step cannot call NumPy."""
    if not on_cpu():
        yield
        return
    mx.disable_compile()
    try:
        yield
    finally:
        mx.enable_compile()


def by_numpy(logits: mx.array, targets: mx.array) -> mx.array:
    """Compute `entropies` of float32 logits with NumPy."""
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
    """Return (softmax - one at the target) * cotangent."""
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
