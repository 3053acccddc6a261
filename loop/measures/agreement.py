"""Agreement of raters, with 95 % intervals by bootstrap over prompts: pure functions of answers.

Answers are codes 0..k-1 of k labels, -1 where a rater gave none. An undefined figure is None, never 0: where all
answers are the same label, no agreement beyond chance can be shown.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from wizloop.loop.measures.metrics import FEW, wilson
from wizloop.loop.measures.resampling import Counts, cluster_sums, percentile_interval, resampled_sums

Codes = NDArray[np.int64]
Level = Literal["nominal", "ordinal"]
RESAMPLES = 1000
LEAST_DEFINED = 0.95
"""Share of the resamples that must have a figure: the others have one label only, and leaving many out would bias."""


@dataclass(frozen=True)
class Figure:
    """A figure with its bootstrapped 95 % interval; None if undefined."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Pair:
    """Two raters on one question."""

    n: int
    """Outputs that both rated."""
    prompts: int
    same: Figure
    """Share of equal answers."""
    kappa: Figure
    """Cohen's (1960); for an ordinal question weighted by squared distance (1968)."""
    table: list[list[int]]
    """Counts: the first rater's label by row, the second's by column."""


def pair(first: Codes, second: Codes, k: int, prompts: Sequence[str], level: Level, rng: np.random.Generator) -> Pair:
    """Compare two raters on n outputs, of which only those count that both rated."""
    both = (first >= 0) & (second >= 0)
    ones = np.zeros((int(both.sum()), k * k), dtype=np.int64)
    ones[np.arange(len(ones)), first[both] * k + second[both]] = 1
    sums = cluster_sums(ones, [prompt for prompt, used in zip(prompts, both, strict=True) if used])
    tables = ones.sum(axis=0).reshape(1, k, k)
    drawn = resampled_sums(sums, RESAMPLES, rng).reshape(-1, k, k) if len(sums) >= FEW else tables[:0]
    weights = _weights(k, level)
    return Pair(
        len(ones),
        len(sums),
        _share(_same(tables)[0], _same(drawn), len(sums)),
        _figure(kappas(tables, weights)[0], kappas(drawn, weights)),
        tables[0].tolist(),
    )


def kappas(tables: Counts, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return Cohen's kappa of each confusion table: (b, k, k) becomes (b,); nan where it is undefined.

    `weights` (k, k) are the costs of disagreement: 1 off the diagonal, or the squared distance.
    """
    n = tables.sum(axis=(1, 2))
    expected = tables.sum(axis=2)[:, :, None] * tables.sum(axis=1)[:, None, :]
    observed_cost = (tables * weights).sum(axis=(1, 2)) * n
    expected_cost = (expected * weights).sum(axis=(1, 2))
    return 1 - _divided(observed_cost, expected_cost)


def _weights(k: int, level: Level) -> NDArray[np.float64]:
    apart = np.abs(np.subtract.outer(np.arange(k), np.arange(k))).astype(float)
    return apart**2 if level == "ordinal" else np.minimum(apart, 1)


def _same(tables: Counts) -> NDArray[np.float64]:
    return _divided(np.trace(tables, axis1=1, axis2=2), tables.sum(axis=(1, 2)))


def _divided(above: NDArray[Any], below: NDArray[Any]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = np.divide(above, below, out=np.full(len(above), np.nan), where=below != 0)
    return found


def alpha(answers: Codes, k: int, prompts: Sequence[str], level: Level, rng: np.random.Generator) -> Figure:
    """Return Krippendorff's alpha of any number of raters with gaps: answers (raters, n)."""
    rated = (answers >= 0).sum(axis=0) >= 2
    counts = (answers[:, rated, None] == np.arange(k)).sum(axis=0)
    used = [prompt for prompt, is_used in zip(prompts, rated, strict=True) if is_used]
    _, group = np.unique(np.asarray(used, dtype=object).astype(str), return_inverse=True)
    n = int(group.max(initial=-1)) + 1
    drawn = [
        _alpha(np.repeat(counts, np.bincount(rng.integers(n, size=n), minlength=n)[group], axis=0), level)
        for _ in range(RESAMPLES if n >= FEW else 0)
    ]
    return _figure(_alpha(counts, level), np.array(drawn))


def _alpha(counts: Counts, level: Level) -> float:
    """Return alpha of (n, k) counts of labels per output; nan where fewer than two labels occur."""
    import krippendorff

    if (counts.sum(axis=0) > 0).sum() < 2:
        return float("nan")
    return float(krippendorff.alpha(value_counts=counts, level_of_measurement=level))


@dataclass(frozen=True)
class Ratings:
    """One rater's grades on the ordinal question."""

    n: int
    mean: Figure
    """Of the grades, from 1."""
    share: Figure
    """Share of the grades at or above the threshold."""


def grades(given: Codes, least: int, prompts: Sequence[str], rng: np.random.Generator) -> Ratings:
    """Return mean and share of one rater's grades (from 1; 0 or less: none), with `least` the threshold."""
    used = given > 0
    mine = given[used]
    rows = np.column_stack([np.ones_like(mine), mine, mine >= least]).astype(np.int64)
    sums = cluster_sums(rows, [prompt for prompt, is_used in zip(prompts, used, strict=True) if is_used])
    drawn = resampled_sums(sums, RESAMPLES, rng) if len(sums) >= FEW else rows[:0]
    total = rows.sum(axis=0)[None, :]
    mean = _figure(_ratio(1, total)[0], _ratio(1, drawn))
    return Ratings(len(mine), mean, _share(_ratio(2, total)[0], _ratio(2, drawn), len(sums)))


def _ratio(column: int, sums: Counts) -> NDArray[np.float64]:
    return _divided(sums[:, column], sums[:, 0])


def _share(value: float, drawn: NDArray[np.float64], prompts: int) -> Figure:
    """Return a share; where it is 0 or 1, no resample differs, and its interval is Wilson's over the prompts."""
    found = _figure(value, drawn)
    if len(drawn) and found.value in (0, 1):
        return Figure(found.value, *wilson(round(found.value * prompts), prompts))
    return found


def _figure(value: float, drawn: NDArray[np.float64]) -> Figure:
    """Return a figure with the interval of its resamples, if nearly all are defined and they differ."""
    if np.isnan(value):
        return Figure(None)
    defined = float(np.mean(~np.isnan(drawn))) if len(drawn) else 0.0
    low, high = percentile_interval(drawn) if defined >= LEAST_DEFINED else (None, None)
    return Figure(float(value), *((None, None) if low == high else (low, high)))
