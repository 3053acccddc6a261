"""How often a teacher is right: every label counts alike, whatever its share of the rows."""

import random

import pytest

from wizloop.loop.measures.metrics import wilson
from wizloop.loop.measures.right_share import Share, right_share


def test_one_that_calls_nothing_harmful_is_right_on_half() -> None:
    found = right_share([(0, 30), (30, 30)])
    assert found is not None
    assert (found.right, found.n) == (0.5, 60)
    assert found.high < 0.6
    rare = right_share([(0, 5), (55, 55)])
    assert rare is not None
    assert rare.right == 0.5
    assert rare.high - rare.low > 0.2


def test_its_interval_is_near_wilson_s_where_the_labels_are_alike() -> None:
    found, (low, high) = right_share([(27, 30), (27, 30)]), wilson(54, 60)
    assert found is not None
    assert found.low == pytest.approx(low, abs=0.02)
    assert found.high == pytest.approx(high, abs=0.02)
    always = right_share([(30, 30), (30, 30)])
    assert always is not None
    assert always == Share(1.0, always.low, 1.0, 60)
    assert always.low == pytest.approx(0.92, abs=0.01)


@pytest.mark.parametrize("counts", [[], [(3, 4)], [(3, 4), (0, 0)]])
def test_without_two_labels_nothing_is_known(counts: list[tuple[int, int]]) -> None:
    assert right_share(counts) is None


@pytest.mark.parametrize("truth", [(0.75, 0.75), (0.5, 1.0), (0.95, 0.85)])
def test_it_covers_the_truth_in_at_least_93_of_100_draws(truth: tuple[float, float]) -> None:
    rng, held = random.Random(4), 0
    for _ in range(2000):
        found = right_share([(sum(rng.random() < p for _ in range(30)), 30) for p in truth])
        assert found is not None
        held += found.low <= sum(truth) / 2 <= found.high
    assert held / 2000 > 0.93
