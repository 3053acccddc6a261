"""A committee that costs nothing: bootstrap copies of one logistic regression, which disagree where labels are missing.

Query by committee (Seung, Opper and Sompolinsky 1992) by bagging (Abe and Mamitsuka 1998).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

COPIES: Final = 8
STRENGTH: Final = 10.0
"""Inverse of the regularization, C: that of the trial on TF-IDF and on both features."""


@dataclass(frozen=True)
class Committee:
    """Fitted copies of one logistic regression."""

    weights: Floats
    """Of shape (columns, copies)."""
    bias: Floats
    """Of shape (copies,)."""

    def p(self, X: Any) -> Floats:
        """Return P(positive) by copy and row, of shape (copies, n); `X` is a matrix or one block of it."""
        return self.of_product(X @ self.weights)

    def of_product(self, product: Floats) -> Floats:
        """Return the same from the rows times `weights`, of shape (n, copies)."""
        from scipy.special import expit

        p: Floats = expit(product + self.bias).astype(np.float32).T
        return p


def fit(X: Any, y: Sequence[bool] | NDArray[Any], *, seed: int, copies: int = COPIES) -> Committee | None:
    """Fit on rows of a feature matrix and their labels; None where a class is missing."""
    labels = np.asarray(y, dtype=bool)
    if labels.all() or not labels.any():
        return None
    rng = np.random.default_rng(seed)
    fitted = [fit_one(X[drawn], labels[drawn]) for drawn in (_bootstrap(labels, rng) for _ in range(copies))]
    weights, bias = zip(*fitted, strict=True)
    return Committee(np.stack(weights, axis=1), np.array(bias, dtype=np.float32))


def fit_one(X: Any, y: NDArray[np.bool_], *, strength: float = STRENGTH) -> tuple[Floats, float]:
    """Return weights and bias of one logistic regression; both classes must occur."""
    from sklearn.linear_model import LogisticRegression

    # The dual: there are fewer rows than columns.
    model = LogisticRegression(C=strength, solver="liblinear", dual=True, max_iter=1000, random_state=0).fit(X, y)
    return model.coef_[0].astype(np.float32), float(model.intercept_[0])


def spread(p: Floats) -> Floats:
    """Return the standard deviation over copies of each row's probability, of shape (n,): 0 to 0.5."""
    found: Floats = p.std(axis=0)
    return found


def mean(p: Floats) -> Floats:
    """Return the mean probability over copies, of shape (n,)."""
    found: Floats = p.mean(axis=0)
    return found


def margin(p: Floats) -> Floats:
    """Return the distance of the mean probability from one half, scaled to 0 to 1, of shape (n,)."""
    return np.abs(2 * mean(p) - 1)


def _bootstrap(labels: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw as many rows with replacement; one row of a class that the draw missed takes the first place."""
    drawn = rng.integers(len(labels), size=len(labels))
    if labels[drawn].all() or not labels[drawn].any():
        drawn[0] = rng.choice(np.flatnonzero(labels != labels[drawn[0]]))
    return drawn
