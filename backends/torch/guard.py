"""A guard on torch: scores verdict words, samples traces with their confidences.

What is shared is computed once: the instruction for all samples, a sample's prompt for all its traces. Confidences and
verdict probabilities are read on the device from raw logits, before temperature and top-p.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from wizloop.backends.grouping import groups, sharing_more
from wizloop.backends.guard_types import BackendError, Choice, Encoded, Prompt, Sampled, Sampling
from wizloop.backends.sampling import TraceSampler, reading_of
from wizloop.backends.tokens import Tokens
from wizloop.backends.torch import load as torch_load
from wizloop.backends.torch.decode import KeysValues, Rows, of_rows

# How many different prefixes keep their cache: an instruction, what samples share behind it, and these once more while
# a caller changes from one to another.
_PREFIXES = 4
# Tokens that keep a CPU, or a card, busy.
_ENOUGH_CPU, _ENOUGH_CUDA = 256, 16_384


def load(
    base: str, adapter: Path | None = None, *, quantise: bool = False, device: str = "cpu", fuse: bool = True
) -> "Guard":
    """The guard at `base` (folder or hub name) with `adapter` over it. Raises ModelMissing, BadArtifact, BackendError.

    `device` is one of torch's, as torch_load.choose_device gives it.
    """
    return Guard(base, adapter, torch_load.load(base, adapter, quantise=quantise, device=device, fuse=fuse))


class Guard:
    """A model that can be asked. Not thread-safe, like the model under it."""

    def __init__(self, base: str, adapter: Path | None, loaded: torch_load.Loaded) -> None:
        self.base, self.adapter = base, adapter
        self._loaded = loaded
        self.tokens = Tokens(loaded.tokenizer, loaded.ends)
        text_config = loaded.model.config.get_text_config()
        self.vocab: int = int(text_config.vocab_size)
        self.end_text: str = self.tokens.decode([self.tokens.end])
        self._enough = _ENOUGH_CPU if loaded.device == "cpu" else _ENOUGH_CUDA
        self._prefixes: dict[tuple[int, ...], KeysValues] = {}
        _refuse_other_caches(loaded.model.config)

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
        with torch.inference_mode():
            for group in groups(prompts, rows, self._enough):
                bodies = [[*prompts[i].body, *common] for i in group]
                states, _ = self._prefill(prompts[group[0]].shared, bodies)
                last = states[range(len(bodies)), [len(body) - 1 for body in bodies]]
                chosen = self._loaded.head(last)[:, deciding].float()
                result[group] = torch.softmax(chosen, dim=-1).double().cpu().numpy()
        return result / result.sum(axis=1, keepdims=True)

    def sample(self, prompts: Sequence[Encoded], sampling: Sampling) -> list[list[Sampled]]:
        """Traces for every prompt, in the prompts' order. The same prompts and sampling give the same traces."""
        prompts = self._sharing_more(prompts)
        caches: dict[int, KeysValues] = {}
        with torch.inference_mode():
            for group in groups(prompts, sampling.rows, self._enough):
                caches.update(self._row_caches(prompts, group))
            rows = Rows(self._loaded, reading_of(sampling, self.tokens, self.vocab))
            # By length, so that rows of like lengths stand side by side.
            order = sorted(range(len(prompts)), key=lambda i: len(prompts[i].shared) + len(prompts[i].body))
            return TraceSampler(rows, self.tokens, sampling, prompts, caches).run(order)

    def _row_caches(self, prompts: Sequence[Encoded], group: list[int]) -> Iterator[tuple[int, KeysValues]]:
        """Each prompt's keys and values without its last token, which starts the decoding, and without padding."""
        shared = prompts[group[0]].shared
        bodies = [prompts[i].body for i in group]
        _, cache = self._prefill(shared, bodies)
        for row, i in enumerate(group):
            length = len(shared) + len(bodies[row]) - 1
            yield (
                i,
                [(k[row : row + 1, :, :length], v[row : row + 1, :, :length]) for k, v in _keys_values(cache)],
            )

    def _prefill(self, shared: tuple[int, ...], bodies: Sequence[Sequence[int]]) -> tuple[torch.Tensor, DynamicCache]:
        """Hidden states [rows, longest body, width] of right-padded bodies behind the shared prefix, and the cache."""
        padded = np.zeros((len(bodies), max(len(body) for body in bodies)), np.int64)
        for row, body in enumerate(bodies):
            padded[row, : len(body)] = body
        cache = of_rows(self._prefix(shared), len(bodies)) if shared else DynamicCache()
        given = torch.from_numpy(padded).to(self._loaded.device)
        # No mask for the padding: it stands behind every token that is read.
        return self._read(given, cache), cache

    def _read(self, tokens: torch.Tensor, cache: DynamicCache) -> torch.Tensor:
        """Return hidden states [rows, tokens, width]; the cache grows by the tokens' keys and values."""
        passed = {self._loaded.cache_argument: cache}
        states: torch.Tensor = self._loaded.hidden(input_ids=tokens, use_cache=True, **passed).last_hidden_state
        return states

    def _sharing_more(self, prompts: Sequence[Encoded]) -> list[Encoded]:
        """Prompts whose prefix is as long as can be; what it grew from is there already, or soon wanted again."""
        longer = sharing_more(prompts)
        if longer and prompts[0].shared:
            with torch.inference_mode():
                self._prefix(prompts[0].shared)
        return longer

    def _prefix(self, shared: tuple[int, ...]) -> KeysValues:
        """Keys and values of a prefix, kept; a longer one goes on from the longest that is known."""
        if shared not in self._prefixes:
            known = max((each for each in self._prefixes if each == shared[: len(each)]), key=len, default=())
            cache = of_rows(self._prefixes[known], 1) if known else DynamicCache()
            given = torch.tensor([shared[len(known) :]], device=self._loaded.device)
            self._read(given, cache)
            while len(self._prefixes) >= _PREFIXES:
                self._prefixes.pop(next(iter(self._prefixes)))
            self._prefixes[shared] = _keys_values(cache)
        return self._prefixes[shared]


def _keys_values(cache: DynamicCache) -> KeysValues:
    return [(layer.keys, layer.values) for layer in cache.layers]


def _refuse_other_caches(config: Any) -> None:
    """Rows can join and leave only where all that a layer remembers are keys and values."""
    known = (DynamicLayer, DynamicSlidingWindowLayer)
    for layer in DynamicCache(config=config).layers:
        if type(layer) not in known:
            raise BackendError(
                f"a model of type {config.model_type} keeps a {type(layer).__name__}, which the torch backend does not "
                "know: take a model with attention alone"
            )
