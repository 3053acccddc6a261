"""Decode rows of tokens in parallel on MLX.

mlx-lm provides the model and its caches. Its own batch generator returns every row's whole vocabulary, which costs a
third of the time, and removes a row as soon as it ends, which copies the cache each time.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import mlx.core as mx
import numpy as np
from mlx_lm.generate import maybe_set_recommended_wired_limit
from mlx_lm.models.cache import BatchKVCache, KVCache

from wizloop.backends.mlx.load import Loaded
from wizloop.backends.mlx.logits import next_step
from wizloop.backends.sampling import Start, Step, StepSpec


class Rows:
    """The rows being decoded. The next step is computed while the last one is being used."""

    full = False
    """A cache grows by itself."""

    def __init__(self, loaded: Loaded, spec: StepSpec, batch: Callable[[list[int]], Any] = BatchKVCache) -> None:
        """Take the cache of a batch of rows that attend to the whole text: `batch(left padding)`."""
        self._loaded, self._spec, self._batch = loaded, spec, batch
        self._caches: list[Any] = []
        self._noise: Any = None
        self._at: Any = None
        self._ahead: Step | None = None

    def most(self, tokens: int) -> int | None:
        """Return None for no limit: memory is shared with the machine, and the caller's rows bound it."""
        return None

    def renew(self, kept: Sequence[int], starts: Sequence[Start], left: int) -> None:
        """Continue with the rows `kept`, in this order, then `starts`, for at most `left` more tokens.

        Copies the whole cache.
        """
        if self._ahead is not None:
            self._keep(kept)
        if starts:
            self._add(starts, left)
        mx.clear_cache()

    def step(self, *, last: bool = False) -> Step:
        """Return every row's next token, as lists; `last` if no row continues. Raises ValueError without rows."""
        now = self._ahead
        if now is None:
            raise ValueError("no row is being decoded: renew first")
        if not last:
            self._ahead = self._forward(self._caches, now.tokens, self._noise, self._at)
            self._at = self._at + 1
        mx.eval(now.tokens, now.confidences, now.watched)
        return now.map(lambda array: array.tolist())

    def _keep(self, kept: Sequence[int]) -> None:
        if not kept:
            self._caches, self._ahead = [], None
            return
        rows = mx.array(list(kept))
        for layer in self._caches:
            layer.filter(rows)
        self._noise, self._at = self._noise[rows], self._at[rows]
        if self._ahead is not None:
            self._ahead = self._ahead.map(lambda array: array[rows])

    def _add(self, starts: Sequence[Start], left: int) -> None:
        caches = [_merged(layers, left, self._batch) for layers in zip(*(start.cache for start in starts), strict=True)]
        tokens = mx.array([start.token for start in starts])
        noise, at = mx.array(np.stack([start.noise for start in starts])), mx.zeros(len(starts), dtype=mx.int32)
        first = self._forward(caches, tokens, noise, at)
        at = at + 1
        if self._ahead is None:
            self._caches, self._noise, self._at, self._ahead = caches, noise, at, first
            return
        for old, new in zip(self._caches, caches, strict=True):
            old.extend(new)
        self._noise, self._at = mx.concatenate([self._noise, noise]), mx.concatenate([self._at, at])
        self._ahead = self._ahead.map(lambda array, new: mx.concatenate([array, new]), first)

    def _forward(self, caches: Sequence[Any], tokens: Any, noise: Any, at: Any) -> Step:
        hidden = self._loaded.hidden(tokens[:, None], cache=caches)
        logits = self._loaded.head(hidden)[:, -1, :]
        # A row that has ended stays among the others until the next renewal.
        drawn = mx.take_along_axis(noise, mx.minimum(at, noise.shape[1] - 1)[:, None], axis=1)
        return next_step(logits, drawn[:, 0], self._spec)


def _merged(layers: Sequence[Any], room: int, batch: Callable[[list[int]], Any]) -> Any:
    """Merge rows into one cache, padded on the left, with `room` for more tokens."""
    if not all(type(layer) is KVCache for layer in layers):
        return layers[0].merge(list(layers))
    # KVCache.merge writes row by row into one array, and on a CPU each write copies all of it.
    lengths = [layer.offset for layer in layers]
    most = max(lengths)

    def padded(layer: KVCache, array: Any) -> Any:
        return mx.pad(array[..., : layer.offset, :], [(0, 0), (0, 0), (most - layer.offset, room), (0, 0)])

    merged = batch([most - length for length in lengths])
    keys = mx.concatenate([padded(layer, layer.keys) for layer in layers])
    values = mx.concatenate([padded(layer, layer.values) for layer in layers])
    merged.state = (keys, values, merged.offset + most, merged.left_padding, most)
    return merged


@contextmanager
def wired() -> Iterator[None]:
    """Keep the weights in memory on Metal meanwhile, as mlx-lm does; do nothing elsewhere."""
    before = maybe_set_recommended_wired_limit()
    try:
        yield
    finally:
        if before is not None:
            mx.synchronize()
            mx.set_wired_limit(before)
