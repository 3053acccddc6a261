"""A guard on torch: scores verdict words and samples traces with their confidences.

Shared work is done once: the instruction for all samples, a sample's prompt for all its traces. Confidences and verdict
probabilities are computed on the device from raw logits, before temperature and top-p.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from wizloop.backends.guard_base import LocalGuard, groups, padded, with_longest_prefix
from wizloop.backends.guard_types import BackendError, Choice, Encoded, Sampled, Sampling
from wizloop.backends.sampling import TraceSampler, step_spec
from wizloop.backends.tokens import Tokens
from wizloop.backends.torch import load as torch_load
from wizloop.backends.torch.decode import KeysValues, Rows, of_rows

# Prefixes that keep their cache: an instruction, what samples share behind it, and these once more while a caller
# changes from one instruction to another.
_PREFIXES = 4
# Tokens that keep a CPU, or a card, busy.
_BUSY_CPU, _BUSY_CUDA = 256, 16_384


def load(
    base: str, adapter: Path | None = None, *, quantise: bool = False, device: str = "cpu", fuse: bool = True
) -> "Guard":
    """Load the guard at `base` (folder or hub name) with `adapter`. Raises ModelMissing, BadArtifact, BackendError.

    `device` is torch's name for one, as devices.choose_device returns it.
    """
    return Guard(base, adapter, torch_load.load(base, adapter, quantise=quantise, device=device, fuse=fuse))


class Guard(LocalGuard):
    """A model to ask on torch."""

    def __init__(self, base: str, adapter: Path | None, loaded: torch_load.Loaded) -> None:
        config = loaded.model.config
        vocab = int(config.get_text_config().vocab_size)
        super().__init__(base, adapter, Tokens(loaded.tokenizer, loaded.ends), vocab)
        self._loaded = loaded
        self._busy = _BUSY_CPU if loaded.device == "cpu" else _BUSY_CUDA
        self._prefixes: dict[tuple[int, ...], KeysValues] = {}
        _refuse_other_caches(config)

    @torch.inference_mode()
    def score(self, prompts: Sequence[Encoded], choice: Choice, *, rows: int = 128) -> NDArray[np.float64]:
        """Return [prompts, words]: the probability of each word of `choice` coming next, among those words.

        One forward pass per prompt.
        """
        common, deciding = self.tokens.deciding(choice)
        prompts = self._with_longest_prefix(prompts)
        result = np.empty((len(prompts), len(deciding)))
        for group in groups(prompts, rows, self._busy):
            bodies = [[*prompts[i].body, *common] for i in group]
            states, _ = self._prefill(prompts[group[0]].shared, bodies)
            last = states[range(len(bodies)), [len(body) - 1 for body in bodies]]
            chosen = self._loaded.head(last)[:, deciding].float()
            result[group] = torch.softmax(chosen, dim=-1).double().cpu().numpy()
        return result / result.sum(axis=1, keepdims=True)

    @torch.inference_mode()
    def sample(self, prompts: Sequence[Encoded], sampling: Sampling) -> list[list[Sampled]]:
        """Return traces for every prompt, in order. The same prompts and sampling give the same traces."""
        prompts = self._with_longest_prefix(prompts)
        caches: dict[int, KeysValues] = {}
        for group in groups(prompts, sampling.rows, self._busy):
            caches.update(self._row_caches(prompts, group))
        rows = Rows(self._loaded, step_spec(sampling, self.tokens, self.vocab))
        # By length, so that rows of similar length are decoded together.
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i].shared) + len(prompts[i].body))
        return TraceSampler(rows, self.tokens, sampling, prompts, caches).run(order)

    def _row_caches(self, prompts: Sequence[Encoded], group: list[int]) -> Iterator[tuple[int, KeysValues]]:
        """Yield each prompt's keys and values without padding and its last token, which starts the decoding."""
        shared = prompts[group[0]].shared
        bodies = [prompts[i].body for i in group]
        _, cache = self._prefill(shared, bodies)
        for row, i in enumerate(group):
            length = len(shared) + len(bodies[row]) - 1
            yield i, [(k[row : row + 1, :, :length], v[row : row + 1, :, :length]) for k, v in _keys_values(cache)]

    def _prefill(self, shared: tuple[int, ...], bodies: Sequence[Sequence[int]]) -> tuple[torch.Tensor, DynamicCache]:
        """Return hidden states [rows, longest body, width] of padded bodies behind the shared prefix, and the cache."""
        cache = of_rows(self._prefix(shared), len(bodies)) if shared else DynamicCache()
        # No mask for the padding: it is behind every token that is read.
        return self._forward(torch.from_numpy(padded(bodies)).to(self._loaded.device), cache), cache

    def _forward(self, tokens: torch.Tensor, cache: DynamicCache) -> torch.Tensor:
        """Return hidden states [rows, tokens, width]; the cache grows by the tokens' keys and values."""
        passed = {self._loaded.cache_argument: cache}
        states: torch.Tensor = self._loaded.hidden(input_ids=tokens, use_cache=True, **passed).last_hidden_state
        return states

    def _with_longest_prefix(self, prompts: Sequence[Encoded]) -> list[Encoded]:
        longer = with_longest_prefix(prompts)
        if longer and prompts[0].shared:
            # The longer prefix is computed from it, and it is often wanted again.
            self._prefix(prompts[0].shared)
        return longer

    def _prefix(self, shared: tuple[int, ...]) -> KeysValues:
        """Return a prefix's keys and values, computed from the longest cached prefix of it."""
        if shared not in self._prefixes:
            known = max((each for each in self._prefixes if each == shared[: len(each)]), key=len, default=())
            cache = of_rows(self._prefixes[known], 1) if known else DynamicCache()
            self._forward(torch.tensor([shared[len(known) :]], device=self._loaded.device), cache)
            while len(self._prefixes) >= _PREFIXES:
                self._prefixes.pop(next(iter(self._prefixes)))
            self._prefixes[shared] = _keys_values(cache)
        return self._prefixes[shared]


def _keys_values(cache: DynamicCache) -> KeysValues:
    return [(layer.keys, layer.values) for layer in cache.layers]


def _refuse_other_caches(config: Any) -> None:
    """Raise BackendError for a layer that caches more than keys and values: its rows could not join and leave."""
    known = (DynamicLayer, DynamicSlidingWindowLayer)
    for layer in DynamicCache(config=config).layers:
        if type(layer) not in known:
            raise BackendError(
                f"a model of type {config.model_type} keeps a {type(layer).__name__}, which the torch backend does not "
                "know: take a model with attention alone"
            )
