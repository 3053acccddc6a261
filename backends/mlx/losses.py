"""The losses of R-SFT and HS-DPO on MLX, with the shared instruction run once for a batch."""

from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from numpy.typing import NDArray

from wizloop.backends.mlx import cpu_entropy
from wizloop.backends.mlx.caches import PrefillCache, SuffixCache
from wizloop.backends.training_rows import PairRow, completions

Head = Callable[[mx.array], mx.array]
Loss = Callable[..., tuple[mx.array, mx.array]]
"""(model, the arrays of training_rows' batch) -> (loss, learned tokens), as mlx-lm's loop expects."""


class Shared:
    """Hidden states of rows that follow one shared prefix.

    The prefix's keys and values are computed once and repeated for every row: the same sums and gradients as a prefix
    in front of each row, for the price of one.
    """

    def __init__(self, hidden: Callable[..., mx.array], prefix: tuple[int, ...], layers: int) -> None:
        self._hidden, self._prefix, self._layers = hidden, prefix, layers

    def __call__(self, inputs: mx.array) -> mx.array:
        """Return hidden states [rows, length, width] of inputs [rows, length]."""
        if not self._prefix:
            return self._hidden(inputs)
        caches = [PrefillCache() for _ in range(self._layers)]
        self._hidden(mx.array([self._prefix]), cache=caches)
        return self._hidden(inputs, cache=[SuffixCache(layer, inputs.shape[0]) for layer in caches])


def sft_loss(head: Head, shared: Shared, prompt_weight: float) -> Loss:
    """Build the weighted mean cross-entropy of completion tokens, plus `prompt_weight` times that of prompt tokens.

    The weights are normalized over the batch.
    """

    def loss(_: Any, *arrays: mx.array) -> tuple[mx.array, mx.array]:
        inputs, positions, targets, weights, prompt_positions, prompt_targets, counted = arrays
        hidden = shared(inputs)
        result = (_entropies(head, hidden, positions, targets) * weights).sum() / weights.sum()
        if prompt_weight:
            entropies = _entropies(head, hidden, prompt_positions, prompt_targets)
            result = result + prompt_weight * (entropies * counted).sum() / mx.maximum(counted.sum(), 1)
        return result, (weights > 0).sum()

    return loss


def dpo_loss(head: Head, shared: Shared, *, beta: float, sft_weight: float) -> Loss:
    """Build the mean of weight * -log sigmoid(beta * margin) + sft_weight * mean token loss of the chosen."""

    def loss(_: Any, *arrays: mx.array) -> tuple[mx.array, mx.array]:
        inputs, positions, targets, mask, reference, weights = arrays
        entropies = _entropies(head, shared(inputs), positions, targets) * mask
        chosen, rejected = mx.split(-entropies.sum(axis=1), 2)
        margin = (chosen - reference[:, 0]) - (rejected - reference[:, 1])
        preference = -nn.log_sigmoid(beta * margin) * weights
        chosen_tokens = mx.split(mask.sum(axis=1), 2)[0]
        return (preference + sft_weight * -chosen / chosen_tokens).mean(), mask.sum()

    return loss


def reference_logprobs(
    model: Any, head: Head, shared: Shared, rows: Sequence[PairRow], batch: int
) -> NDArray[np.float32]:
    """Return [pairs, 2]: summed log-probabilities of the chosen and the rejected completion, without dropout."""
    model.eval()
    result = np.empty((len(rows), 2), np.float32)
    for start in range(0, len(rows), batch):
        group = rows[start : start + batch]
        for side, several in enumerate(([row.chosen for row in group], [row.rejected for row in group])):
            inputs, positions, targets, mask = (mx.array(each) for each in completions(several))
            entropies = _entropies(head, shared(inputs), positions, targets) * mask
            result[start : start + len(group), side] = np.array(-entropies.sum(axis=1))
    return result


def _entropies(head: Head, hidden: mx.array, positions: mx.array, targets: mx.array) -> mx.array:
    """Return [rows, learned]: float32 cross-entropy of `targets` given the hidden states at `positions`."""
    logits = head(mx.take_along_axis(hidden, positions[:, :, None], axis=1))
    return cpu_entropy.entropies(logits, targets)
