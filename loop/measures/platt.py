"""Probabilities made honest on dev: Platt's scaling, two parameters on the log-odds.

A small guard that learned a few hundred labels by heart says 0.99 where it is right three times in four. The order of
its answers is not changed here. The threshold follows from the same two parameters: the cut that happens to be best for
a few hundred labels is mostly noise.
"""

from collections.abc import Sequence
from math import exp, log

from wizloop.loop.measures.metrics import best_threshold

Scale = tuple[float, float]
"""Slope and offset on the log-odds; (1, 0) changes nothing."""

AS_IT_IS: Scale = (1.0, 0.0)
_EDGE = 1e-6
# Far above any prior that matters: the smoothed targets alone keep a separable dev finite.
_C = 1e6


def fit(labels: Sequence[int], ps: Sequence[float]) -> Scale:
    """The scale that makes `ps` likeliest given `labels` (1 is positive), with the targets that Platt smoothed.

    Platt, "Probabilistic outputs for support vector machines", 1999, section 2.2. Without both classes, or where higher
    is not likelier, nothing is changed: there is no scale to learn.
    """
    positive, negative = sum(labels), len(labels) - sum(labels)
    if not positive or not negative:
        return AS_IT_IS
    from sklearn.linear_model import LogisticRegression

    hopes = {1: (positive + 1) / (positive + 2), 0: 1 / (negative + 2)}
    odds = [[_log_odds(p)] for p in ps]
    weights = [hopes[label] for label in labels] + [1 - hopes[label] for label in labels]
    model = LogisticRegression(C=_C, max_iter=1000)
    model.fit(odds + odds, [1] * len(labels) + [0] * len(labels), sample_weight=weights)
    slope, offset = float(model.coef_[0][0]), float(model.intercept_[0])
    return (slope, offset) if slope > 0 else AS_IT_IS


def scaled(p: float, scale: Scale) -> float:
    """The probability after scaling, strictly rising with p."""
    if scale == AS_IT_IS:
        return p
    z = scale[0] * _log_odds(p) + scale[1]
    return 1 / (1 + exp(-z)) if z > -700 else 0.0


def threshold(labels: Sequence[int], ps: Sequence[float]) -> float:
    """The probability, as the guard says it, from which "positive" has the best macro-F1 to be expected.

    Expected is that each row is positive as often as the scale says; where no scale can be learned, the labels
    themselves are taken. It is the decision-theoretic approach of Ye et al., "Optimizing F-measures: a tale of two
    approaches", 2012. Raises ValueError where a class is missing.
    """
    scale = fit(labels, ps)
    return best_threshold(labels if scale == AS_IT_IS else [scaled(p, scale) for p in ps], ps)


def _log_odds(p: float) -> float:
    kept = min(max(p, _EDGE), 1 - _EDGE)
    return log(kept / (1 - kept))
