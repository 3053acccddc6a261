"""The hidden states after one block of a model, without running those that follow it."""

from collections.abc import Callable
from typing import Any

import torch

from wizloop.backends.guard_base import block_at


class _Reached(Exception):
    """Ends a pass, and carries the states."""

    def __init__(self, states: torch.Tensor) -> None:
        super().__init__()
        self.states = states


def after(model: Any, depth: float, run: Callable[[], object]) -> torch.Tensor:
    """Return the states, [rows, tokens, width] in most models, after `depth` (0..1) of the blocks that `run` passes."""
    blocks = model.get_decoder().layers
    hook = blocks[block_at(depth, len(blocks)) - 1].register_forward_hook(_end)
    try:
        run()
    except _Reached as reached:
        return reached.states
    finally:
        hook.remove()
    raise AssertionError("the pass left out a block")


def _end(block: Any, args: Any, found: Any) -> None:
    raise _Reached(found[0] if isinstance(found, tuple) else found)
