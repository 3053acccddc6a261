"""The losses of R-SFT and HS-DPO on MLX, with the shared instruction run once for a batch."""

from collections.abc import Callable, Sequence
from typing import Any

# After wizloop's own, which readies the BLAS.
import mlx.core as mx
import mlx.nn as nn
import numpy as np
from numpy.typing import NDArray

from wizloop.backends.mlx import cpu_entropy as mlx_entropy
from wizloop.backends.mlx.caches import Behind, Kept
from wizloop.backends.training_rows import PairRow, completions

Head = Callable[[mx.array], mx.array]


class Shared:
    """Hidden states of rows behind one shared prefix.

    The prefix's keys and values are computed once and repeated for every row: the same sums and the same gradients as a
    prefix in front of each row, for the price of one.
    """

    def __init__(self, hidden: Callable[..., mx.array], prefix: tuple[int, ...], layers: int) -> None:
        self._hidden, self._prefix, self._layers = hidden, prefix, layers

    def __call__(self, inputs: mx.array) -> mx.array:
        if not self._prefix:
            return self._hidden(inputs)
        kept = [Kept() for _ in range(self._layers)]
        self._hidden(mx.array([self._prefix]), cache=kept)
        return self._hidden(inputs, cache=[Behind(layer, inputs.shape[0]) for layer in kept])


def sft_loss(head: Head, shared: Shared, prompt_weight: float) -> Callable[..., tuple[mx.array, mx.array]]:
    """Weighted mean cross-entropy of the completions' tokens, plus `prompt_weight` times that of some of the prompt's.

    The weights are normalised over the batch. Returns (loss, learned tokens), as mlx-lm's loop wants it.
    """

    def loss(
        _: Any,
        inputs: mx.array,
        positions: mx.array,
        targets: mx.array,
        weights: mx.array,
        asked: mx.array,
        wanted: mx.array,
        counted: mx.array,
    ) -> tuple[mx.array, mx.array]:
        hidden = shared(inputs)
        result = (_entropies(head, hidden, positions, targets) * weights).sum() / weights.sum()
        if prompt_weight:
            result = result + prompt_weight * (_entropies(head, hidden, asked, wanted) * counted).sum() / mx.maximum(
                counted.sum(), 1
            )
        return result, (weights > 0).sum()

    return loss


def dpo_loss(head: Head, shared: Shared, *, beta: float, sft_weight: float) -> Callable[..., tuple[mx.array, mx.array]]:
    """Mean over pairs of weight * -log sigmoid(beta * margin) + sft_weight * mean token loss of the chosen."""

    def loss(
        _: Any,
        inputs: mx.array,
        positions: mx.array,
        targets: mx.array,
        mask: mx.array,
        reference: mx.array,
        weights: mx.array,
    ) -> tuple[mx.array, mx.array]:
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
    """[pairs, 2]: summed log-probabilities of the chosen and the rejected completion under the model as it is, without
    dropout.
    """
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
    """[rows, learned]: cross-entropy in float32 of `targets` given the hidden states at `positions`."""
    logits = head(mx.take_along_axis(hidden, positions[:, :, None], axis=1))
    return mlx_entropy.entropies(logits, targets)
