"""What is read off logits before they are gone: the next token, the confidence, the probabilities of watched words.

Twice, for one reason: MLX computes exponentials and partitions on a CPU one number at a time, and NumPy, which can read
the same memory there, is three times as fast. A test holds the two to each other.
"""

from typing import Any

# After wizloop's own, which readies the BLAS.
import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from wizloop.backends.mlx import load as mlx_load
from wizloop.backends.sampling import Reading, Step


def read(logits: Any, noise: Any, how: Reading) -> Step:
    """The next step from logits [rows, vocabulary] and random numbers [rows] in [0, 1), on the way if need be."""
    return on_cpu(logits, noise, how) if mlx_load.on_cpu() else on_device(logits, noise, how)


def on_device(logits: Any, noise: Any, how: Reading) -> Step:
    """`read` where the logits are."""
    logits = logits.astype(mx.float32)
    width = how.width(logits.shape[-1])
    best = mx.argpartition(-logits, width - 1, axis=-1)[:, :width]
    values = mx.take_along_axis(logits, best, axis=-1)
    order = mx.argsort(-values, axis=-1)
    best, values = mx.take_along_axis(best, order, axis=-1), mx.take_along_axis(values, order, axis=-1)
    confidences = mx.logsumexp(logits, axis=-1) - values[:, : how.k].mean(axis=-1)
    chosen = mx.zeros((len(values), 1), dtype=mx.int32)
    if how.temperature:
        chosen = nucleus(values, noise[:, None], how)
    watched = {name: mx.softmax(logits[:, mx.array(list(ids))], axis=-1) for name, ids in how.watch.items()}
    step = Step(mx.take_along_axis(best, chosen, axis=-1)[:, 0], confidences, watched)
    mx.async_eval(step.tokens, step.confidences, step.watched)  # type: ignore[no-untyped-call]
    return step


def on_cpu(logits: Any, noise: Any, how: Reading) -> Step:
    """`read` by NumPy."""
    all_of = np.asarray(logits.astype(mx.float32))
    width = how.width(all_of.shape[-1])
    best = np.argpartition(all_of, -width, axis=-1)[:, -width:]
    values = np.take_along_axis(all_of, best, axis=-1)
    order = np.argsort(-values, axis=-1)
    best, values = np.take_along_axis(best, order, axis=-1), np.take_along_axis(values, order, axis=-1)
    most = values[:, :1]
    confidences = most[:, 0] + np.log(np.exp(all_of - most).sum(axis=-1)) - values[:, : how.k].mean(axis=-1)
    chosen = np.zeros((len(values), 1), dtype=np.int64)
    if how.temperature:
        chosen = nucleus_on_cpu(values, np.asarray(noise)[:, None], how)
    watched = {name: mx.array(_softmax(all_of[:, list(ids)])) for name, ids in how.watch.items()}
    tokens = np.take_along_axis(best, chosen, axis=-1)[:, 0]
    return Step(mx.array(tokens.astype(np.int32)), mx.array(confidences), watched)


def nucleus(values: Any, noise: Any, how: Reading) -> Any:
    """[rows, 1]: the places drawn among `values`, logits [rows, width] that fall, by `noise` [rows, 1] in [0, 1).

    Temperature first, then the fewest tokens that reach top-p of the `width` (arXiv:1904.09751, section 3.1).
    """
    p = mx.softmax(values / how.temperature, axis=-1)
    # The first token is always kept: nothing stands before it.
    kept = mx.cumsum(p, axis=-1) - p < how.top_p
    upto = mx.cumsum(mx.where(kept, p, 0.0), axis=-1)
    chosen = (upto <= noise * upto[:, -1:]).sum(axis=-1, keepdims=True)
    # Rounding may carry the largest noise past the last token that is kept.
    return mx.minimum(chosen, kept.sum(axis=-1, keepdims=True) - 1)


def nucleus_on_cpu(values: NDArray[np.float32], noise: NDArray[np.float32], how: Reading) -> NDArray[np.int64]:
    """`nucleus` by NumPy."""
    p = _softmax(values / np.float32(how.temperature))
    kept = np.cumsum(p, axis=-1) - p < how.top_p
    upto = np.cumsum(np.where(kept, p, np.float32(0)), axis=-1)
    chosen = (upto <= noise * upto[:, -1:]).sum(axis=-1, keepdims=True)
    return np.asarray(np.minimum(chosen, kept.sum(axis=-1, keepdims=True) - 1))


def _softmax(values: NDArray[np.float32]) -> NDArray[np.float32]:
    up = np.exp(values - values.max(axis=-1, keepdims=True))
    return np.asarray(up / up.sum(axis=-1, keepdims=True))
