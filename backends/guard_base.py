"""Base classes of guards: encode prompts, group those that share a pass, score, and sample. Loads no model."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wizloop.backends.guard_types import Choice, Encoded, Prompt, Sampled, Sampling
from wizloop.backends.sampling import Rows, StepSpec, TraceSampler, step_spec
from wizloop.backends.tokens import Tokens

Prefix = tuple[int, ...]
Bodies = Sequence[Sequence[int]]

# A group of this many rows ends at a prompt that is longer than its shortest by more than this factor: shorter rows are
# padded to the longest.
_ENOUGH_ROWS, _MOST_PADDING = 16, 1.2


class GuardBase:
    """A guard's tokenizer and how prompts are encoded with it."""

    def __init__(self, tokens: Tokens) -> None:
        self.tokens = tokens

    def encode(self, prompt: Prompt, *, max_tokens: int) -> Encoded:
        """Encode a prompt in at most `max_tokens`, cutting the sample's text if needed.

        Raises ValueError if the rest leaves no room for the sample.
        """
        return self.tokens.prompt(prompt, max_tokens=max_tokens)

    def count(self, text: str) -> int:
        """Return the number of tokens of a trusted text."""
        return len(self.tokens.encode(text))


class LocalGuard(GuardBase, ABC):
    """A guard whose model runs in this process. Not thread-safe, like the model.

    Shared work is done once: the instruction for all samples, a sample's prompt for all its traces. `busy` is the
    number of tokens in a pass, padding included, that keep the device busy; see `groups`.
    """

    equal = False
    """Whether the rows of a pass that starts traces must be of equal length: a state would read their padding."""

    def __init__(self, base: str, adapter: Path | None, tokens: Tokens, vocab: int, busy: int | None) -> None:
        super().__init__(tokens)
        self.base, self.adapter, self._vocab, self._busy = base, adapter, vocab, busy

    def score(self, prompts: Sequence[Encoded], choice: Choice, *, rows: int = 128) -> NDArray[np.float64]:
        """Return [prompts, words]: the probability of each word of `choice` coming next, among those words.

        One forward pass per prompt.
        """
        common, deciding = self.tokens.deciding(choice)
        result: NDArray[np.float64] = np.empty((len(prompts), len(deciding)))
        with self._inference():
            prompts = self._share(prompts)
            for group in groups(prompts, rows, self._busy):
                bodies = [[*prompts[i].body, *common] for i in group]
                result[group] = self._next_probabilities(prompts[group[0]].shared, bodies, deciding)
        return np.asarray(result / result.sum(axis=1, keepdims=True))

    def sample(self, prompts: Sequence[Encoded], sampling: Sampling) -> list[list[Sampled]]:
        """Return traces for every prompt, in order. The same prompts and sampling give the same traces."""
        caches: dict[int, Any] = {}
        with self._inference():
            # All prompts are prefilled first: the caller's batch bounds the memory, and the order of arrival cannot
            # change the draws.
            prompts = self._share(prompts)
            for group in groups(prompts, sampling.rows, self._busy, equal=self.equal):
                bodies = [prompts[i].body for i in group]
                caches.update(zip(group, self._row_caches(prompts[group[0]].shared, bodies), strict=True))
            rows = self._rows(step_spec(sampling, self.tokens, self._vocab))
            return TraceSampler(rows, self.tokens, sampling, prompts, caches).run(self._order(prompts))

    def states(self, prompts: Sequence[Encoded], *, depth: float) -> NDArray[np.float32] | None:
        """Return [prompts, 2 * width]: hidden states after the first `depth` (0..1) of the blocks; no other one runs.

        First the mean over the sample's own tokens, then the state of the prompt's last token. None for a model whose
        blocks give anything else than one state a token.
        """
        found: list[tuple[int, NDArray[np.float32]]] = []
        with self._inference():
            prompts = self._share(prompts, before_own=True)
            for group in groups(prompts, 128, self._busy):
                some = [prompts[i] for i in group]
                pooled = self._pooled(some[0].shared, [one.body for one in some], _pooling(some), depth)
                if pooled is None:
                    return None
                found += zip(group, pooled.reshape(len(group), -1), strict=True)
        return np.array([state for _, state in sorted(found, key=lambda one: one[0])], np.float32)

    def _share(self, prompts: Sequence[Encoded], *, before_own: bool = False) -> list[Encoded]:
        """Move what all prompts begin with into their prefix, and prefill it."""
        longer = with_longest_prefix(prompts, before_own=before_own)
        if longer:
            self._prefill_prefix(prompts[0].shared, longer[0].shared)
        return longer

    def _order(self, prompts: Sequence[Encoded]) -> Iterable[int]:
        """Return the order in which the prompts' traces begin."""
        return range(len(prompts))

    @abstractmethod
    def _inference(self) -> AbstractContextManager[Any]:
        """Return the context that the model runs in."""

    @abstractmethod
    def _prefill_prefix(self, shared: Prefix, longer: Prefix) -> None:
        """Cache the keys and values of `shared`, and of `longer`, which begins with it."""

    @abstractmethod
    def _next_probabilities(self, shared: Prefix, bodies: Bodies, ids: list[int]) -> NDArray[np.float64]:
        """Return [bodies, ids]: softmax over the logits of `ids` after each body, which follows the shared prefix."""

    @abstractmethod
    def _pooled(
        self, shared: Prefix, bodies: Bodies, weights: NDArray[np.float32], depth: float
    ) -> NDArray[np.float32] | None:
        """Return [bodies, sums, width]: sums by `weights` [bodies, sums, longest body] of the states after a block."""

    @abstractmethod
    def _row_caches(self, shared: Prefix, bodies: Bodies) -> Iterator[Any]:
        """Yield each prompt's cache without padding and its last token, which starts the decoding."""

    @abstractmethod
    def _rows(self, spec: StepSpec) -> Rows:
        """Return the rows to decode in."""


def block_at(depth: float, blocks: int) -> int:
    """Return the number of blocks, from 1, that are `depth` (0..1) of all."""
    return max(1, round(depth * blocks))


def with_longest_prefix(prompts: Sequence[Encoded], *, before_own: bool = False) -> list[Encoded]:
    """Move what all bodies begin with (the markup before a sample) into the shared prefix.

    Prompts with different prefixes are returned unchanged. Every body keeps at least one token, and with `before_own`
    all of the sample's.
    """
    bodies = [prompt.body for prompt in prompts]
    if len(bodies) < 2 or len({prompt.shared for prompt in prompts}) > 1:
        return list(prompts)
    # In sorted order the first and the last body differ earliest.
    alike = sum(1 for _ in takewhile(lambda two: two[0] == two[1], zip(min(bodies), max(bodies), strict=False)))
    more = min(alike, min(map(len, bodies)) - 1)
    if before_own:
        more = min([more, *(start for each in prompts for start, _ in each.own)])
    return [_after(each, more) for each in prompts]


def _after(prompt: Encoded, more: int) -> Encoded:
    own = tuple((max(0, start - more), max(0, end - more)) for start, end in prompt.own)
    return replace(prompt, shared=prompt.shared + prompt.body[:more], body=prompt.body[more:], own=own)


def _pooling(prompts: Sequence[Encoded]) -> NDArray[np.float32]:
    """Return [prompts, 2, longest body]: weights of the mean over a sample's own tokens, and of the last token.

    A sample without a token of its own has the last one's twice.
    """
    weights = np.zeros((len(prompts), 2, max(len(one.body) for one in prompts)), np.float32)
    for row, one in enumerate(prompts):
        own = [at for start, end in one.own for at in range(start, end)] or [len(one.body) - 1]
        weights[row, 0, own] = 1 / len(own)
        weights[row, 1, len(one.body) - 1] = 1
    return weights


def groups(
    prompts: Sequence[Encoded], rows: int, tokens: int | None = None, *, equal: bool = False
) -> Iterator[list[int]]:
    """Yield indices of prompts with one prefix and similar, or `equal`, lengths, at most `rows` at a time.

    `tokens`, padding included, keep the device busy: below that a group also takes longer prompts. None counts rows
    instead.
    """
    order = sorted(range(len(prompts)), key=lambda i: (prompts[i].shared, len(prompts[i].body), i))
    group: list[int] = []
    for i in order:
        first = prompts[group[0]] if group else prompts[i]
        other = equal and len(prompts[i].body) != len(first.body)
        if group and (len(group) == rows or other or not _fits(prompts[i], first, len(group), tokens)):
            yield group
            group = []
        group.append(i)
    if group:
        yield group


def padded(bodies: Bodies) -> NDArray[np.int64]:
    """Return [rows, longest body] token ids, padded on the right."""
    result = np.zeros((len(bodies), max(map(len, bodies))), np.int64)
    for row, body in enumerate(bodies):
        result[row, : len(body)] = body
    return result


def _fits(prompt: Encoded, shortest: Encoded, rows: int, tokens: int | None) -> bool:
    if prompt.shared != shortest.shared:
        return False
    few = rows < _ENOUGH_ROWS if tokens is None else (rows + 1) * len(prompt.body) <= tokens
    return few or len(prompt.body) <= _MOST_PADDING * len(shortest.body)
