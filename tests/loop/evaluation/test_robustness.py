"""Calibration of adversarial and plain rows apart."""

import numpy as np
import pytest

from tests.loop.evaluation.answers import FINE, HARM, row
from wizloop.loop.evaluation.robustness import calibrated


def test_calibration_is_of_the_rows_of_each_value() -> None:
    rows = [row(HARM, HARM, "same", at, p=0.9) for at in range(4)] + [
        row(FINE, FINE, "same", at, p=0.6) for at in range(4)
    ]
    apart = calibrated(rows, ["a"] * 4 + ["b"] * 3 + [None], "topic", rng=np.random.default_rng(1))
    assert [(one.value, one.n, one.ece.value, one.brier.value) for one in apart] == [
        ("a", 4, pytest.approx(0.1), pytest.approx(0.01)),
        ("b", 3, pytest.approx(0.6), pytest.approx(0.36)),
    ]
    assert [(one.n, one.mean, one.positive) for one in apart[1].reliability] == [(3, pytest.approx(0.6), 0.0)]
    assert calibrated(rows, ["a"] * 8, "topic", rng=np.random.default_rng(1)) == []
