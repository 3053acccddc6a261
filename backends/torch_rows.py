"""Rows that a torch model writes side by side, one token each at a time: their keys and values, and what they end in.

transformers' own cache grows by copying everything at each token; here there is room for many tokens at once, and rows
join and leave only when it is made anew. What the tokens mean, and when a row has ended, is the sampler's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers.cache_utils import DynamicCache, DynamicLayer

from wizloop.backends.torch_load import Loaded

KeysValues = list[tuple[torch.Tensor, torch.Tensor]]
"""Of each layer, keys and values [rows, heads, length, width]."""

_ROOM = 64
"""Tokens that are made room for at once."""


@dataclass(frozen=True, slots=True)
class Start:
    """A row to begin: a prompt's keys and values without its last token, and that token."""

    cache: KeysValues
    last: int


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

    def __init__(self, loaded: Loaded) -> None:
        self._loaded = loaded
        self._cache: DynamicCache | None = None
        self._used = self._slots = 0
        self._mask = torch.zeros((0, 0), dtype=torch.bool, device=loaded.device)
        self._lengths: list[int] = []
        self._positions = torch.zeros(0, dtype=torch.long, device=loaded.device)
        self._last = torch.zeros(0, dtype=torch.long, device=loaded.device)

    @property
    def full(self) -> bool:
        """Whether there is no room for another token."""
        return self._used == self._slots

    def renew(self, kept: Sequence[int], new: Sequence[Start], room: int) -> None:
        """Keep these rows, in this order, and begin new ones behind them, with room for at most `room` tokens more."""
        lengths = [self._lengths[row] for row in kept] + [start.cache[0][0].shape[2] for start in new]
        used = max(lengths)
        slots = used + min(room, _ROOM)
        made: list[Any] = []
        for at in range(len(new[0].cache) if new else len(self._layers())):
            keys, values = (self._moved(at, which, kept, new, used, slots) for which in (0, 1))
            made.append(_Roomy(keys, values, used))
            # Each old layer is let go before the next new one is made, or a card would hold everything twice.
            self._layers()[at : at + 1] = [None]
        self._positions = torch.tensor(lengths, device=self._loaded.device)
        self._mask = torch.arange(slots, device=self._loaded.device)[None, :] >= used - self._positions[:, None]
        last = torch.tensor([start.last for start in new], dtype=torch.long, device=self._loaded.device)
        self._last = torch.cat([self._last[list(kept)], last])
        self._lengths, self._used, self._slots = lengths, used, slots
        self._cache = DynamicCache()
        self._cache.layers = made

    def logits(self) -> torch.Tensor:
        """[rows, vocabulary], float32: what comes after each row's last token, which joins the keys and values."""
        states = self._loaded.hidden(
            input_ids=self._last[:, None],
            attention_mask=self._mask[:, : self._used + 1],
            position_ids=self._positions[:, None],
            past_key_values=self._cache,
            use_cache=True,
        ).last_hidden_state
        self._used += 1
        self._lengths = [length + 1 for length in self._lengths]
        self._positions = self._positions + 1
        return self._loaded.head(states[:, -1]).float()

    def end_in(self, tokens: torch.Tensor) -> None:
        """The rows' next tokens."""
        self._last = tokens

    def _layers(self) -> list[Any]:
        layers: list[Any] = self._cache.layers if self._cache is not None else []
        return layers

    def _moved(
        self, at: int, which: int, kept: Sequence[int], new: Sequence[Start], used: int, slots: int
    ) -> torch.Tensor:
        """Layer `at`'s keys (0) or values (1) of all rows, each ending at slot `used`. What is not written is zero, for
        a masked slot's value still meets a factor of zero, and rubbish could be infinite.
        """
        like = new[0].cache[at][which] if new else self._layers()[at].room[which]
        room = like.new_zeros((len(kept) + len(new), like.shape[1], slots, like.shape[3]))
        if kept:
            longest = max(self._lengths[row] for row in kept)
            old = self._layers()[at].room[which][:, :, self._used - longest : self._used]
            room[: len(kept), :, used - longest : used] = old[list(kept)]
        for row, start in enumerate(new, len(kept)):
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
