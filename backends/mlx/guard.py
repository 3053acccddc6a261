"""A guard on MLX: scores verdict words, samples traces with their confidences.

What is shared is computed once: the instruction for all samples, a sample's prompt for all its traces. Confidences and
verdict probabilities are read on the device from raw log-probabilities, before temperature and top-p.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

# After wizloop's own, which readies the BLAS.
import mlx.core as mx
import numpy as np
from mlx_lm.models.cache import KVCache, make_prompt_cache
from numpy.typing import NDArray

from wizloop.backends.grouping import groups, sharing_more
from wizloop.backends.guard_types import BackendError, Choice, Encoded, Prompt, Sampled, Sampling
from wizloop.backends.mlx import cpu_kernels as mlx_on_cpu
from wizloop.backends.mlx import load as mlx_load
from wizloop.backends.mlx.caches import Behind, Kept
from wizloop.backends.mlx.decode import Rows, wired
from wizloop.backends.sampling import TraceSampler, reading_of
from wizloop.backends.tokens import Tokens

# How many prefixes keep their cache: an instruction and what all samples begin with behind it, and two more while a
# caller changes from one instruction to another.
_PREFIXES = 4

# Tokens, padding included, that keep a CPU busy: more rows in one pass are only more padding there.
_BUSY = 384


def load(base: str, adapter: Path | None = None, *, quantise: bool = False, fuse: bool = True) -> "Guard":
    """The guard at `base` (folder or hub name) with `adapter` over it.

    Raises ModelMissing, BadArtifact, or BackendError for a model that remembers more than keys and values.
    """
    return Guard(base, adapter, mlx_load.load(base, adapter, quantise=quantise, fuse=fuse))


class Guard:
    """A model that can be asked. Not thread-safe, like the model under it."""

    def __init__(self, base: str, adapter: Path | None, loaded: mlx_load.Loaded) -> None:
        self.base, self.adapter = base, adapter
        self._loaded = _reading(loaded)
        self.tokens = Tokens(loaded.tokenizer)
        self.vocab: int = int(loaded.config["vocab_size"])
        self.end_text: str = self.tokens.decode([self.tokens.end])
        self._prefixes: dict[tuple[int, ...], list[Kept]] = {}
        self._layers = _layers_of(loaded)

    def encode(self, prompt: Prompt, *, max_tokens: int) -> Encoded:
        """Token ids of at most `max_tokens`; only the sample's text is ever cut. Raises ValueError when that leaves no
        room for it.
        """
        return self.tokens.prompt(prompt, max_tokens=max_tokens)

    def count(self, text: str) -> int:
        """Tokens of a trusted text."""
        return len(self.tokens.encode(text))

    def score(self, prompts: Sequence[Encoded], choice: Choice, *, rows: int = 128) -> NDArray[np.float64]:
        """[prompts, words]: how likely each word of `choice` comes next, of those words alone; one forward pass a
        prompt.
        """
        common, deciding = self.tokens.deciding(choice)
        prompts = self._sharing_more(prompts)
        result = np.empty((len(prompts), len(deciding)))
        for group in self._groups(prompts, rows):
            bodies = [[*prompts[i].body, *common] for i in group]
            hidden, _ = self._prefill(prompts[group[0]].shared, bodies)
            last = mx.array([len(body) - 1 for body in bodies])[:, None, None]
            logits = self._loaded.head(mx.take_along_axis(hidden, last, axis=1))[:, 0, :]
            chosen = logits[:, mx.array(deciding)].astype(mx.float32)
            result[group] = np.array(mx.softmax(chosen, axis=-1), dtype=np.float64)
        return result / result.sum(axis=1, keepdims=True)

    def sample(self, prompts: Sequence[Encoded], sampling: Sampling) -> list[list[Sampled]]:
        """Traces for every prompt, in the prompts' order. The same prompts and sampling give the same traces."""
        # Every sample is prefilled at once: the caller's piece bounds the memory, and no order of arrival can change
        # the draw.
        prompts = self._sharing_more(prompts)
        caches: dict[int, list[KVCache]] = {}
        for group in self._groups(prompts, sampling.rows):
            caches.update(self._row_caches(prompts, group))
        rows = Rows(self._loaded, reading_of(sampling, self.tokens, self.vocab))
        with wired():
            return TraceSampler(rows, self.tokens, sampling, prompts, caches).run(range(len(prompts)))

    def _groups(self, prompts: Sequence[Encoded], rows: int) -> Iterator[list[int]]:
        return groups(prompts, rows, _BUSY if mlx_load.on_cpu() else None)

    def _row_caches(self, prompts: Sequence[Encoded], group: list[int]) -> Iterator[tuple[int, list[KVCache]]]:
        """Each prompt's cache without its last token, which starts the decoding."""
        shared = prompts[group[0]].shared
        bodies = [list(prompts[i].body) for i in group]
        _, batch = self._prefill(shared, bodies)
        mx.eval([(layer.keys, layer.values) for layer in batch])
        for row, i in enumerate(group):
            yield i, [_row(layer, row, len(shared) + len(bodies[row]) - 1) for layer in batch]

    def _prefill(self, shared: tuple[int, ...], bodies: Sequence[Sequence[int]]) -> tuple[Any, list[Kept]]:
        """Hidden states [rows, longest body, width] of right-padded bodies behind the shared prefix, and the caches."""
        longest = max(len(body) for body in bodies)
        padded = np.zeros((len(bodies), longest), np.int32)
        for row, body in enumerate(bodies):
            padded[row, : len(body)] = body
        caches = self._empty()
        if shared:
            caches = [Behind(layer, len(bodies)) for layer in self._prefix(shared)]
        return self._loaded.hidden(mx.array(padded), cache=caches), caches

    def _sharing_more(self, prompts: Sequence[Encoded]) -> list[Encoded]:
        """Prompts whose prefix is as long as can be."""
        longer = sharing_more(prompts)
        if longer:
            self._prefix(longer[0].shared, known=len(prompts[0].shared))
        return longer

    def _prefix(self, shared: tuple[int, ...], known: int = 0) -> list[Kept]:
        """Keys and values of a prefix. They are computed in two steps where its first `known` tokens are one too."""
        caches = self._prefixes.pop(shared, None)
        if caches is None:
            # Behind nothing but that, whatever else is kept: the same pieces give the same bits in a new process.
            first = self._prefix(shared[:known]) if 0 < known < len(shared) else []
            caches = [Behind(layer, 1) for layer in first] if first else self._empty()
            if shared:
                self._loaded.hidden(mx.array([shared[known if first else 0 :]]), cache=caches)
                mx.eval([(layer.keys, layer.values) for layer in caches])
        self._prefixes[shared] = caches
        while len(self._prefixes) > _PREFIXES:
            self._prefixes.pop(next(iter(self._prefixes)))
        return caches

    def _empty(self) -> list[Kept]:
        return [Kept() for _ in range(self._layers)]


def _layers_of(loaded: mlx_load.Loaded) -> int:
    """How many layers the model has. Raises BackendError where one keeps what cannot be repeated for every row."""
    caches = make_prompt_cache(loaded.model)
    other = next((type(cache).__name__ for cache in caches if type(cache) is not KVCache), None)
    if other is not None:
        raise BackendError(
            f"a model of type {loaded.config.get('model_type')} keeps a {other}, which the MLX backend does not know: "
            "take a model whose layers attend to the whole text, as Llama, Qwen 3 and Mistral do"
        )
    return len(caches)


def _reading(loaded: mlx_load.Loaded) -> mlx_load.Loaded:
    """The same for reading only, which is faster on a CPU."""
    return replace(loaded, hidden=mlx_on_cpu.faster(loaded.model, loaded.hidden)) if mlx_load.on_cpu() else loaded


def _row(layer: Kept, row: int, length: int) -> KVCache:
    """One row's cache, cut to its first `length` positions: what was computed on padding stays behind."""
    one = KVCache()
    one.state = (layer.keys[row : row + 1, :, :length], layer.values[row : row + 1, :, :length], length)
    return one
