"""What choosing saved and what more labels bring, by a cheap learner on the labels that a run has. Pure functions.

The labels of a run were chosen, except a random share whose propensities are known. Weighted by 1 / propensity (a label
that a strategy chose stands for itself alone) they are a sample of the pool (Horvitz and Thompson 1952). The learner on
subsets of it gives the learning curve of chance, and the learner on all labels what choosing reached. The curve of
chance is a power law of 1 - average precision, two parameters that few labels can carry. A real curve flattens sooner,
so what is saved is rather understated. The next labels follow a straight line of average precision in log labels.
"""

from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

LEAST_RANDOM: Final = 30
"""Labels by chance below which nothing is told."""
FARTHEST: Final = 12.0
"""How far the curve of chance is followed, as a multiple of its own labels."""
REPLICATES: Final = 20
_SHARES: Final = (0.25, 0.5, 1.0)
_KEPT: Final = 0.632
"""Share of distinct rows in a bootstrap sample: replicates are subsets of this size, and ratios are scaled."""
Matrix = Any
"""Rows of features, dense or sparse."""
Labels = NDArray[np.bool_]
Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Asked:
    """A run's labels, oldest first, and dev."""

    x: Matrix
    y: Labels
    propensity: NDArray[np.float64]
    """Of each label by chance; NaN for a chosen one."""
    seed: Labels
    """Which labels came before anything was chosen: chance has them too."""
    dev_x: Matrix
    dev_y: Labels


@dataclass(frozen=True)
class Saved:
    """The labels that chance would have needed for the same figure."""

    labels: int
    """Asked for so far, the seed included."""
    figure: float | None = None
    needed: float | None = None
    """None without an upper end: the labels so far say only how many at least."""
    low: float | None = None
    high: float | None = None
    """None where chance may need more labels than its curve can be followed to."""
    why: str | None = None
    """Why it cannot be told yet."""

    def to_json(self) -> dict[str, Any]:
        """Return it as a round records it."""
        return asdict(self)


@dataclass(frozen=True)
class Gain:
    """What the next hundred labels are expected to add to average precision, with the replicates' 95 % interval."""

    gain: float
    low: float
    high: float

    def to_json(self) -> dict[str, Any]:
        """Return it as a round records it."""
        return asdict(self)


def labels_saved(asked: Asked, rng: np.random.Generator, replicates: int = REPLICATES) -> Saved:
    """Return the labels that chance would have needed, with a 95 % interval from subsets of labels and dev rows."""
    n, by_chance = len(asked.y), int(np.isfinite(asked.propensity).sum())
    if why := _too_few(asked, by_chance):
        return Saved(n, why=why)
    every, dev = np.arange(n), np.arange(len(asked.dev_y))
    figure = _figure(asked, every, dev)
    point = _needed(asked, every, dev, rng, draws=6)
    ratios = [_replicate(asked, rng) for _ in range(replicates)]
    known = np.array([np.inf if ratio is None else ratio for ratio in ratios])
    low, high = (float(np.percentile(known, q, method="nearest")) for q in (2.5, 97.5))
    if point is None or not np.isfinite(low):
        return Saved(n, figure, why="chance does not rise enough on the labels so far to say when it would be there")
    if not np.isfinite(high):
        return Saved(n, figure, None, min(low, point) * n)
    return Saved(n, figure, point * n, min(low, point) * n, max(high, point) * n)


def next_hundred(asked: Asked, rng: np.random.Generator, replicates: int = REPLICATES) -> Gain | None:
    """Return what a hundred more labels, chosen as those so far, are expected to add; None where it cannot be told."""
    n = len(asked.y)
    if _one_class(asked) or n < 2 * LEAST_RANDOM:
        return None
    slopes = []
    for replicate in range(replicates + 1):
        dev = rng.integers(0, len(asked.dev_y), len(asked.dev_y)) if replicate else np.arange(len(asked.dev_y))
        curve = [(size, _figure(asked, _some(n, size, rng), dev)) for size in _sizes(n) for _ in range(2)]
        slope = _line([(size, figure) for size, figure in curve if figure is not None])[1]
        slopes.append(slope * float(np.log((n + 100) / n)))
    if np.isnan(slopes).any():
        return None
    low, high = np.percentile(slopes, [2.5, 97.5])
    # The mean of all replicates has less noise of its own than the one on the whole of dev.
    gain = float(np.mean(slopes))
    return Gain(gain, min(float(low), gain), max(float(high), gain))


def _too_few(asked: Asked, by_chance: int) -> str | None:
    if not by_chance:
        return "no label was drawn by chance (select.shares.random)"
    if by_chance < LEAST_RANDOM:
        return f"{by_chance} labels were drawn by chance, and {LEAST_RANDOM} are needed"
    return "labels or dev have one class only" if _one_class(asked) else None


def _one_class(asked: Asked) -> bool:
    return len(set(asked.y.tolist())) < 2 or len(set(asked.dev_y.tolist())) < 2


def _replicate(asked: Asked, rng: np.random.Generator) -> float | None:
    """Return the ratio of labels on a part of the labels and a bootstrap sample of dev."""
    n = len(asked.y)
    rows = np.sort(rng.permutation(n)[: max(int(_KEPT * n), 2)])
    return _needed(asked, rows, rng.integers(0, len(asked.dev_y), len(asked.dev_y)), rng, draws=2)


def _needed(asked: Asked, rows: Numbers, dev: Numbers, rng: np.random.Generator, draws: int) -> float | None:
    """Return labels of chance over labels asked for, at the figure of all `rows`; None if out of reach."""
    reached = _figure(asked, rows, dev)
    seed, by_chance = rows[asked.seed[rows]], rows[np.isfinite(asked.propensity[rows])]
    most = len(by_chance)
    if most < 2:
        return None
    curve = []
    for size in sorted({max(int(share * most), 1) for share in _SHARES}):
        for _ in range(draws):
            drawn = _drawn(asked, rows, by_chance, size, rng)
            curve.append((len(seed) + size, _figure(asked, np.concatenate([seed, drawn]), dev)))
    start, slope = _line([(size, _bent(figure)) for size, figure in curve if figure is not None])
    if reached is None or not slope > 0:
        return None
    needed = float(np.exp(min((_bent(reached) - start) / slope, 50.0)))
    return None if needed > FARTHEST * (len(seed) + most) else max(needed, 1.0) / len(rows)


def _drawn(asked: Asked, rows: Numbers, by_chance: Numbers, size: int, rng: np.random.Generator) -> Numbers:
    """Draw labels as chance would from the pool: chosen ones stand for themselves, the others for 1 / propensity."""
    chosen = rows[~asked.seed[rows] & ~np.isfinite(asked.propensity[rows])]
    weights = 1 / asked.propensity[by_chance]
    few = min(int(rng.binomial(size, len(chosen) / (len(chosen) + weights.sum()))), len(chosen))
    drawn = rng.choice(by_chance, size=min(size - few, len(by_chance)), replace=False, p=weights / weights.sum())
    return np.concatenate([drawn, rng.choice(chosen, size=few, replace=False)])


def _bent(figure: float) -> float:
    """Return a figure on the scale on which a power law of its error is a straight line in log labels."""
    return -float(np.log(max(1 - figure, 1e-3)))


def _sizes(n: int) -> list[int]:
    return [max(int(share * n), 2) for share in _SHARES]


def _some(n: int, size: int, rng: np.random.Generator) -> Numbers:
    return np.sort(rng.permutation(n)[:size])


def _line(points: list[tuple[int, float]]) -> tuple[float, float]:
    """Return start and slope of the figure over the logarithm of labels, by least squares; NaN if it has no slope."""
    if len({size for size, _ in points}) < 2:
        return float("nan"), float("nan")
    sizes, figures = np.log([size for size, _ in points]), [figure for _, figure in points]
    slope, start = np.polyfit(sizes, figures, 1)
    return float(start), float(slope)


def _figure(asked: Asked, rows: Numbers, dev: Numbers) -> float | None:
    """Return average precision on dev rows of the learner that has seen `rows`; None where a class is missing."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import average_precision_score

    if len(set(asked.y[rows].tolist())) < 2 or not asked.dev_y[dev].any():
        return None
    learner = LogisticRegression(C=10, solver="liblinear", class_weight="balanced", tol=0.01, random_state=0)
    learner.fit(asked.x[rows], asked.y[rows])
    return float(average_precision_score(asked.dev_y[dev], learner.decision_function(asked.dev_x[dev])))
