"""How often a teacher is right, every label counted alike, with a 95 % interval: pure functions of counts.

Every label counts alike because harm is rare: where 9 % of rows are harmful, a teacher that calls nothing harmful is
right on 91 % of them. The figure is the mean of the labels' shares (balanced accuracy), and its interval joins Wilson's
of each share, which holds for few rows and for shares of 0 and 1, where a bootstrap has no width (Zou and Donner,
Statistics in Medicine 27, 2008: the method of variance estimates recovery).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

from wizloop.loop.measures.metrics import wilson


@dataclass(frozen=True, slots=True)
class Share:
    """The mean share of right answers over the labels, as fractions."""

    right: float
    low: float
    high: float
    n: int
    """Answers behind it."""


def right_share(counts: Sequence[tuple[int, int]]) -> Share | None:
    """Return the mean share from (right, answers) of each label; None unless two labels or more all have answers."""
    if len(counts) < 2 or not all(n for _, n in counts):
        return None
    shares = [right / n for right, n in counts]
    mean, down, up = sum(shares) / len(shares), 0.0, 0.0
    for share, (right, n) in zip(shares, counts, strict=True):
        low, high = wilson(right, n)
        down, up = down + (share - (low or 0.0)) ** 2, up + ((high or 0.0) - share) ** 2
    below, above = mean - sqrt(down) / len(shares), mean + sqrt(up) / len(shares)
    return Share(mean, below, above, sum(n for _, n in counts))
