"""What is made of probabilities and confidences: disagreement, the four cells, and which measure to believe.

Pure functions on numbers. The token-level measures are in `deepconf`; which samples are picked is decided elsewhere.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import erfc, exp, lgamma, log, sqrt
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

Cell = Literal["confident_block", "confident_pass", "uncertain_block", "uncertain_pass"]
"""`uncertain_pass` is uncertain compliance, the riskiest: let through with low confidence."""

Words = Literal["supports", "contradicts", "inconclusive"]

Id = TypeVar("Id", int, str)


def disagreement(ps: Sequence[float]) -> float:
    """Return the sum over pairs of members of |p_i - p_j|, each p the member's probability of the positive class.

    0 when all agree (or there is one member); with three members at most 2.
    """
    return float(sum(abs(a - b) for a, b in combinations(ps, 2)))


def top_share(scores: Sequence[float], ids: Sequence[Id], share: float) -> list[Id]:
    """Return the ids with the highest scores, best first: `share` of them, rounded down; ties by the smaller id.

    Raises ValueError for lists of different lengths or a share outside 0 to 1.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share is {share}: give a number from 0 to 1")
    if len(scores) != len(ids):
        raise ValueError(f"{len(scores)} scores for {len(ids)} ids: need one each")
    ranked = sorted(zip(scores, ids, strict=True), key=lambda row: (-row[0], row[1]))
    # The small term keeps 0.29 of 100 at 29, not 28.
    return [sample for _, sample in ranked[: int(len(ranked) * share + 1e-9)]]


def binary_entropy(p: float) -> float:
    """Return the entropy in nats of a yes/no answer with probability p: 0 when certain, log 2 at one half."""
    _probability(p)
    return -sum(q * log(q) for q in (p, 1 - p) if q > 0)


def margin(p: float) -> float:
    """Return how far p is from one half, on a scale of 0 to 1: |2p - 1|."""
    _probability(p)
    return abs(2 * p - 1)


def cell(confidence: float, passes: bool, cut: float) -> Cell:
    """Return which of the four cells a verdict is in; a confidence exactly at the cut is confident."""
    if confidence >= cut:
        return "confident_pass" if passes else "confident_block"
    return "uncertain_pass" if passes else "uncertain_block"


def ecdf_rank(value: float, reference_sorted: Sequence[float] | NDArray[np.float64]) -> float:
    """Return the share of the reference values (ascending) at or below `value`: 0 to 1, the same scale every round.

    Raises ValueError for an empty reference.
    """
    if not len(reference_sorted):
        raise ValueError("no reference values to rank a confidence against: measure them on dev first")
    return float(np.searchsorted(np.asarray(reference_sorted), value, side="right") / len(reference_sorted))


def auroc(scores: Sequence[float], positive: Sequence[bool]) -> float | None:
    """Return the chance that a positive scores above a negative, ties counting half (Mann-Whitney, by mean ranks).

    None when there is no positive or no negative.
    """
    labels = np.asarray(positive, dtype=bool)
    if len(scores) != len(labels):
        raise ValueError(f"{len(scores)} scores for {len(labels)} labels: need one each")
    n_positive = int(labels.sum())
    n_negative = len(labels) - n_positive
    if not n_positive or not n_negative:
        return None
    rank_sum = float(_mean_ranks(np.asarray(scores, dtype=np.float64))[labels].sum())
    return (rank_sum - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative)


@dataclass(frozen=True)
class Choice:
    """Which measure is the confidence this round, and what every candidate showed."""

    measure: str | None
    """None when no candidate had an AUROC."""
    auroc: Mapping[str, float | None]
    """Of being right, by candidate; None where it is undefined. Below 0.5 the measure is inverted."""
    n: Mapping[str, int]
    """Rows on which the candidate had a value."""


def choose_measure(
    candidates: Mapping[str, Sequence[float | None]], right: Sequence[bool], *, least: int = 1
) -> Choice:
    """Return the candidate that best tells right verdicts from wrong ones on dev, by AUROC; ties by name.

    A row without a value (None) is left out for that candidate. A candidate with fewer than `least` values is
    measured but not chosen. Raises ValueError for a length that differs from `right` or a value that is not a number.
    """
    aurocs: dict[str, float | None] = {}
    n: dict[str, int] = {}
    for name, values in candidates.items():
        known = _known(name, values, right)
        aurocs[name] = auroc([value for value, _ in known], [is_right for _, is_right in known])
        n[name] = len(known)
    ranked = sorted((-value, name) for name, value in aurocs.items() if value is not None and n[name] >= least)
    return Choice(ranked[0][1] if ranked else None, aurocs, n)


@dataclass(frozen=True)
class Comparison:
    """Are confident passes right more often than uncertain ones?"""

    difference: float
    """Accuracy of the confident cell minus that of the uncertain cell."""
    z: float
    """Pooled two-proportion z."""
    p: float
    """Two-sided, from z."""
    exact_p: float
    """Two-sided, Fisher's exact test."""
    words: Words


def compare_cells(
    right_confident: int, n_confident: int, right_uncertain: int, n_uncertain: int, *, level: float = 0.05
) -> Comparison | None:
    """Compare the accuracy of two cells; None when either is empty.

    The words go by the larger of the two p values: the normal approximation calls two rows against two significant.
    """
    for right, n in ((right_confident, n_confident), (right_uncertain, n_uncertain)):
        if not 0 <= right <= n:
            raise ValueError(f"{right} right of {n}: need 0 <= right <= rows")
    if not n_confident or not n_uncertain:
        return None
    difference = right_confident / n_confident - right_uncertain / n_uncertain
    pooled = (right_confident + right_uncertain) / (n_confident + n_uncertain)
    error = sqrt(pooled * (1 - pooled) * (1 / n_confident + 1 / n_uncertain))
    z = difference / error if error else 0.0
    p, exact_p = erfc(abs(z) / sqrt(2)), _fisher(right_confident, n_confident, right_uncertain, n_uncertain)
    words: Words = "inconclusive"
    if max(p, exact_p) < level:
        words = "supports" if difference > 0 else "contradicts"
    return Comparison(difference, z, p, exact_p, words)


def _probability(p: float) -> None:
    if not 0 <= p <= 1:
        raise ValueError(f"{p} is not a probability")


def _known(name: str, values: Sequence[float | None], right: Sequence[bool]) -> list[tuple[float, bool]]:
    if len(values) != len(right):
        raise ValueError(f"measure {name!r} has {len(values)} values for {len(right)} rows: need one each, or None")
    known = [(value, is_right) for value, is_right in zip(values, right, strict=True) if value is not None]
    if any(value != value for value, _ in known):
        raise ValueError(f"measure {name!r} has a value that is not a number: use None for no value")
    return known


def _mean_ranks(values: NDArray[np.float64]) -> NDArray[Any]:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return ((last - counts + 1 + last) / 2)[inverse]


def _fisher(right_a: int, n_a: int, right_b: int, n_b: int) -> float:
    """Sum the chance of every table with these margins that is no likelier than the one seen."""

    def log_choose(n: int, k: int) -> float:
        return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)

    right = right_a + right_b
    total = log_choose(n_a + n_b, right)
    tables = range(max(0, right - n_b), min(n_a, right) + 1)
    chances = {k: exp(log_choose(n_a, k) + log_choose(n_b, right - k) - total) for k in tables}
    # Tables as likely as the one seen may differ from it in the last bits.
    return min(1.0, sum(chance for chance in chances.values() if chance <= chances[right_a] * (1 + 1e-7)))
