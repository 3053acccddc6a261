"""Ensemble disagreement, margin, the four cells of confidence and verdict, and the choice of a confidence measure.

Pure functions of numbers. Token-level measures are in `deepconf`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import erfc, sqrt
from typing import Literal, TypeVar

import numpy as np

Cell = Literal["confident_block", "confident_pass", "uncertain_block", "uncertain_pass"]
"""`uncertain_pass` is uncertain compliance, the riskiest: let through with low confidence."""

Words = Literal["supports", "contradicts", "inconclusive"]

Id = TypeVar("Id", int, str)


def disagreement(ps: Sequence[float]) -> float:
    """Return the sum over pairs of members of |p_i - p_j|, where p is a member's P(positive).

    0 when all agree or there is one member; at most 2 with three members.
    """
    return float(sum(abs(a - b) for a, b in combinations(ps, 2)))


def top_share(scores: Sequence[float], ids: Sequence[Id], share: float) -> list[Id]:
    """Return the `share` of ids with the highest scores (rounded down), best first; ties by the smaller id.

    Raises ValueError for lists of different lengths or a share outside 0 to 1.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share is {share}: give a number from 0 to 1")
    if len(scores) != len(ids):
        raise ValueError(f"{len(scores)} scores for {len(ids)} ids: need one each")
    ranked = sorted(zip(scores, ids, strict=True), key=lambda row: (-row[0], row[1]))
    # The small term keeps 0.29 of 100 at 29, not 28.
    return [sample for _, sample in ranked[: int(len(ranked) * share + 1e-9)]]


def margin(p: float) -> float:
    """Return the distance of p from one half, scaled to 0 to 1: |2p - 1|. Raises ValueError for no probability."""
    if not 0 <= p <= 1:
        raise ValueError(f"{p} is not a probability")
    return abs(2 * p - 1)


def cell(confidence: float, passes: bool, cut: float) -> Cell:
    """Return the cell of a verdict; a confidence exactly at the cut is confident."""
    if confidence >= cut:
        return "confident_pass" if passes else "confident_block"
    return "uncertain_pass" if passes else "uncertain_block"


def auroc(scores: Sequence[float], positive: Sequence[bool]) -> float | None:
    """Return the probability that a positive scores above a negative, ties counting half (Mann-Whitney, mean ranks).

    None without a positive or without a negative. Raises ValueError for lists of different lengths.
    """
    from scipy.stats import rankdata

    labels = np.asarray(positive, dtype=bool)
    if len(scores) != len(labels):
        raise ValueError(f"{len(scores)} scores for {len(labels)} labels: need one each")
    n_positive = int(labels.sum())
    n_negative = len(labels) - n_positive
    if not n_positive or not n_negative:
        return None
    rank_sum = float(rankdata(np.asarray(scores, dtype=np.float64))[labels].sum())
    return (rank_sum - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative)


@dataclass(frozen=True)
class Choice:
    """The measure chosen as confidence, with the figures of every candidate."""

    measure: str | None
    """None when no candidate had an AUROC."""
    auroc: Mapping[str, float | None]
    """AUROC of being right, by candidate; None where undefined. Below 0.5 the measure is inverted."""
    n: Mapping[str, int]
    """Rows on which the candidate has a value."""


def choose_measure(
    candidates: Mapping[str, Sequence[float | None]], right: Sequence[bool], *, least: int = 1
) -> Choice:
    """Choose the candidate that best separates right from wrong verdicts on dev, by AUROC; ties by name.

    Rows without a value (None) are left out for that candidate. A candidate with fewer than `least` values is
    measured but not chosen. Raises ValueError for a length that differs from `right` or a NaN.
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
    """The accuracy of confident passes against that of uncertain ones."""

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
    """Compare the accuracy of two cells; None when either is empty. Raises ValueError unless 0 <= right <= rows.

    The larger of the two p values decides the words: the normal approximation calls two rows against two significant.
    """
    from scipy.stats import fisher_exact

    for right, n in ((right_confident, n_confident), (right_uncertain, n_uncertain)):
        if not 0 <= right <= n:
            raise ValueError(f"{right} right of {n}: need 0 <= right <= rows")
    if not n_confident or not n_uncertain:
        return None
    difference = right_confident / n_confident - right_uncertain / n_uncertain
    pooled = (right_confident + right_uncertain) / (n_confident + n_uncertain)
    error = sqrt(pooled * (1 - pooled) * (1 / n_confident + 1 / n_uncertain))
    z = difference / error if error else 0.0
    wrong = n_confident - right_confident, n_uncertain - right_uncertain
    p, exact_p = erfc(abs(z) / sqrt(2)), float(fisher_exact([(right_confident, right_uncertain), wrong])[1])
    words: Words = "inconclusive"
    if max(p, exact_p) < level:
        words = "supports" if difference > 0 else "contradicts"
    return Comparison(difference, z, p, exact_p, words)


def _known(name: str, values: Sequence[float | None], right: Sequence[bool]) -> list[tuple[float, bool]]:
    if len(values) != len(right):
        raise ValueError(f"measure {name!r} has {len(values)} values for {len(right)} rows: need one each, or None")
    known = [(value, is_right) for value, is_right in zip(values, right, strict=True) if value is not None]
    if any(value != value for value, _ in known):
        raise ValueError(f"measure {name!r} has a value that is not a number: use None for no value")
    return known
