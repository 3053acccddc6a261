"""A guard on MLX: scores verdict words and samples traces with their confidences.

Confidences and verdict probabilities are computed on the device from raw log-probabilities, before temperature and
top-p.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from mlx_lm.models.cache import KVCache
from numpy.typing import NDArray

from wizloop.backends import model_config, unreadable
from wizloop.backends.guard_base import Bodies, LocalGuard, Prefix, padded
from wizloop.backends.mlx import block_states, cpu_kernels
from wizloop.backends.mlx import load as mlx_load
from wizloop.backends.mlx.batch_caches import BatchPasses
from wizloop.backends.mlx.caches import PrefillCache, SuffixCache
from wizloop.backends.mlx.decode import Rows, wired
from wizloop.backends.mlx.kinds import kind_of
from wizloop.backends.sampling import StepSpec
from wizloop.backends.tokens import Tokens

# Prefixes that keep their cache: an instruction, what all samples begin with after it, and two more while a caller
# changes from one instruction to another.
_PREFIXES = 4

# Tokens, padding included, that keep a CPU busy: more rows in a pass only add padding.
_BUSY = 384


def load(base: str, adapter: Path | None = None, *, quantise: bool = False, fuse: bool = True) -> "Guard":
    """Load the guard at `base` (folder or hub name) with `adapter`.

    Raises ModelMissing, BadArtifact, or BackendError for a model with a cache that mlx-lm cannot batch.
    """
    loaded = mlx_load.load(base, adapter, quantise=quantise, fuse=fuse)
    with unreadable.reading(f"{base}: cannot be loaded as a model"):
        return Guard(base, adapter, loaded)


class Guard(LocalGuard):
    """A guard on MLX."""

    def __init__(self, base: str, adapter: Path | None, loaded: mlx_load.Loaded) -> None:
        on_cpu = mlx_load.on_cpu()
        vocab = int(model_config.text_of(loaded.config)["vocab_size"])
        super().__init__(base, adapter, Tokens(loaded.tokenizer), vocab, _BUSY if on_cpu else None)
        self._kind = kind_of(loaded.model, loaded.config)
        self.equal = self._kind.states
        self._prefixes: dict[Prefix, Any] = {}
        if on_cpu:
            loaded = replace(loaded, hidden=cpu_kernels.faster(loaded.model, loaded.hidden))
        self._loaded = loaded
        self._passes = None if self._kind.plain else BatchPasses(loaded.model, loaded.hidden)

    def _inference(self) -> AbstractContextManager[None]:
        return wired()

    def _rows(self, spec: StepSpec) -> Rows:
        return Rows(self._loaded, spec, self._kind.batch)

    def _next_probabilities(self, shared: Prefix, bodies: Bodies, ids: list[int]) -> NDArray[np.float64]:
        if self._passes:
            hidden = self._passes.states(self._prefix(shared), bodies)
        else:
            hidden, _ = self._prefill(shared, bodies)
        last = mx.array([len(body) - 1 for body in bodies])[:, None, None]
        logits = self._loaded.head(mx.take_along_axis(hidden, last, axis=1))[:, 0, :]
        return np.array(mx.softmax(logits[:, mx.array(ids)].astype(mx.float32), axis=-1), dtype=np.float64)

    def _pooled(
        self, shared: Prefix, bodies: Bodies, weights: NDArray[np.float32], depth: float
    ) -> NDArray[np.float32] | None:
        def run() -> None:
            if self._passes:
                self._passes.states(self._prefix(shared), bodies)
            else:
                self._prefill(shared, bodies)

        # Before the pass that ends early: a prefix is kept after all blocks.
        self._prefix(shared)
        hidden = block_states.after(self._loaded.model, depth, run)
        return None if hidden.ndim != 3 else np.array(mx.array(weights) @ hidden.astype(mx.float32))

    def _row_caches(self, shared: Prefix, bodies: Bodies) -> Iterator[list[Any]]:
        if self._passes:
            yield from self._passes.rows(self._prefix(shared), [body[:-1] for body in bodies])
            return
        _, batch = self._prefill(shared, bodies)
        mx.eval([(layer.keys, layer.values) for layer in batch])
        for row, body in enumerate(bodies):
            yield [_row(layer, row, len(shared) + len(body) - 1) for layer in batch]

    def _prefill(self, shared: Prefix, bodies: Bodies) -> tuple[Any, list[PrefillCache]]:
        """Return hidden states [rows, longest body, width] of padded bodies after the prefix, and the caches."""
        caches = self._kind.empty()
        if shared:
            caches = [SuffixCache(layer, len(bodies)) for layer in self._prefix(shared)]
        return self._loaded.hidden(mx.array(padded(bodies), mx.int32), cache=caches), caches

    def _prefill_prefix(self, shared: Prefix, longer: Prefix) -> None:
        self._prefix(longer, known=len(shared))

    def _prefix(self, shared: Prefix, known: int = 0) -> list[Any]:
        """Return the caches of a prefix, computed in two steps where its first `known` tokens are a prefix too."""
        caches = self._prefixes.pop(shared, None)
        if caches is None:
            # After that prefix only, whatever else is cached: a new process gets the same bits for the same batches.
            first = self._prefix(shared[:known]) if 0 < known < len(shared) else []
            caches = self._prefilled(shared, known, first)
        self._prefixes[shared] = caches
        while len(self._prefixes) > _PREFIXES:
            self._prefixes.pop(next(iter(self._prefixes)))
        return caches

    def _prefilled(self, shared: Prefix, known: int, first: list[Any]) -> list[Any]:
        """Return a prefix's caches, after those of its first `known` tokens if there are any."""
        if self._passes:
            return self._passes.prefix(shared, known, first)
        caches = [SuffixCache(layer, 1) for layer in first] if first else self._kind.empty()
        if shared:
            self._loaded.hidden(mx.array([shared[known if first else 0 :]]), cache=caches)
            mx.eval([(layer.keys, layer.values) for layer in caches])
        return caches


def _row(layer: PrefillCache, row: int, length: int) -> KVCache:
    """Return one row's cache, cut to its first `length` positions to drop the padding."""
    cache = KVCache()
    cache.state = (layer.keys[row : row + 1, :, :length], layer.values[row : row + 1, :, :length], length)
    return cache
