"""Compute a decoding step from logits: the next token, its confidence, and the probabilities of watched words.

Implemented twice: on a CPU MLX computes exponentials and partitions one number at a time, and NumPy, which reads the
same memory, is three times as fast. A test compares the two.
"""

from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from wizloop.backends.mlx.load import on_cpu
from wizloop.backends.sampling import Step, StepSpec, nucleus


def next_step(logits: Any, noise: Any, spec: StepSpec) -> Step:
    """Compute the next step from logits [rows, vocabulary] and random numbers [rows] in [0, 1)."""
    return (by_numpy if on_cpu() else by_mlx)(logits, noise, spec)


def by_mlx(logits: Any, noise: Any, spec: StepSpec) -> Step:
    """Start `next_step` on MLX's device; the result may not be evaluated yet."""
    logits = logits.astype(mx.float32)
    width = spec.width(logits.shape[-1])
    best = mx.argpartition(-logits, width - 1, axis=-1)[:, :width]
    values = mx.take_along_axis(logits, best, axis=-1)
    order = mx.argsort(-values, axis=-1)
    best, values = mx.take_along_axis(best, order, axis=-1), mx.take_along_axis(values, order, axis=-1)
    confidences = mx.logsumexp(logits, axis=-1) - values[:, : spec.k].mean(axis=-1)
    tokens = best[:, 0]
    if spec.temperature:
        chosen = nucleus(mx, mx.softmax(values / spec.temperature, axis=-1), noise[:, None], spec.top_p)
        tokens = mx.take_along_axis(best, chosen, axis=-1)[:, 0]
    watched = {name: mx.softmax(logits[:, mx.array(list(ids))], axis=-1) for name, ids in spec.watch.items()}
    step = Step(tokens, confidences, watched)
    mx.async_eval(step.tokens, step.confidences, step.watched)  # type: ignore[no-untyped-call]
    return step


def by_numpy(logits: Any, noise: Any, spec: StepSpec) -> Step:
    """Compute `next_step` with NumPy."""
    values_of_all = np.asarray(logits.astype(mx.float32))
    width = spec.width(values_of_all.shape[-1])
    best = np.argpartition(values_of_all, -width, axis=-1)[:, -width:]
    values = np.take_along_axis(values_of_all, best, axis=-1)
    order = np.argsort(-values, axis=-1)
    best, values = np.take_along_axis(best, order, axis=-1), np.take_along_axis(values, order, axis=-1)
    most = values[:, :1]
    normalizer = most[:, 0] + np.log(np.exp(values_of_all - most).sum(axis=-1))
    confidences = normalizer - values[:, : spec.k].mean(axis=-1)
    tokens = best[:, 0]
    if spec.temperature:
        chosen = nucleus(np, softmax(values / np.float32(spec.temperature)), np.asarray(noise)[:, None], spec.top_p)
        tokens = np.take_along_axis(best, chosen, axis=-1)[:, 0]
    watched = {name: mx.array(softmax(values_of_all[:, list(ids)])) for name, ids in spec.watch.items()}
    return Step(mx.array(tokens.astype(np.int32)), mx.array(confidences), watched)


def softmax(values: NDArray[Any]) -> NDArray[Any]:
    """Return the softmax over the last axis."""
    up = np.exp(values - values.max(axis=-1, keepdims=True))
    return np.asarray(up / up.sum(axis=-1, keepdims=True))
