"""The losses of R-SFT and HS-DPO on torch, and the forward pass that they are computed from.

Logits are computed only where a token is learned, and in chunks, so that a vocabulary of 150,000 words does not
dominate the memory. The formulas are those of mlx/losses.py; a test compares the two.
"""

import types
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from wizloop.backends.training_memory import PIECE


def give_entropies(model: Any, head: Callable[[Any], Any]) -> None:
    """Make `model(input_ids=, positions=, targets=)` return cross-entropies instead of logits.

    `model` is a transformers causal language model and `head` returns its logits. Inputs are [rows, length], padded on
    the right, where no earlier position sees it; positions and targets are [rows, learned], like the float32 result.
    Other calls are unchanged. The model's own forward is replaced, so that wrappers for adapters and for several
    processes call it.
    """
    original = model.forward

    def forward(self: Any, *args: Any, positions: Any = None, targets: Any = None, **options: Any) -> Any:
        if targets is None:
            return original(*args, **options)
        inputs = options["input_ids"] if "input_ids" in options else args[0]
        hidden = self.base_model(input_ids=inputs, use_cache=False).last_hidden_state
        return _entropies(head, hidden, positions, targets)

    model.forward = types.MethodType(forward, model)


def sft_loss(entropies: Any, weights: Any, share: int = 1) -> Any:
    """Return the weighted mean of `entropies` over the tokens of a step, or a part of it among `share` processes.

    The weights of all parts add up to 1. The mean of the parts' results is the loss of the step.
    """
    return (entropies * weights).sum() * share


def dpo_losses(entropies: Any, mask: Any, reference: Any, weights: Any, *, beta: float, sft_weight: float) -> Any:
    """Return [pairs]: weight * -log sigmoid(beta * margin) + sft_weight * mean token loss of the chosen completion.

    `entropies` and `mask` are [2 * pairs, learned], chosen completions first; `reference` [pairs, 2] holds summed
    log-probabilities (arXiv:2501.18492, section 3.3).
    """
    chosen, rejected = logprobs(entropies, mask)
    margin = (chosen - reference[:, 0]) - (rejected - reference[:, 1])
    preference = -F.logsigmoid(beta * margin) * weights
    return preference - sft_weight * chosen / mask.sum(dim=1).chunk(2)[0]


def logprobs(entropies: Any, mask: Any) -> tuple[Any, Any]:
    """Return summed log-probabilities, [pairs] each, of the chosen and of the rejected completions."""
    chosen, rejected = (-(entropies * mask).sum(dim=1)).chunk(2)
    return chosen, rejected


def _entropies(head: Any, hidden: Any, positions: Any, targets: Any) -> Any:
    learned = hidden.gather(1, positions[..., None].expand(-1, -1, hidden.shape[-1])).flatten(0, 1)
    pieces = list(zip(learned.split(PIECE), targets.flatten().split(PIECE), strict=True))
    if len(pieces) == 1:
        return _cross_entropy(head, *pieces[0]).view_as(targets)
    # Recomputed for the gradient, so that one piece's logits at a time are in memory.
    losses = [checkpoint(_cross_entropy, head, *piece, use_reentrant=False) for piece in pieces]
    return torch.cat(losses).view_as(targets)


def _cross_entropy(head: Any, hidden: Any, targets: Any) -> Any:
    return F.cross_entropy(head(hidden).float(), targets, reduction="none")
