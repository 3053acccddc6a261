"""Scores of categories, against scikit-learn and by hand."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from wizloop.loop.measures.category_scores import score_categories, thresholds

NAMES = ("a", "b", "c")


def rows(n: int, seed: int) -> list[frozenset[str]]:
    drawn = np.random.default_rng(seed).random((n, 2)) < 0.4
    return [frozenset(name for name, one in zip("ab", row, strict=True) if one) for row in drawn]


def matrix(found: list[frozenset[str]], names: str) -> list[list[int]]:
    return [[int(name in row) for name in names] for row in found]


def test_the_figures_are_those_of_scikit_learn() -> None:
    truth, named = rows(60, 1), rows(60, 2)
    found = score_categories(
        NAMES, truth, named, [{}] * 60, clusters=[str(n) for n in range(60)], rng=np.random.default_rng(0)
    )
    want, got = matrix(truth, "ab"), matrix(named, "ab")
    assert found["exact"] == pytest.approx(accuracy_score(want, got))
    # No row is in c: it is in no mean.
    assert found["macro_f1"] == pytest.approx(f1_score(want, got, average="macro"))
    for name, f1 in zip("ab", f1_score(want, got, average=None), strict=True):
        assert found["by_category"][name]["f1"] == pytest.approx(f1)
        assert found["by_category"][name]["n"] == sum(name in row for row in truth)
    assert found["macro_f1_low"] < found["macro_f1"] < found["macro_f1_high"]
    assert found["exact_low"] < found["exact"] < found["exact_high"]
    assert found["by_category"]["c"]["n"] == 0


def test_an_answer_that_cannot_be_read_is_never_exactly_right() -> None:
    found = score_categories(
        NAMES,
        [frozenset(), frozenset("a")],
        [None, frozenset("a")],
        [{}, {}],
        clusters=["x", "y"],
        rng=np.random.default_rng(0),
    )
    assert (found["exact"], found["unparsed"], found["n"]) == (0.5, 1, 2)
    assert found["by_category"]["a"]["f1"] == 1.0


def test_without_rows_nothing_is_a_figure() -> None:
    found = score_categories(NAMES, [], [], [], clusters=[], rng=np.random.default_rng(0))
    assert (found["n"], found["exact"], found["macro_f1"], found["macro_f1_low"]) == (0, None, None, None)


def test_a_threshold_lies_between_rows_that_were_asked_about() -> None:
    truth = [frozenset("a"), frozenset("a"), frozenset(), frozenset()]
    ps = [{"a": 0.4, "b": 0.3}, {"a": 0.3, "b": 0.3}, {"a": 0.1, "b": 0.9}, {"a": 0.0, "b": 0.0}]
    assert thresholds(("a", "b"), truth, ps) == {"a": pytest.approx(0.2)}
