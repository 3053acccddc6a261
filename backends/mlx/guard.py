"""A guard on MLX: scores verdict words and samples traces with their confidences.

Shared work is done once: the instruction for all samples, a sample's prompt for all its traces. Confidences and verdict
probabilities are computed on the device from raw log-probabilities, before temperature and top-p.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from mlx_lm.models.cache import KVCache, make_prompt_cache
from numpy.typing import NDArray

from wizloop.backends.guard_base import LocalGuard, groups, padded, with_longest_prefix
from wizloop.backends.guard_types import BackendError, Choice, Encoded, Sampled, Sampling
from wizloop.backends.mlx import cpu_kernels
from wizloop.backends.mlx import load as mlx_load
from wizloop.backends.mlx.caches import PrefillCache, SuffixCache
from wizloop.backends.mlx.decode import Rows, wired
from wizloop.backends.sampling import TraceSampler, step_spec
from wizloop.backends.tokens import Tokens

# Prefixes that keep their cache: an instruction, what all samples begin with behind it, and two more while a caller
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
    """A model to ask on MLX."""

    def __init__(self, base: str, adapter: Path | None, loaded: mlx_load.Loaded) -> None:
        super().__init__(base, adapter, Tokens(loaded.tokenizer), int(loaded.config["vocab_size"]))
        self._layers = _count_layers(loaded)
        self._busy = _BUSY if mlx_load.on_cpu() else None
        self._prefixes: dict[tuple[int, ...], list[PrefillCache]] = {}
        if mlx_load.on_cpu():
            loaded = replace(loaded, hidden=cpu_kernels.faster(loaded.model, loaded.hidden))
        self._loaded = loaded

    def score(self, prompts: Sequence[Encoded], choice: Choice, *, rows: int = 128) -> NDArray[np.float64]:
        """Return [prompts, words]: the probability of each word of `choice` coming next, among those words.

        One forward pass per prompt.
        """
        common, deciding = self.tokens.deciding(choice)
        prompts = self._with_longest_prefix(prompts)
        result = np.empty((len(prompts), len(deciding)))
        for group in groups(prompts, rows, self._busy):
            bodies = [[*prompts[i].body, *common] for i in group]
            hidden, _ = self._prefill(prompts[group[0]].shared, bodies)
            last = mx.array([len(body) - 1 for body in bodies])[:, None, None]
            logits = self._loaded.head(mx.take_along_axis(hidden, last, axis=1))[:, 0, :]
            chosen = logits[:, mx.array(deciding)].astype(mx.float32)
            result[group] = np.array(mx.softmax(chosen, axis=-1), dtype=np.float64)
        return result / result.sum(axis=1, keepdims=True)

    def sample(self, prompts: Sequence[Encoded], sampling: Sampling) -> list[list[Sampled]]:
        """Return traces for every prompt, in order. The same prompts and sampling give the same traces."""
        # All prompts are prefilled first: the caller's batch bounds the memory, and the order of arrival cannot change
        # the draws.
        prompts = self._with_longest_prefix(prompts)
        caches: dict[int, list[KVCache]] = {}
        for group in groups(prompts, sampling.rows, self._busy):
            caches.update(self._row_caches(prompts, group))
        rows = Rows(self._loaded, step_spec(sampling, self.tokens, self.vocab))
        with wired():
            return TraceSampler(rows, self.tokens, sampling, prompts, caches).run(range(len(prompts)))

    def _row_caches(self, prompts: Sequence[Encoded], group: list[int]) -> Iterator[tuple[int, list[KVCache]]]:
        """Yield each prompt's cache without its last token, which starts the decoding."""
        shared = prompts[group[0]].shared
        bodies = [prompts[i].body for i in group]
        _, batch = self._prefill(shared, bodies)
        mx.eval([(layer.keys, layer.values) for layer in batch])
        for row, i in enumerate(group):
            yield i, [_row(layer, row, len(shared) + len(bodies[row]) - 1) for layer in batch]

    def _prefill(self, shared: tuple[int, ...], bodies: Sequence[Sequence[int]]) -> tuple[Any, list[PrefillCache]]:
        """Return hidden states [rows, longest body, width] of padded bodies behind the prefix, and the caches."""
        caches = self._empty()
        if shared:
            caches = [SuffixCache(layer, len(bodies)) for layer in self._prefix(shared)]
        return self._loaded.hidden(mx.array(padded(bodies), mx.int32), cache=caches), caches

    def _with_longest_prefix(self, prompts: Sequence[Encoded]) -> list[Encoded]:
        longer = with_longest_prefix(prompts)
        if longer:
            self._prefix(longer[0].shared, known=len(prompts[0].shared))
        return longer

    def _prefix(self, shared: tuple[int, ...], known: int = 0) -> list[PrefillCache]:
        """Return keys and values of a prefix, computed in two steps where its first `known` tokens are a prefix too."""
        caches = self._prefixes.pop(shared, None)
        if caches is None:
            # Behind nothing but that, whatever else is cached: a new process gets the same bits for the same batches.
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
            "take a model whose layers attend to the whole text, as Llama, Qwen 3 and Mistral do"
        )
    return len(caches)


def _row(layer: PrefillCache, row: int, length: int) -> KVCache:
    """Return one row's cache, cut to its first `length` positions to drop the padding."""
    cache = KVCache()
    cache.state = (layer.keys[row : row + 1, :, :length], layer.values[row : row + 1, :, :length], length)
    return cache
