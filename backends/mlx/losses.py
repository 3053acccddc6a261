"""The losses of R-SFT and HS-DPO on MLX, with the shared instruction run once for a pass, and what bounds their memory.

Logits are computed only where a token is learned, and in pieces; blocks may be computed again for the gradient.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten, tree_unflatten
from numpy.typing import NDArray

from wizloop.backends.guard_types import OnWait, no_wait
from wizloop.backends.mlx import cpu_entropy
from wizloop.backends.mlx.caches import PrefillCache, SuffixCache
from wizloop.backends.mlx.kinds import Kind
from wizloop.backends.mlx.load import on_cpu
from wizloop.backends.training_memory import PIECE
from wizloop.backends.training_rows import PairRow, completions, groups
from wizloop.backends.training_run import reference_of

Head = Callable[[mx.array], mx.array]
Loss = Callable[..., mx.array]
"""(model, the arrays of one of training_rows' passes) -> its part of the step's loss."""


class Shared:
    """Hidden states of rows that follow one shared prefix.

    The prefix's keys and values are computed once and repeated for every row: the same sums and gradients as a prefix
    in front of each row, for the price of one. Only plain attention can do so; other models read every row whole.
    """

    def __init__(self, hidden: Callable[..., mx.array], prefix: tuple[int, ...], kind: Kind) -> None:
        self._hidden, self._prefix, self._kind = hidden, prefix, kind

    def __call__(self, inputs: mx.array) -> mx.array:
        """Return hidden states [rows, length, width] of inputs [rows, length], padded on the right."""
        if not self._kind.plain:
            prefix = mx.broadcast_to(mx.array(self._prefix, mx.int32), (len(inputs), len(self._prefix)))
            return self._hidden(mx.concatenate([prefix, inputs], axis=1))[:, len(self._prefix) :]
        if not self._prefix:
            return self._hidden(inputs, cache=self._kind.empty()) if self._kind.window else self._hidden(inputs)
        caches = self._kind.empty()
        self._hidden(mx.array([self._prefix]), cache=caches)
        return self._hidden(inputs, cache=[SuffixCache(layer, inputs.shape[0]) for layer in caches])


def sft_loss(head: Head, shared: Shared, prompt_weight: float) -> Loss:
    """Build the weighted mean cross-entropy of completion tokens, plus `prompt_weight` times that of prompt tokens.

    The weights of all passes of a step add up to 1, and so do their losses to the step's.
    """

    def loss(_: Any, *arrays: mx.array) -> mx.array:
        inputs, positions, targets, weights, prompt_positions, prompt_targets, counted = arrays
        hidden = shared(inputs)
        result = (_entropies(head, hidden, positions, targets) * weights).sum()
        if prompt_weight:
            result += prompt_weight * (_entropies(head, hidden, prompt_positions, prompt_targets) * counted).sum()
        return result

    return loss


def dpo_loss(head: Head, shared: Shared, *, beta: float, sft_weight: float) -> Loss:
    """Build the mean of weight * -log sigmoid(beta * margin) + sft_weight * mean token loss of the chosen.

    The losses of all passes of a step add up to it.
    """

    def loss(_: Any, *arrays: mx.array) -> mx.array:
        inputs, positions, targets, mask, reference, weights, shares = arrays
        entropies = _entropies(head, shared(inputs), positions, targets) * mask
        chosen, rejected = mx.split(-entropies.sum(axis=1), 2)
        margin = (chosen - reference[:, 0]) - (rejected - reference[:, 1])
        preference = -nn.log_sigmoid(beta * margin) * weights
        chosen_tokens = mx.split(mask.sum(axis=1), 2)[0]
        return ((preference + sft_weight * -chosen / chosen_tokens) * shares).sum()

    return loss


def reference_logprobs(
    model: Any,
    head: Head,
    shared: Shared,
    rows: Sequence[PairRow],
    most: int,
    on_wait: OnWait = no_wait,
) -> NDArray[np.float32]:
    """Return [pairs, 2]: summed log-probabilities of the chosen and the rejected completion, without dropout.

    Computed in passes of `most` tokens, each told to `on_wait`.
    """
    model.eval()
    sides = [(i, side, each) for i, row in enumerate(rows) for side, each in enumerate((row.chosen, row.rejected))]
    # Similar lengths together: a pass is as long as its longest row.
    sides.sort(key=lambda one: len(one[2].ids))
    result = np.empty((len(rows), 2), np.float32)
    done = 0
    for group in groups(range(len(sides)), [len(each.ids) for _, _, each in sides], most):
        on_wait(reference_of(done, len(sides)))
        several = [sides[i] for i in group]
        inputs, positions, targets, mask = (mx.array(each) for each in completions([row for _, _, row in several]))
        entropies = _entropies(head, shared(inputs), positions, targets) * mask
        result[[i for i, _, _ in several], [side for _, side, _ in several]] = np.array(-entropies.sum(axis=1))
        done += len(group)
    return result


@contextmanager
def recomputing(model: Any) -> Iterator[None]:
    """Compute the blocks of `model` again for the gradient, so that only their inputs are kept.

    mlx-lm's grad_checkpoint would draw another dropout the second time and lose the gradient of a shared prefix's keys.
    """
    keys: list[mx.array] = []
    """The random key of the block that is being computed."""
    changed: dict[Any, Any] = {kind: _recomputed(kind.__call__, keys) for kind in {type(one) for one in model.layers}}
    changed[nn.Dropout] = _keyed(nn.Dropout.__call__, keys)
    originals = {kind: kind.__call__ for kind in changed}
    for kind, call in changed.items():
        kind.__call__ = call
    try:
        yield
    finally:
        for kind, call in originals.items():
            kind.__call__ = call


def _recomputed(original: Callable[..., Any], keys: list[mx.array]) -> Callable[..., Any]:
    """Return a block's call that keeps its inputs alone. A cache of another kind than ours is left to `original`."""

    def call(block: Any, x: mx.array, mask: Any = None, cache: Any = None, *rest: Any, **options: Any) -> Any:
        ours = cache is None or isinstance(cache, PrefillCache)
        trained = tree_flatten(block.trainable_parameters())
        # Blocks before the first adapter keep nothing for a gradient.
        if not trained or not block.training or rest or not ours:
            return original(block, x, mask, cache, *rest, **options)
        names, parameters = zip(*trained, strict=True)
        prefills = type(cache) is PrefillCache
        before = [cache.keys, cache.values] if cache is not None and not prefills else []
        key = mx.random.randint(0, 2**31 - 1, (2,)).astype(mx.uint32)

        def again(x: mx.array, *given: mx.array) -> Any:
            block.update(tree_unflatten(list(zip(names, given[len(before) :], strict=True))))
            inner: Any = copy(cache)
            if before:
                inner.keys, inner.values = given[: len(before)]
            keys.append(key)
            result = original(block, x, mask, inner, **options)
            keys.pop()
            return (result, inner.keys, inner.values) if prefills else result

        result = recompute(again)(x, *before, *parameters)
        block.update(tree_unflatten(list(zip(names, parameters, strict=True))))
        if prefills:
            result, cache.keys, cache.values = result
        return result

    return call


def recompute(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return `function` of arrays, computed again for its gradient.

    On a CPU both are computed at once: MLX's checkpoint leaves the order to a graph that begins the later blocks before
    the earlier ones are done, which saved nothing (SmolLM2 at 1,024 tokens: 7.2 GB with it, 7.4 without).
    """
    if not on_cpu():
        return mx.checkpoint(function)

    @mx.custom_function
    def forward(*arrays: mx.array) -> Any:
        result = function(*map(_detached, arrays))
        return _detached(result) if isinstance(result, mx.array) else tuple(map(_detached, result))

    @forward.vjp
    def backward(primals: Any, cotangents: Any, _: Any) -> Any:
        above = cotangents if isinstance(cotangents, list | tuple) else [cotangents]
        _, gradients = mx.vjp(function, [*map(_detached, primals)], [*map(_detached, above)])
        return tuple(map(_detached, gradients))

    return cast(Callable[..., Any], forward)


def _detached(array: mx.array) -> mx.array:
    """Return a copy without a history, which MLX would keep, with every array in it, while it differentiates."""
    if array.dtype == mx.bfloat16:
        return mx.array(np.asarray(array.view(mx.uint16))).view(mx.bfloat16)
    return mx.array(np.asarray(array))


def _keyed(original: Callable[..., Any], keys: list[mx.array]) -> Callable[..., Any]:
    """Return a dropout that is a function of its block's key."""

    def call(dropout: Any, x: mx.array) -> Any:
        if not keys or not dropout.training:
            return original(dropout, x)
        keys[-1], own = mx.random.split(keys[-1])
        return mx.random.bernoulli(dropout._p_1, x.shape, own) * x / dropout._p_1

    return call


def _entropies(head: Head, hidden: mx.array, positions: mx.array, targets: mx.array) -> mx.array:
    """Return [rows, learned]: float32 cross-entropy of `targets` given the hidden states at `positions`."""
    learned = mx.take_along_axis(hidden, positions[:, :, None], axis=1).reshape(-1, hidden.shape[-1])
    wanted = targets.reshape(-1)

    def entropies(learned: mx.array, wanted: mx.array) -> mx.array:
        return cpu_entropy.entropies(head(learned), wanted)

    if wanted.size <= PIECE:
        return entropies(learned, wanted).reshape(targets.shape)
    # Recomputed for the gradient, so that one piece's logits at a time are in memory.
    piece = recompute(entropies)
    places = range(0, wanted.size, PIECE)
    return mx.concatenate([piece(learned[at : at + PIECE], wanted[at : at + PIECE]) for at in places]).reshape(
        targets.shape
    )
