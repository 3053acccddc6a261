"""What every guard does alike: encode prompts, and group those that share a pass. It loads no model."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import takewhile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wizloop.backends.guard_types import Encoded, Prompt
from wizloop.backends.tokens import Tokens

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


class LocalGuard(GuardBase):
    """A guard whose model runs in this process. Not thread-safe, like the model."""

    def __init__(self, base: str, adapter: Path | None, tokens: Tokens, vocab: int) -> None:
        super().__init__(tokens)
        self.base, self.adapter, self.vocab = base, adapter, vocab


def with_longest_prefix(prompts: Sequence[Encoded]) -> list[Encoded]:
    """Move what all bodies begin with (the markup before a sample) into the shared prefix.

    Prompts with different prefixes are returned unchanged. Every body keeps at least one token.
    """
    bodies = [prompt.body for prompt in prompts]
    if len(bodies) < 2 or len({prompt.shared for prompt in prompts}) > 1:
        return list(prompts)
    # In sorted order the first and the last body differ earliest.
    alike = sum(1 for _ in takewhile(lambda two: two[0] == two[1], zip(min(bodies), max(bodies), strict=False)))
    more = min(alike, min(map(len, bodies)) - 1)
    return [replace(each, shared=each.shared + each.body[:more], body=each.body[more:]) for each in prompts]


def groups(prompts: Sequence[Encoded], rows: int, tokens: int | None = None) -> Iterator[list[int]]:
    """Yield indices of prompts with one prefix and similar lengths, at most `rows` at a time.

    `tokens`, padding included, keep the device busy: below that a group also takes longer prompts. None counts rows
    instead.
    """
    order = sorted(range(len(prompts)), key=lambda i: (prompts[i].shared, len(prompts[i].body), i))
    group: list[int] = []
    for i in order:
        if group and (len(group) == rows or not _fits(prompts[i], prompts[group[0]], len(group), tokens)):
            yield group
            group = []
        group.append(i)
    if group:
        yield group


def padded(bodies: Sequence[Sequence[int]]) -> NDArray[np.int64]:
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
