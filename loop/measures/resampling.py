"""Bootstrap over clusters: rows that share a prompt are drawn together, because they are not independent."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]


def cluster_sums(rows: Counts, clusters: Sequence[str]) -> Counts:
    """Add up the rows of each cluster: (rows, k) becomes (clusters, k), clusters in sorted order."""
    _, inverse = np.unique(np.asarray(clusters, dtype=object).astype(str), return_inverse=True)
    sums = np.zeros((int(inverse.max(initial=-1)) + 1, rows.shape[1]), dtype=np.int64)
    np.add.at(sums, inverse, rows)
    return sums


def resampled_sums(sums: Counts, resamples: int, rng: np.random.Generator) -> Counts:
    """Return the totals of `resamples` bootstrap samples of the clusters: (clusters, k) becomes (resamples, k).

    Clusters with equal counts are interchangeable, so the number of draws of each distinct row of counts is drawn from
    a multinomial. The distribution is that of drawing clusters one by one; the cost does not grow with their number.
    """
    kinds, occurrences = np.unique(sums, axis=0, return_counts=True)
    draws = rng.multinomial(len(sums), occurrences / len(sums), size=resamples)
    totals: Counts = draws @ kinds
    return totals


def percentile_interval(values: NDArray[np.float64]) -> tuple[float | None, float | None]:
    """Return the central 95 % of the defined values; (None, None) where none is."""
    defined = values[~np.isnan(values)]
    if not len(defined):
        return None, None
    low, high = np.percentile(defined, [2.5, 97.5])
    return float(low), float(high)
