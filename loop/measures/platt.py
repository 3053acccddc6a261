"""Platt scaling: two parameters on the log-odds, fitted on dev, and the threshold that follows from them.

A small guard that memorized a few hundred labels says 0.99 where it is right three times in four. Scaling keeps the
order of its answers. The threshold uses the same two parameters: the cut that is best on a few hundred labels is mostly
noise.
"""

from collections.abc import Sequence
from math import exp, log

from wizloop.loop.measures.metrics import best_threshold

Scale = tuple[float, float]
"""Slope and offset on the log-odds; (1, 0) changes nothing."""

UNSCALED: Scale = (1.0, 0.0)
_CLIP = 1e-6
# So large that it does not regularize: the smoothed targets alone keep a separable dev finite.
_C = 1e6


def fit(labels: Sequence[int], ps: Sequence[float]) -> Scale:
    """Fit the scale of `ps` to `labels` (1 is positive) by maximum likelihood, with Platt's smoothed targets.

    Platt, "Probabilistic outputs for support vector machines", 1999, section 2.2. Returns UNSCALED without both
    classes, or where a higher probability is not likelier to be positive.
    """
    positive, negative = sum(labels), len(labels) - sum(labels)
    if not positive or not negative:
        return UNSCALED
    from sklearn.linear_model import LogisticRegression

    targets = {1: (positive + 1) / (positive + 2), 0: 1 / (negative + 2)}
    odds = [[_log_odds(p)] for p in ps]
    weights = [targets[label] for label in labels] + [1 - targets[label] for label in labels]
    model = LogisticRegression(C=_C, max_iter=1000)
    model.fit(odds + odds, [1] * len(labels) + [0] * len(labels), sample_weight=weights)
    slope, offset = float(model.coef_[0][0]), float(model.intercept_[0])
    return (slope, offset) if slope > 0 else UNSCALED


def scaled(p: float, scale: Scale) -> float:
    """Return the scaled probability, strictly increasing in p."""
    if scale == UNSCALED:
        return p
    z = scale[0] * _log_odds(p) + scale[1]
    return 1 / (1 + exp(-z)) if z > -700 else 0.0


def threshold(labels: Sequence[int], ps: Sequence[float]) -> float:
    """Return the raw probability from which "positive" has the best expected macro-F1.

    The expectation uses the scaled probability of each row, or the labels where no scale can be fitted: the
    decision-theoretic approach of Ye et al., "Optimizing F-measures: a tale of two approaches", 2012. Raises ValueError
    where a class is missing.
    """
    scale = fit(labels, ps)
    return best_threshold(labels if scale == UNSCALED else [scaled(p, scale) for p in ps], ps)


def _log_odds(p: float) -> float:
    kept = min(max(p, _CLIP), 1 - _CLIP)
    return log(kept / (1 - kept))
