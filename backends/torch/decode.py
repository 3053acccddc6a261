"""Decode rows in parallel on torch, one token each per step.

transformers' own cache copies everything at each token; this one has room for many tokens, and rows join and leave only
when it is rebuilt. The sampler decides when a row has ended.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers.cache_utils import DummyLayer, DynamicCache, DynamicLayer, LinearAttentionLayer

from wizloop.backends.sampling import Start, Step, StepSpec, nucleus
from wizloop.backends.torch import caches
from wizloop.backends.torch.load import Loaded

_ROOM = 64
"""Free slots of a rebuilt cache, in tokens."""
# Tokens in the cache: beyond these a CPU reads more padding than another row saves, and a GPU's memory fills (an 8 B
# model takes 128 KiB per token).
_HELD_CPU, _HELD_CUDA = 16_384, 131_072


class Rows:
    """The rows being decoded. Each ends at the same slot; `_mask` says where it begins."""

    def __init__(self, loaded: Loaded, spec: StepSpec) -> None:
        self._loaded, self._spec = loaded, spec
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
        """True if there is no room for another token."""
        return self._used == self._slots

    def most(self, tokens: int) -> int | None:
        """Return how many rows there is room for if the longest has `tokens`."""
        return self._held // tokens

    def renew(self, kept: Sequence[int], starts: Sequence[Start], left: int) -> None:
        """Continue with the rows `kept`, in this order, then `starts`, each for at most `left` more tokens."""
        lengths = [self._lengths[row] for row in kept] + [_length(start.cache) for start in starts]
        used = max(lengths)
        slots = used + min(left, _ROOM)
        made: list[Any] = []
        for at in range(len(starts[0].cache) if starts else len(self._layers())):
            made.append(self._made(at, kept, starts, used, slots))
            # Each old layer is freed before the next new one is built; otherwise a GPU would hold everything twice.
            self._layers()[at : at + 1] = [None]
        self._positions = torch.tensor(lengths, device=self._loaded.device)
        self._mask = torch.arange(slots, device=self._loaded.device)[None, :] >= used - self._positions[:, None]
        self._last = torch.cat([self._last[list(kept)], self._here([start.token for start in starts])])
        self._at = torch.cat([self._at[list(kept)], self._here([0] * len(starts))])
        self._noise = self._noise[list(kept)]
        if starts:
            noise = torch.from_numpy(np.stack([start.noise for start in starts])).to(self._loaded.device)
            self._noise = torch.cat([self._noise, noise]) if kept else noise
        self._lengths, self._used, self._slots = lengths, used, slots
        self._cache = DynamicCache()
        self._cache.layers = made

    def step(self, *, last: bool = False) -> Step:
        """Return every row's next token, as lists."""
        # A row that has ended at its last token stays among the others until the next renewal.
        at = self._at.clamp(max=self._noise.shape[1] - 1)
        self._last, step = next_step(self._logits(), self._noise.gather(1, at[:, None]), self._spec)
        self._at = self._at + 1
        return step

    def _here(self, numbers: Sequence[int]) -> torch.Tensor:
        return torch.tensor(numbers, dtype=torch.long, device=self._loaded.device)

    def _logits(self) -> torch.Tensor:
        """Return float32 logits [rows, vocabulary] after each row's last token, which is added to the cache."""
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

    def _made(self, at: int, kept: Sequence[int], starts: Sequence[Start], used: int, slots: int) -> Any:
        """Return layer `at` with all rows."""
        held = [start.cache[at] for start in starts]
        old = _held(self._layers()[at]) if kept else {}
        names = (held[0] if held else old).keys()
        rooms = [
            self._moved(old.get(name), [each[name] for each in held], kept, used, slots)
            for name in _ROOMS
            if name in names
        ]
        states = {}
        for name in names - _ROOMS.keys():
            rows = [old[name][list(kept)]] if kept else []
            states[name] = torch.cat([*rows, *(each[name] for each in held)])
        return _layer(rooms, states, used)

    def _moved(
        self, old: torch.Tensor | None, new: Sequence[torch.Tensor], kept: Sequence[int], used: int, slots: int
    ) -> torch.Tensor:
        """Copy one layer's keys or values of all rows, each ending at slot `used`.

        Unused slots are zero: a masked slot's value is still multiplied by zero, and garbage could be infinite.
        """
        like = new[0] if new else old
        assert like is not None
        room = like.new_zeros((len(kept) + len(new), like.shape[1], slots, like.shape[3]))
        if kept and old is not None:
            longest = max(self._lengths[row] for row in kept)
            room[: len(kept), :, used - longest : used] = old[:, :, self._used - longest : self._used][list(kept)]
        for row, each in enumerate(new, len(kept)):
            room[row, :, used - each.shape[2] : used] = each[0]
        return room


class _Roomy(DynamicLayer):
    """One layer's keys and values with free slots after those in use."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, used: int) -> None:
        DynamicLayer.__init__(self)
        self.room = (keys, values)
        self.used = used
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write new states into free slots; return all slots in use."""
        end = self.used + key_states.shape[2]
        for room, states in zip(self.room, (key_states, value_states), strict=True):
            room[:, :, self.used : end] = states
        self.used = end
        return self.room[0][:, :, :end], self.room[1][:, :, :end]

    def get_seq_length(self) -> int:
        """Return the number of slots in use."""
        return self.used


class _RoomyWithStates(_Roomy, LinearAttentionLayer):
    """A layer that attends and keeps a state, as in Falcon H1."""


_ROOMS = dict.fromkeys(("keys", "values"))


def _length(layers: caches.Held) -> int:
    return next(layer["keys"].shape[2] for layer in layers if "keys" in layer)


def _held(layer: Any) -> dict[str, torch.Tensor]:
    """Return a layer's tensors, keys and values with their free slots."""
    states = {name: each for name, each in caches.layer_tensors(layer).items() if name not in _ROOMS}
    return dict(zip(_ROOMS, layer.room, strict=True)) | states if isinstance(layer, _Roomy) else states


def _layer(rooms: Sequence[torch.Tensor], states: dict[str, torch.Tensor], used: int) -> Any:
    if not rooms and not states:
        return DummyLayer()
    kind: Any = _RoomyWithStates if states else _Roomy
    layer = kind(*rooms, used) if rooms else LinearAttentionLayer()
    if states:
        caches.give_states(layer, states)
    return layer


def next_step(logits: torch.Tensor, noise: torch.Tensor, spec: StepSpec) -> tuple[torch.Tensor, Step]:
    """Compute the next tokens, on the device, and the step as lists.

    From logits [rows, vocabulary] and random numbers [rows, 1] in [0, 1).
    """
    top, ids = logits.topk(spec.width(logits.shape[-1]), dim=-1)
    confidences = logits.logsumexp(dim=-1) - top[:, : spec.k].mean(dim=-1)
    tokens = ids[:, 0]
    if spec.temperature:
        chosen = nucleus(torch, torch.softmax(top / spec.temperature, dim=-1), noise, spec.top_p)
        tokens = ids.gather(1, chosen)[:, 0]
    watched = [torch.softmax(logits[:, list(words)], dim=-1) for words in spec.watch.values()]
    # One transfer from the device; a float32 holds a token's id exactly.
    rows = torch.cat([tokens[:, None].float(), confidences[:, None], *watched], dim=-1).tolist()
    at, by_name = 2, {}
    for name, words in spec.watch.items():
        by_name[name] = [row[at : at + len(words)] for row in rows]
        at += len(words)
    return tokens, Step([int(row[0]) for row in rows], [row[1] for row in rows], by_name)
