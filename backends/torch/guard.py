"""A guard on torch: scores verdict words and samples traces with their confidences.

Confidences and verdict probabilities are computed on the device from raw logits, before temperature and top-p.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from wizloop.backends.guard_base import Bodies, LocalGuard, Prefix, padded
from wizloop.backends.guard_types import BackendError, Encoded
from wizloop.backends.sampling import StepSpec
from wizloop.backends.tokens import Tokens
from wizloop.backends.torch import load as torch_load
from wizloop.backends.torch.decode import KeysValues, Rows, of_rows

# Prefixes that keep their cache: an instruction, what samples share after it, and these once more while a caller
# changes from one instruction to another.
_PREFIXES = 4
# Tokens that keep a CPU, or a GPU, busy.
_BUSY_CPU, _BUSY_CUDA = 256, 16_384


def load(
    base: str, adapter: Path | None = None, *, quantise: bool = False, device: str = "cpu", fuse: bool = True
) -> "Guard":
    """Load the guard at `base` (folder or hub name) with `adapter`. Raises ModelMissing, BadArtifact, BackendError.

    `device` is torch's name for one, as devices.choose_device returns it.
    """
    return Guard(base, adapter, torch_load.load(base, adapter, quantise=quantise, device=device, fuse=fuse))


class Guard(LocalGuard):
    """A guard on torch."""

    def __init__(self, base: str, adapter: Path | None, loaded: torch_load.Loaded) -> None:
        config = loaded.model.config
        vocab = int(config.get_text_config().vocab_size)
        busy = _BUSY_CPU if loaded.device == "cpu" else _BUSY_CUDA
        super().__init__(base, adapter, Tokens(loaded.tokenizer, loaded.ends), vocab, busy)
        self._loaded = loaded
        self._prefixes: dict[Prefix, KeysValues] = {}
        _refuse_other_caches(config)

    def _inference(self) -> AbstractContextManager[Any]:
        context: AbstractContextManager[Any] = torch.inference_mode()
        return context

    def _rows(self, spec: StepSpec) -> Rows:
        return Rows(self._loaded, spec)

    def _order(self, prompts: Sequence[Encoded]) -> list[int]:
        # By length, so that rows of similar length are decoded together.
        return sorted(range(len(prompts)), key=lambda i: len(prompts[i].shared) + len(prompts[i].body))

    def _next_probabilities(self, shared: Prefix, bodies: Bodies, ids: list[int]) -> NDArray[np.float64]:
        states, _ = self._prefill(shared, bodies)
        last = states[range(len(bodies)), [len(body) - 1 for body in bodies]]
        chosen = self._loaded.head(last)[:, ids].float()
        return np.asarray(torch.softmax(chosen, dim=-1).double().cpu().numpy())

    def _row_caches(self, shared: Prefix, bodies: Bodies) -> Iterator[KeysValues]:
        _, cache = self._prefill(shared, bodies)
        for row, body in enumerate(bodies):
            length = len(shared) + len(body) - 1
            yield [(k[row : row + 1, :, :length], v[row : row + 1, :, :length]) for k, v in _keys_values(cache)]

    def _prefill(self, shared: Prefix, bodies: Bodies) -> tuple[torch.Tensor, DynamicCache]:
        """Return hidden states [rows, longest body, width] of padded bodies after the shared prefix, and the cache."""
        cache = of_rows(self._prefix(shared), len(bodies)) if shared else DynamicCache()
        # No mask for the padding: it comes after every token that is read.
        return self._forward(torch.from_numpy(padded(bodies)).to(self._loaded.device), cache), cache

    def _prefill_prefix(self, shared: Prefix, longer: Prefix) -> None:
        # `longer` is computed from `shared` when it is first used.
        if shared:
            self._prefix(shared)

    def _forward(self, tokens: torch.Tensor, cache: DynamicCache) -> torch.Tensor:
        """Return hidden states [rows, tokens, width]; the cache grows by the tokens' keys and values."""
        passed = {self._loaded.cache_argument: cache}
        states: torch.Tensor = self._loaded.hidden(input_ids=tokens, use_cache=True, **passed).last_hidden_state
        return states

    def _prefix(self, shared: Prefix) -> KeysValues:
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
                "know: use a model with attention only"
            )
