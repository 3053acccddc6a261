"""What prompts share, and which go through a model together: those with one prefix, of similar lengths.

It knows no model.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import takewhile

from wizloop.backends.guard_types import Encoded

# From so many rows on a group ends where a prompt is longer than the shortest by more than this share: the shorter ones
# are padded to it.
_ENOUGH, _LONGER = 16, 1.2


def sharing_more(prompts: Sequence[Encoded]) -> list[Encoded]:
    """The same prompts; what the bodies of all begin with, the markup in front of a sample, belongs to the prefix.

    As they are where they have several prefixes. A token stays in each body.
    """
    bodies = [one.body for one in prompts]
    if len(bodies) < 2 or len({one.shared for one in prompts}) > 1:
        return list(prompts)
    # Of all bodies in order, the first and the last differ soonest.
    alike = sum(1 for _ in takewhile(lambda two: two[0] == two[1], zip(min(bodies), max(bodies), strict=False)))
    more = min(alike, min(map(len, bodies)) - 1)
    return [replace(one, shared=one.shared + one.body[:more], body=one.body[more:]) for one in prompts]


def groups(prompts: Sequence[Encoded], rows: int, tokens: int | None = None) -> Iterator[list[int]]:
    """Indices of prompts with the same prefix and similar lengths, at most `rows` at a time.

    `tokens` is how many, padding included, are enough to keep the device busy: up to there a group takes in longer
    prompts too. None counts rows instead.
    """
    order = sorted(range(len(prompts)), key=lambda i: (prompts[i].shared, len(prompts[i].body), i))
    group: list[int] = []
    for i in order:
        if group and (len(group) == rows or not _beside(prompts[i], prompts[group[0]], len(group), tokens)):
            yield group
            group = []
        group.append(i)
    if group:
        yield group


def _beside(one: Encoded, shortest: Encoded, rows: int, tokens: int | None) -> bool:
    if one.shared != shortest.shared:
        return False
    few = rows < _ENOUGH if tokens is None else (rows + 1) * len(one.body) <= tokens
    return few or len(one.body) <= _LONGER * len(shortest.body)
