"""The hidden states after one block of a model, without running those that follow it."""

from collections.abc import Callable
from typing import Any

import mlx.core as mx

from wizloop.backends.guard_base import block_at


class _Reached(Exception):
    """Ends a pass, and carries the states."""

    def __init__(self, states: mx.array) -> None:
        super().__init__()
        self.states = states


class _Last:
    """A block after which the pass ends. Whatever else the model asks of it, the block answers."""

    def __init__(self, block: Any) -> None:
        self._block = block

    def __call__(self, *args: Any, **options: Any) -> None:
        """Run the block; raise _Reached with its states."""
        found = self._block(*args, **options)
        raise _Reached(found[0] if isinstance(found, tuple) else found)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._block, name)


def after(model: Any, depth: float, run: Callable[[], None]) -> mx.array:
    """Return the states, [rows, tokens, width] in most models, after `depth` (0..1) of the blocks that `run` passes."""
    block = model.layers[block_at(depth, len(model.layers)) - 1]
    blocks, at = _place(model, block)
    blocks[at] = _Last(block)
    try:
        run()
    except _Reached as reached:
        return reached.states
    finally:
        blocks[at] = block
    raise AssertionError("the pass left out a block")


def _place(model: Any, block: Any) -> tuple[list[Any], int]:
    """Return the list of modules that holds the block, and its place there: `model.layers` may be a copy."""
    lists = (each for module in model.modules() for each in module.values() if isinstance(each, list))
    return next((each, at) for each in lists for at, one in enumerate(each) if one is block)
