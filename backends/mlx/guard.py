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
from mlx_lm.models.cache import KVCache, make_prompt_cache
from numpy.typing import NDArray

from wizloop.backends import model_config
from wizloop.backends.guard_base import Bodies, LocalGuard, Prefix, padded
from wizloop.backends.guard_types import BackendError
from wizloop.backends.mlx import cpu_kernels
from wizloop.backends.mlx import load as mlx_load
from wizloop.backends.mlx.caches import PrefillCache, SuffixCache
from wizloop.backends.mlx.decode import Rows, wired
from wizloop.backends.sampling import StepSpec
from wizloop.backends.tokens import Tokens

# Prefixes that keep their cache: an instruction, what all samples begin with after it, and two more while a caller
# changes from one instruction to another.
_PREFIXES = 4

# Tokens, padding included, that keep a CPU busy: more rows in a pass only add padding.
_BUSY = 384


def load(base: str, adapter: Path | None = None, *, quantise: bool = False, fuse: bool = True) -> "Guard":
    """Load the guard at `base` (folder or hub name) with `adapter`.

    Raises ModelMissing, BadArtifact, or BackendError for a model that caches more than keys and values.
    """
    return Guard(base, adapter, mlx_load.load(base, adapter, quantise=quantise, fuse=fuse))


class Guard(LocalGuard):
    """A guard on MLX."""

    def __init__(self, base: str, adapter: Path | None, loaded: mlx_load.Loaded) -> None:
        on_cpu = mlx_load.on_cpu()
        vocab = int(model_config.text_of(loaded.config)["vocab_size"])
        super().__init__(base, adapter, Tokens(loaded.tokenizer), vocab, _BUSY if on_cpu else None)
        self._layers = _count_layers(loaded)
        self._prefixes: dict[Prefix, list[PrefillCache]] = {}
        if on_cpu:
            loaded = replace(loaded, hidden=cpu_kernels.faster(loaded.model, loaded.hidden))
        self._loaded = loaded

    def _inference(self) -> AbstractContextManager[None]:
        return wired()

    def _rows(self, spec: StepSpec) -> Rows:
        return Rows(self._loaded, spec)

    def _next_probabilities(self, shared: Prefix, bodies: Bodies, ids: list[int]) -> NDArray[np.float64]:
        hidden, _ = self._prefill(shared, bodies)
        last = mx.array([len(body) - 1 for body in bodies])[:, None, None]
        logits = self._loaded.head(mx.take_along_axis(hidden, last, axis=1))[:, 0, :]
        return np.array(mx.softmax(logits[:, mx.array(ids)].astype(mx.float32), axis=-1), dtype=np.float64)

    def _row_caches(self, shared: Prefix, bodies: Bodies) -> Iterator[list[KVCache]]:
        _, batch = self._prefill(shared, bodies)
        mx.eval([(layer.keys, layer.values) for layer in batch])
        for row, body in enumerate(bodies):
            yield [_row(layer, row, len(shared) + len(body) - 1) for layer in batch]

    def _prefill(self, shared: Prefix, bodies: Bodies) -> tuple[Any, list[PrefillCache]]:
        """Return hidden states [rows, longest body, width] of padded bodies after the prefix, and the caches."""
        caches = self._empty()
        if shared:
            caches = [SuffixCache(layer, len(bodies)) for layer in self._prefix(shared)]
        return self._loaded.hidden(mx.array(padded(bodies), mx.int32), cache=caches), caches

    def _prefill_prefix(self, shared: Prefix, longer: Prefix) -> None:
        self._prefix(longer, known=len(shared))

    def _prefix(self, shared: Prefix, known: int = 0) -> list[PrefillCache]:
        """Return keys and values of a prefix, computed in two steps where its first `known` tokens are a prefix too."""
        caches = self._prefixes.pop(shared, None)
        if caches is None:
            # After that prefix only, whatever else is cached: a new process gets the same bits for the same batches.
            first = self._prefix(shared[:known]) if 0 < known < len(shared) else []
            caches = [SuffixCache(layer, 1) for layer in first] if first else self._empty()
            if shared:
                self._loaded.hidden(mx.array([shared[known if first else 0 :]]), cache=caches)
                mx.eval([(layer.keys, layer.values) for layer in caches])
        self._prefixes[shared] = caches
        while len(self._prefixes) > _PREFIXES:
            self._prefixes.pop(next(iter(self._prefixes)))
        return caches

    def _empty(self) -> list[PrefillCache]:
        return [PrefillCache() for _ in range(self._layers)]


def _count_layers(loaded: mlx_load.Loaded) -> int:
    """Count the layers. Raises BackendError where one caches what cannot be repeated for every row."""
    caches = make_prompt_cache(loaded.model)
    other = next((type(cache).__name__ for cache in caches if type(cache) is not KVCache), None)
    if other is not None:
        raise BackendError(
            f"a model of type {loaded.config.get('model_type')} keeps a {other}, which the MLX backend does not know: "
            "use a model whose layers attend to the whole text, as Llama, Qwen 3 and Mistral do"
        )
    return len(caches)


def _row(layer: PrefillCache, row: int, length: int) -> KVCache:
    """Return one row's cache, cut to its first `length` positions to drop the padding."""
    cache = KVCache()
    cache.state = (layer.keys[row : row + 1, :, :length], layer.values[row : row + 1, :, :length], length)
    return cache
