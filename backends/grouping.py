"""Which prompts go through a model together: those with the same prefix, of similar lengths. It knows no model."""

from collections.abc import Iterator, Sequence

from wizloop.backends.guard_types import Encoded

# From so many rows on a group ends where a prompt is longer than the shortest by more than this share: the shorter ones
# are padded to it.
_ENOUGH, _LONGER = 16, 1.2


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
