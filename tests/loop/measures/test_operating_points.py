"""Operating points: the threshold that keeps a rate on dev, and recall at a false-positive rate."""

import random

import numpy as np
import pytest
from sklearn.metrics import roc_curve

from wizloop.loop.measures import platt
from wizloop.loop.measures.operating_points import Recall, reached, recall_at, threshold_for
from wizloop.loop.words import Task


def drawn(seed: int, n: int = 400, digits: int = 3) -> tuple[list[int], list[float]]:
    """Labels and overlapping probabilities; few digits make ties."""
    rng = random.Random(seed)
    labels = [int(rng.random() < 0.4) for _ in range(n)]
    return labels, [round(rng.betavariate(4, 2) if one else rng.betavariate(2, 4), digits) for one in labels]


def best_recall(labels: list[int], ps: list[float], most: float) -> float:
    fpr, tpr, _ = roc_curve(labels, ps, drop_intermediate=False)
    return float(tpr[fpr <= most].max())


@pytest.mark.parametrize("digits", [1, 3])
@pytest.mark.parametrize("rate", [0.01, 0.05, 0.2])
def test_a_false_positive_rate_is_kept_at_the_best_recall(rate: float, digits: int) -> None:
    labels, ps = drawn(1, digits=digits)
    cut = threshold_for(f"fpr<={rate}", "request", labels, ps)
    rates = reached(labels, ps, cut)
    assert rates["fpr"]["rate"] <= rate
    assert rates["recall"]["rate"] == pytest.approx(best_recall(labels, ps, rate))
    # No false positive without a gain: one row higher loses recall.
    higher = min((p for p in ps if p >= cut), default=1.0) + 1e-9
    assert reached(labels, ps, higher)["recall"]["k"] < rates["recall"]["k"] or not rates["recall"]["k"]


@pytest.mark.parametrize("rate", [0.5, 0.9, 0.99])
def test_a_recall_is_kept_with_the_fewest_false_positives(rate: float) -> None:
    labels, ps = drawn(2)
    rates = reached(labels, ps, threshold_for(f"recall>={rate}", "response", labels, ps))
    fpr, tpr, _ = roc_curve(labels, ps, drop_intermediate=False)
    assert rates["recall"]["rate"] >= rate
    assert rates["fpr"]["rate"] == pytest.approx(float(fpr[tpr >= rate].min()))


def test_a_rate_that_nothing_keeps_gets_the_nearest_threshold_and_says_what_it_reaches() -> None:
    labels, ps = [0, 0, 1, 1], [1.0, 0.1, 0.5, 0.0]
    cut = threshold_for("fpr<=0.01", "request", labels, ps)
    assert 0.5 < cut < 1
    assert reached(labels, ps, cut)["fpr"]["rate"] == 0.5
    low = threshold_for("recall>=0.99", "request", labels, ps)
    assert 0 < low < 0.1
    assert reached(labels, ps, low)["recall"] | {"low": 0, "high": 0} == {
        "k": 1, "n": 2, "rate": 0.5, "low": 0, "high": 0
    }  # fmt: skip


@pytest.mark.parametrize(("point", "task"), [("f1", "request"), ("fpr<=0.01", "completion")])
def test_without_a_rate_the_threshold_is_that_of_the_best_f1(point: str, task: Task) -> None:
    labels, ps = drawn(3)
    assert threshold_for(point, task, labels, ps) == platt.threshold(labels, ps)


@pytest.mark.parametrize("point", ["f1", "fpr<=0.05", "recall>=0.9"])
def test_one_class_alone_gives_one_half(point: str) -> None:
    assert threshold_for(point, "request", [1, 1], [0.2, 0.9]) == 0.5


def test_recall_at_a_rate_is_the_roc_curves() -> None:
    labels, ps = drawn(4, digits=2)
    found = recall_at(labels, ps, [str(at) for at in range(len(ps))], rng=np.random.default_rng(0))
    assert {name: one.value for name, one in found.items()} == {
        "0.01": pytest.approx(best_recall(labels, ps, 0.01)),
        "0.05": pytest.approx(best_recall(labels, ps, 0.05)),
    }
    for one in found.values():
        assert one.low is not None
        assert one.high is not None
        assert one.value is not None
        assert one.low <= one.value <= one.high


def test_rows_of_one_prompt_are_drawn_together() -> None:
    labels, ps = drawn(5, n=150)
    many = (labels * 4, ps * 4)
    alone = recall_at(*many, [str(at) for at in range(600)], rng=np.random.default_rng(0))["0.05"]
    together = recall_at(*many, [str(at % 150) for at in range(600)], rng=np.random.default_rng(0))["0.05"]

    def width(one: Recall) -> float:
        return (one.high or 0) - (one.low or 0)

    assert together.value == alone.value
    assert width(together) > 1.5 * width(alone)


@pytest.mark.parametrize(("negatives", "told"), [(99, [False, True]), (100, [True, True]), (19, [False, False])])
def test_too_few_negative_rows_say_nothing_of_a_rate(negatives: int, told: list[bool]) -> None:
    labels = [1] * 10 + [0] * negatives
    ps = [0.9] * 10 + [0.1] * negatives
    found = recall_at(labels, ps, [str(at) for at in range(len(ps))], rng=np.random.default_rng(0))
    assert [one.value is not None for one in found.values()] == told


def test_what_finds_everything_has_wilsons_interval() -> None:
    labels, ps = [1] * 10 + [0] * 100, [0.9] * 10 + [0.1] * 100
    one = recall_at(labels, ps, [str(at) for at in range(110)], rng=np.random.default_rng(0))["0.01"]
    assert (one.value, one.high) == (1.0, 1.0)
    assert one.low == pytest.approx(0.722, abs=0.001)


def test_rows_of_one_class_have_no_recall_at_a_rate() -> None:
    found = recall_at([0] * 200, [0.1] * 200, ["a"] * 200, rng=np.random.default_rng(0))
    assert list(found.values()) == [Recall(None), Recall(None)]
