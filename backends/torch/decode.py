"""Rows that a torch model writes side by side, one token each at a time: their keys and values, and what they end in.

transformers' own cache grows by copying everything at each token; here there is room for many tokens at once, and rows
join and leave only when it is made anew. When a row has ended is the sampler's.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers.cache_utils import DynamicCache, DynamicLayer

from wizloop.backends.sampling import Reading, Start, Step
from wizloop.backends.torch.load import Loaded
from wizloop.backends.torch.logits import read

KeysValues = list[tuple[torch.Tensor, torch.Tensor]]
"""Of each layer, keys and values [rows, heads, length, width]."""

_ROOM = 64
"""Tokens that are made room for at once."""
# Tokens whose keys and values are held at once: past these a CPU reads more padding than it saves by another row, and a
# card's memory fills (an 8 B model takes 128 KiB a token).
_HELD_CPU, _HELD_CUDA = 16_384, 131_072


def of_rows(layers: KeysValues, rows: int) -> DynamicCache:
    """transformers' cache of one row's keys and values for `rows` rows. Nothing is copied until more is added."""
    cache = DynamicCache()
    for keys, values in layers:
        layer = DynamicLayer()
        layer.lazy_initialization(keys, values)
        layer.keys, layer.values = keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1)
        cache.layers.append(layer)
    return cache


class Rows:
    """The rows that are being written. Each ends at the same slot; `mask` tells where it begins."""

    def __init__(self, loaded: Loaded, reading: Reading) -> None:
        self._loaded, self._reading = loaded, reading
        self._held = _HELD_CPU if loaded.device == "cpu" else _HELD_CUDA
        self._cache: DynamicCache | None = None
        self._used = self._slots = 0
        self._mask = torch.zeros((0, 0), dtype=torch.bool, device=loaded.device)
        self._lengths: list[int] = []
        self._positions = torch.zeros(0, dtype=torch.long, device=loaded.device)
        self._last = torch.zeros(0, dtype=torch.long, device=loaded.device)
        self._noise = torch.zeros((0, 0), device=loaded.device)
        self._at = torch.zeros(0, dtype=torch.long, device=loaded.device)

    @property
    def full(self) -> bool:
        """Whether there is no room for another token."""
        return self._used == self._slots

    def most(self, tokens: int) -> int | None:
        """How many rows there is room for where the longest comes to so many tokens."""
        return self._held // tokens

    def renew(self, kept: Sequence[int], starts: Sequence[Start], left: int) -> None:
        """Go on with the rows `kept`, in this order, and `starts` behind them, each for at most `left` tokens more."""
        lengths = [self._lengths[row] for row in kept] + [start.cache[0][0].shape[2] for start in starts]
        used = max(lengths)
        slots = used + min(left, _ROOM)
        made: list[Any] = []
        for at in range(len(starts[0].cache) if starts else len(self._layers())):
            keys, values = (self._moved(at, which, kept, starts, used, slots) for which in (0, 1))
            made.append(_Roomy(keys, values, used))
            # Each old layer is let go before the next new one is made, or a card would hold everything twice.
            self._layers()[at : at + 1] = [None]
        self._positions = torch.tensor(lengths, device=self._loaded.device)
        self._mask = torch.arange(slots, device=self._loaded.device)[None, :] >= used - self._positions[:, None]
        self._last = torch.cat([self._last[list(kept)], self._here([start.token for start in starts])])
        self._at = torch.cat([self._at[list(kept)], self._here([0] * len(starts))])
        if starts:
            noise = torch.from_numpy(np.stack([start.noise for start in starts])).to(self._loaded.device)
            self._noise = torch.cat([self._noise[list(kept)], noise]) if kept else noise
        else:
            self._noise = self._noise[list(kept)]
        self._lengths, self._used, self._slots = lengths, used, slots
        self._cache = DynamicCache()
        self._cache.layers = made

    def step(self, *, last: bool = False) -> Step:
        """Every row's next token, as lists."""
        # A row that has ended at its last token stands beside the others until rows are renewed.
        at = self._at.clamp(max=self._noise.shape[1] - 1)
        self._last, said = read(self._logits(), self._noise.gather(1, at[:, None])[:, 0], self._reading)
        self._at = self._at + 1
        return said

    def _here(self, numbers: Sequence[int]) -> torch.Tensor:
        return torch.tensor(numbers, dtype=torch.long, device=self._loaded.device)

    def _logits(self) -> torch.Tensor:
        """[rows, vocabulary], float32: what comes after each row's last token, which joins the keys and values."""
        states = self._loaded.hidden(
            input_ids=self._last[:, None],
            attention_mask=self._mask[:, : self._used + 1],
            position_ids=self._positions[:, None],
            use_cache=True,
            **{self._loaded.cache_argument: self._cache},
        ).last_hidden_state
        self._used += 1
        self._lengths = [length + 1 for length in self._lengths]
        self._positions = self._positions + 1
        return self._loaded.head(states[:, -1]).float()

    def _layers(self) -> list[Any]:
        layers: list[Any] = self._cache.layers if self._cache is not None else []
        return layers

    def _moved(
        self, at: int, which: int, kept: Sequence[int], starts: Sequence[Start], used: int, slots: int
    ) -> torch.Tensor:
        """Layer `at`'s keys (0) or values (1) of all rows, each ending at slot `used`. What is not written is zero, for
        a masked slot's value still meets a factor of zero, and rubbish could be infinite.
        """
        like = starts[0].cache[at][which] if starts else self._layers()[at].room[which]
        room = like.new_zeros((len(kept) + len(starts), like.shape[1], slots, like.shape[3]))
        if kept:
            longest = max(self._lengths[row] for row in kept)
            old = self._layers()[at].room[which][:, :, self._used - longest : self._used]
            room[: len(kept), :, used - longest : used] = old[list(kept)]
        for row, start in enumerate(starts, len(kept)):
            each = start.cache[at][which]
            room[row, :, used - each.shape[2] : used] = each[0]
        return room


class _Roomy(DynamicLayer):
    """One layer's keys and values with free slots behind those in use."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, used: int) -> None:
        super().__init__()
        self.room = (keys, values)
        self.used = used
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write what is new into free slots; all that is in use."""
        end = self.used + key_states.shape[2]
        for room, states in zip(self.room, (key_states, value_states), strict=True):
            room[:, :, self.used : end] = states
        self.used = end
        return self.room[0][:, :, :end], self.room[1][:, :, :end]

    def get_seq_length(self) -> int:
        """Slots in use."""
        return self.used
