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
    assert [(one.value, one.n) for one in apart] == [("a", 4), ("b", 3)]
    assert [one.ece.value for one in apart] == pytest.approx([0.1, 0.6])
    assert [one.brier.value for one in apart] == pytest.approx([0.01, 0.36])
    (bin_,) = apart[1].reliability
    assert (bin_.n, bin_.positive) == (3, 0.0)
    assert bin_.mean == pytest.approx(0.6)
    assert calibrated(rows, ["a"] * 8, "topic", rng=np.random.default_rng(1)) == []
