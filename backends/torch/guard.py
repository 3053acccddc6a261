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
from transformers.cache_utils import DynamicCache

from wizloop.backends import unreadable
from wizloop.backends.guard_base import Bodies, LocalGuard, Prefix, padded
from wizloop.backends.guard_types import Encoded
from wizloop.backends.sampling import StepSpec
from wizloop.backends.tokens import Tokens
from wizloop.backends.torch import block_states, caches
from wizloop.backends.torch import load as torch_load
from wizloop.backends.torch.caches import Held
from wizloop.backends.torch.decode import Rows

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
    loaded = torch_load.load(base, adapter, quantise=quantise, device=device, fuse=fuse)
    with unreadable.reading(f"{base}: cannot be loaded as a model"):
        return Guard(base, adapter, loaded)


class Guard(LocalGuard):
    """A guard on torch."""

    def __init__(self, base: str, adapter: Path | None, loaded: torch_load.Loaded) -> None:
        config = loaded.model.config
        vocab = int(config.get_text_config().vocab_size)
        busy = _BUSY_CPU if loaded.device == "cpu" else _BUSY_CUDA
        super().__init__(base, adapter, Tokens(loaded.tokenizer, loaded.ends), vocab, busy)
        self._loaded = loaded
        self._prefixes: dict[Prefix, Held] = {}
        self.equal = caches.has_states(config)

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
        assert states is not None
        last = states[range(len(bodies)), [len(body) - 1 for body in bodies]]
        chosen = self._loaded.head(last)[:, ids].float()
        return np.asarray(torch.softmax(chosen, dim=-1).double().cpu().numpy())

    def _pooled(
        self, shared: Prefix, bodies: Bodies, weights: NDArray[np.float32], depth: float
    ) -> NDArray[np.float32] | None:
        if shared:
            # Before the pass that ends early: a prefix is kept after all blocks.
            self._prefix(shared)
        hidden = block_states.after(self._loaded.model, depth, lambda: self._prefill(shared, bodies))
        if hidden.ndim != 3:
            return None
        pooled = torch.from_numpy(weights).to(self._loaded.device) @ hidden.float()
        return np.asarray(pooled.cpu().numpy())

    def _row_caches(self, shared: Prefix, bodies: Bodies) -> Iterator[Held]:
        if self.equal:
            # A state cannot be cut back by the last token, which decoding starts with.
            bodies = [body[:-1] for body in bodies]
        _, cache = self._prefill(shared, bodies)
        held = caches.held(cache)
        for row, body in enumerate(bodies):
            yield caches.of_row(held, row, len(shared) + len(body) - (not self.equal))

    def _prefill(self, shared: Prefix, bodies: Bodies) -> tuple[torch.Tensor | None, DynamicCache]:
        """Return hidden states [rows, longest body, width] of padded bodies after the shared prefix, and the cache.

        Empty bodies have no hidden states.
        """
        cache = caches.of_rows(self._prefix(shared), len(bodies)) if shared else self._empty()
        # No mask for the padding: it comes after every token that is read.
        tokens = torch.from_numpy(padded(bodies)).to(self._loaded.device)
        return (self._forward(tokens, cache) if tokens.shape[1] else None), cache

    def _prefill_prefix(self, shared: Prefix, longer: Prefix) -> None:
        # `longer` is computed from `shared` when it is first used.
        if shared:
            self._prefix(shared)

    def _forward(self, tokens: torch.Tensor, cache: DynamicCache) -> torch.Tensor:
        """Return hidden states [rows, tokens, width]; the cache grows by the tokens' keys and values."""
        passed = {self._loaded.cache_argument: cache}
        states: torch.Tensor = self._loaded.hidden(input_ids=tokens, use_cache=True, **passed).last_hidden_state
        return states

    def _prefix(self, shared: Prefix) -> Held:
        """Return what the cache holds after a prefix, computed from the longest cached prefix of it."""
        if shared not in self._prefixes:
            known = max((each for each in self._prefixes if each == shared[: len(each)]), key=len, default=())
            cache = caches.of_rows(self._prefixes[known], 1) if known else self._empty()
            self._forward(torch.tensor([shared[len(known) :]], device=self._loaded.device), cache)
            while len(self._prefixes) >= _PREFIXES:
                self._prefixes.pop(next(iter(self._prefixes)))
            self._prefixes[shared] = caches.held(cache)
        return self._prefixes[shared]

    def _empty(self) -> DynamicCache:
        return caches.empty(self._loaded.model.config, states=self.equal)
