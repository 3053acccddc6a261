"""Platt's scaling: what it learns, and what it leaves alone."""

import math
import random

import pytest
from sklearn.metrics import f1_score

from wizloop.loop.measures.metrics import best_threshold
from wizloop.loop.measures.platt import UNSCALED, fit, scaled, threshold


def test_it_finds_the_scale_that_the_labels_were_drawn_by() -> None:
    rng = random.Random(3)
    ps, labels = [], []
    for _ in range(20_000):
        z = rng.gauss(0, 3)
        ps.append(1 / (1 + math.exp(-z)))
        labels.append(int(rng.random() < 1 / (1 + math.exp(-(0.4 * z - 0.7)))))
    slope, offset = fit(labels, ps)
    assert slope == pytest.approx(0.4, abs=0.02)
    assert offset == pytest.approx(-0.7, abs=0.05)


def test_a_dev_that_is_told_apart_wholly_gives_no_certainty() -> None:
    # Platt's targets for four of each: 5/6 and 1/6.
    scale = fit([1, 1, 1, 1, 0, 0, 0, 0], [0.9] * 4 + [0.1] * 4)
    assert scaled(0.9, scale) == pytest.approx(5 / 6, abs=0.001)
    assert scaled(0.1, scale) == pytest.approx(1 / 6, abs=0.001)


@pytest.mark.parametrize(
    ("labels", "ps"),
    [([], []), ([1, 1], [0.9, 0.2]), ([0], [0.5]), ([0, 0, 1, 1], [0.9, 0.8, 0.2, 0.1])],
    ids=["nothing", "one class", "one row", "the wrong way round"],
)
def test_what_cannot_be_learned_changes_nothing(labels: list[int], ps: list[float]) -> None:
    assert fit(labels, ps) == UNSCALED
    assert scaled(0.123, UNSCALED) == 0.123


@pytest.mark.parametrize("scale", [(0.2, -3.0), (1.0, 2.0), (90.0, 0.0)])
def test_the_order_stays_and_it_stays_a_probability(scale: tuple[float, float]) -> None:
    given = [0.0, 1e-9, 0.001, 0.3, 0.5, 0.9, 1 - 1e-9, 1.0]
    made = [scaled(p, scale) for p in given]
    assert made == sorted(made)
    assert all(0 <= p <= 1 for p in made)


def _drawn(rng: random.Random, rows: int) -> tuple[list[int], list[float]]:
    """Labels that follow the probabilities' log-odds, halved and lowered by one."""
    zs = [rng.gauss(0, 2) for _ in range(rows)]
    labels = [int(rng.random() < 1 / (1 + math.exp(1 - 0.5 * z))) for z in zs]
    return labels, [1 / (1 + math.exp(-z)) for z in zs]


def test_a_threshold_from_the_scale_is_better_on_new_rows_than_the_best_on_few_labels() -> None:
    rng = random.Random(5)
    new, said = _drawn(rng, 5_000)

    def macro(cut: float) -> float:
        return float(f1_score(new, [int(p >= cut) for p in said], average="macro"))

    few = [_drawn(rng, 150) for _ in range(20)]
    by_scale, by_labels = [[macro(rule(*one)) for one in few] for rule in (threshold, best_threshold)]
    assert sum(by_scale) / 20 > sum(by_labels) / 20 + 0.01
    assert min(by_scale) > min(by_labels)


def test_labels_that_the_probabilities_do_not_follow_choose_the_threshold_themselves() -> None:
    labels, ps = [1, 1, 0, 0, 0], [0.1, 0.2, 0.5, 0.6, 0.9]
    assert threshold(labels, ps) == best_threshold(labels, ps)


def test_a_threshold_for_one_class_is_refused() -> None:
    with pytest.raises(ValueError, match="both classes"):
        threshold([1, 1], [0.2, 0.4])
