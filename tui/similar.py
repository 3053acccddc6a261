"""Which decided texts are nearest to one that waits: by the words that they share. Pure; it reads nothing."""

import re
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

_WORD = re.compile(r"\w+")
_LEAST = 0.2
"""Below it two texts have no more than common words in common."""


def words_of(text: str) -> frozenset[str]:
    """The words of a text, in lower case."""
    return frozenset(_WORD.findall(text.lower()))


def nearest(text: str, others: Sequence[tuple[frozenset[str], T]], n: int) -> list[tuple[float, T]]:
    """The n others that share most words with a text: (Jaccard similarity, other), nearest first, first come first."""
    mine = words_of(text)
    scored = [(_similarity(mine, theirs), -at, other) for at, (theirs, other) in enumerate(others)]
    near = sorted((one for one in scored if one[0] >= _LEAST), key=lambda one: one[:2], reverse=True)
    return [(score, other) for score, _, other in near[:n]]


def _similarity(ours: frozenset[str], theirs: frozenset[str]) -> float:
    either = len(ours | theirs)
    return len(ours & theirs) / either if either else 0.0
