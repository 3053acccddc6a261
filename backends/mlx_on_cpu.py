"""Attention and SwiGLU on a CPU, where MLX computes exponentials one number at a time.

NumPy, which reads the same memory there, is several times as fast. A test holds results and gradients to MLX's own.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from wizloop.backends import blas

# Must come before mlx.core: see blas.
blas.preload()

import mlx.core as mx
from mlx_lm.models import activations

# Numbers at a time: what is between two of NumPy's passes stays in the processor's cache.
_AT_ONCE = 16_384

_fast: Any = mx.fast
_their_attention = mx.fast.scaled_dot_product_attention


def faster(model: Any, forward: Callable[..., mx.array]) -> Callable[..., mx.array]:
    """`forward`, a call of `model` or of a part of it, with these in the place of mlx-lm's own while it runs.

    What it gives can be differentiated, but not compiled: a compiled step cannot call NumPy.
    """
    homes = {sys.modules[type(each).__module__] for each in model.modules()}
    gated = [home for home in homes if getattr(home, "swiglu", None) is activations.swiglu]

    def run(*args: Any, **options: Any) -> mx.array:
        with _replaced(gated):
            return forward(*args, **options)

    return run


@contextmanager
def _replaced(gated: list[Any]) -> Iterator[None]:
    # mlx-lm's models look both up when they are called; nothing else here may see them replaced.
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
    """mx.fast.scaled_dot_product_attention; MLX's own where numbers are not float32 or an option asks for more."""
    if queries.dtype != mx.float32 or any(given is not None for given in options.values()):
        return _their_attention(queries, keys, values, scale=scale, mask=mask, **options)
    rows, heads, asked, size = queries.shape
    known = keys.shape[2]
    # Heads that read the same keys stand behind one another in the products.
    scores = (queries * scale).reshape(rows, keys.shape[1], -1, size) @ keys.swapaxes(-1, -2)
    shares = softmax(_masked(scores.reshape(rows, heads, asked, known), mask))
    return (shares.reshape(rows, keys.shape[1], -1, known) @ values).reshape(rows, heads, asked, -1)


def _masked(scores: mx.array, mask: Any) -> mx.array:
    """`scores` [rows, heads, queries, keys] where a query may look."""
    if mask is None:
        return scores
    if isinstance(mask, str):
        asked, known = scores.shape[-2:]
        mask = mx.array(np.tri(asked, known, known - asked, dtype=bool))
    return mx.where(mask, scores, mx.finfo(mx.float32).min) if mask.dtype == mx.bool_ else scores + mask


def softmax(scores: mx.array) -> mx.array:
    """Softmax of float32 over the last axis; it can be differentiated."""
    return cast(mx.array, _softmax(scores))


def swiglu(gate: mx.array, x: mx.array) -> mx.array:
    """silu(gate) * x."""
    return cast(mx.array, _swiglu(gate, x) if gate.dtype == x.dtype == mx.float32 else activations.swiglu(gate, x))


@mx.custom_function
def _softmax(scores: mx.array) -> mx.array:
    values = _rows(scores)
    result = np.empty_like(values)
    for some in _slices(len(values), values.shape[1]):
        each = np.subtract(values[some], values[some].max(axis=-1, keepdims=True), out=result[some])
        np.exp(each, out=each)
        each /= each.sum(axis=-1, keepdims=True)
    return mx.array(result.reshape(scores.shape))


@_softmax.vjp
def _softmax_back(_: mx.array, cotangent: mx.array, output: mx.array) -> mx.array:
    shares, above = _rows(output), _rows(cotangent)
    result = np.empty_like(shares)
    for some in _slices(len(shares), shares.shape[1]):
        each = np.multiply(shares[some], above[some], out=result[some])
        each -= shares[some] * each.sum(axis=-1, keepdims=True)
    return mx.array(result.reshape(output.shape))


@mx.custom_function
def _swiglu(gate: mx.array, x: mx.array) -> mx.array:
    gates, values = _flat(gate), _flat(x)
    result = np.empty_like(gates)
    for some in _slices(len(gates)):
        each = _sigmoid(gates[some], result[some])
        each *= gates[some]
        each *= values[some]
    return mx.array(result.reshape(gate.shape))


@_swiglu.vjp
def _swiglu_back(primals: tuple[mx.array, mx.array], cotangent: mx.array, _: mx.array) -> tuple[mx.array, mx.array]:
    """s + silu * (1 - s) times x for the gate, silu for x, where s is the sigmoid; times what comes from above."""
    gates, values, above = _flat(primals[0]), _flat(primals[1]), _flat(cotangent)
    for_gate, for_x = np.empty_like(gates), np.empty_like(gates)
    room = np.empty(min(_AT_ONCE, len(gates)), np.float32)
    for some in _slices(len(gates)):
        sigmoid = _sigmoid(gates[some], room[: len(gates[some])])
        silu = np.multiply(gates[some], sigmoid, out=for_x[some])
        slope = np.subtract(1, sigmoid, out=for_gate[some])
        slope *= silu
        slope += sigmoid
        slope *= values[some]
        slope *= above[some]
        silu *= above[some]
    return mx.array(for_gate.reshape(primals[0].shape)), mx.array(for_x.reshape(primals[1].shape))


def _sigmoid(values: NDArray[np.float32], room: NDArray[np.float32]) -> NDArray[np.float32]:
    np.negative(values, out=room)
    # Far below zero this is infinite, and its inverse the zero that is meant.
    with np.errstate(over="ignore"):
        np.exp(room, out=room)
    room += 1
    return np.reciprocal(room, out=room)


def _rows(array: mx.array) -> NDArray[np.float32]:
    return np.asarray(array).reshape(-1, array.shape[-1])


def _flat(array: mx.array) -> NDArray[np.float32]:
    return np.asarray(array).reshape(-1)


def _slices(count: int, width: int = 1) -> Iterator[slice]:
    step = max(1, _AT_ONCE // width)
    return (slice(at, at + step) for at in range(0, count, step))
