"""Operating points: the threshold that dev gives for a wanted rate, and recall at a false-positive rate.

Pure functions of labels (1 is positive) and probabilities; a row is called positive from the threshold on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from wizloop.loop.measures import platt
from wizloop.loop.measures.metrics import wilson
from wizloop.loop.measures.resampling import percentile_interval
from wizloop.loop.words import Task

Floats = NDArray[np.float64]

BEST: Final = "f1"
"""The operating point where no rate is asked for: the best expected macro-F1."""
DECIDING: Final[tuple[Task, ...]] = ("request", "response")
"""The tasks whose verdict lets a sample through or blocks it; a completion taken for a refusal blocks nobody."""
FPRS: Final = (0.01, 0.05)
"""The false-positive rates at which recall is measured."""


@dataclass(frozen=True)
class Recall:
    """Recall at a false-positive rate, with its 95 % interval; None where undefined."""

    value: float | None
    low: float | None = None
    high: float | None = None


def threshold_for(point: str, task: Task, labels: Sequence[int], ps: Sequence[float]) -> float:
    """Return the threshold for an operating point: "f1", "fpr<=X" or "recall>=X".

    One half without rows of both classes. A task that decides nothing keeps the best macro-F1.
    """
    if not 0 < sum(labels) < len(labels):
        return 0.5
    if point == BEST or task not in DECIDING:
        return platt.threshold(labels, ps)
    name, _, rate = point.partition("<=" if "<=" in point else ">=")
    cuts, recall, fpr = _cuts(labels, ps)
    return _of_fpr(cuts, recall, fpr, float(rate)) if name == "fpr" else _of_recall(cuts, recall, fpr, float(rate))


def reached(labels: Sequence[int], ps: Sequence[float], threshold: float) -> dict[str, dict[str, Any]]:
    """Return false-positive rate and recall at a threshold: k of n with Wilson's 95 % interval, None for n = 0."""
    counts: dict[str, list[bool]] = {"fpr": [], "recall": []}
    for label, p in zip(labels, ps, strict=True):
        counts["recall" if label else "fpr"].append(p >= threshold)
    return {name: share(sum(hits), len(hits)) for name, hits in counts.items()}


def share(k: int, n: int) -> dict[str, Any]:
    """Return k of n as a rate with Wilson's 95 % interval."""
    low, high = wilson(k, n)
    return {"k": k, "n": n, "rate": k / n if n else None, "low": low, "high": high}


def recall_at(
    labels: Sequence[int],
    ps: Sequence[float],
    clusters: Sequence[str],
    *,
    rng: np.random.Generator,
    resamples: int = 500,
) -> dict[str, Recall]:
    """Return, by the rates of FPRS, the best recall of a threshold whose false-positive rate is at most that.

    Intervals are bootstrapped by cluster (prompt), and Wilson's where nothing or everything is found. None where a
    false positive more or less is a larger step than the rate: below 100 negative rows for 1 %, 20 for 5 %.
    """
    truth, p = np.asarray(labels, dtype=np.int64), np.asarray(ps, dtype=np.float64)
    positives, negatives = int(truth.sum()), int(len(truth) - truth.sum())
    told = [fpr for fpr in FPRS if positives and negatives * fpr >= 1 - 1e-9]
    if not told:
        return {str(fpr): Recall(None) for fpr in FPRS}
    curve = _Curve(truth, p)
    _, place = np.unique(np.asarray(clusters, dtype=object).astype(str), return_inverse=True)
    n = int(place.max()) + 1
    weights = (np.bincount(rng.integers(n, size=n), minlength=n)[place] for _ in range(resamples if n > 1 else 0))
    drawn = np.array([curve.recall(each, told) for each in weights]).reshape(-1, len(told))
    values = curve.recall(np.ones(len(truth), dtype=np.int64), told)
    found = {
        str(fpr): _with_interval(value, positives, drawn[:, at])
        for at, (fpr, value) in enumerate(zip(told, values, strict=True))
    }
    return {str(fpr): found.get(str(fpr), Recall(None)) for fpr in FPRS}


class _Curve:
    """Rows by falling probability; those of equal probability are called positive together."""

    def __init__(self, truth: NDArray[np.int64], p: Floats) -> None:
        self._order = np.argsort(-p, kind="stable")
        self._truth = truth[self._order]
        self._last = np.flatnonzero(np.append(np.diff(p[self._order]) != 0, True))

    def recall(self, weights: NDArray[np.int64], fprs: Sequence[float]) -> list[float]:
        """Return the best recall at each rate, each row counted `weights` (n,) times; NaN without a class."""
        ordered = weights[self._order]
        hits = np.cumsum(ordered * self._truth)[self._last]
        alarms = np.cumsum(ordered * (1 - self._truth))[self._last]
        if not hits[-1] or not alarms[-1]:
            return [float("nan")] * len(fprs)
        allowed = np.searchsorted(alarms, [fpr * alarms[-1] + 1e-9 for fpr in fprs], side="right")
        return [float(hits[at - 1] / hits[-1]) if at else 0.0 for at in allowed]


def _with_interval(value: float, n: int, drawn: Floats) -> Recall:
    low, high = wilson(value * n, n) if value in (0.0, 1.0) else percentile_interval(drawn)
    return Recall(value, low, high)


def _cuts(labels: Sequence[int], ps: Sequence[float]) -> tuple[Floats, Floats, Floats]:
    """Return rising thresholds in (0, 1), each midway between two scores, with the recall and FPR of each."""
    truth, p = np.asarray(labels, dtype=bool), np.asarray(ps, dtype=np.float64)
    edges = np.unique(np.concatenate([[0.0], p, [1.0]]))
    cuts = (edges[:-1] + edges[1:]) / 2
    cuts = cuts[(edges[:-1] < cuts) & (cuts < 1)]
    above = [1 - np.searchsorted(np.sort(each), cuts) / len(each) for each in (p[truth], p[~truth])]
    return cuts, above[0], above[1]


def _of_fpr(cuts: Floats, recall: Floats, fpr: Floats, most: float) -> float:
    """Return the cut with the best recall, then the lowest FPR; the highest cut where none is low enough."""
    fits = fpr <= most + 1e-12
    if not fits.any():
        return float(cuts[-1])
    return float(cuts[fits][recall[fits] == recall[fits].max()][-1])


def _of_recall(cuts: Floats, recall: Floats, fpr: Floats, least: float) -> float:
    """Return the cut with the lowest FPR, then the best recall; the lowest cut where none is high enough."""
    fits = recall >= least - 1e-12
    if not fits.any():
        return float(cuts[0])
    return float(cuts[fits][fpr[fits] == fpr[fits].min()][0])
