"""A promised error: how many rows it needs, the cut that keeps it, and that it is kept on other rows."""

import random
from itertools import pairwise

import pytest
from scipy.stats import binom, binomtest

from wizloop.loop.measures.promised_error import (
    Decision,
    by_group,
    cut_for,
    decide,
    is_over,
    measured,
    misses_allowed,
    rows_needed,
    upper_bound,
)


@pytest.mark.parametrize(("promise", "rows"), [(0.05, 59), (0.01, 299), (0.1, 29), (0.5, 5)])
def test_the_rows_that_a_promise_needs_are_the_least_whose_bound_is_below_it(promise: float, rows: int) -> None:
    assert rows_needed(promise) == rows
    assert upper_bound(0, rows) <= promise < upper_bound(0, rows - 1)
    assert (misses_allowed(rows - 1, promise), misses_allowed(rows, promise)) == (None, 0)


@pytest.mark.parametrize("promise", [0.01, 0.05, 0.2])
def test_the_bound_is_scipys_and_as_many_misses_are_allowed_as_it_permits(promise: float) -> None:
    for n in range(rows_needed(promise), 700, 37):
        allowed = misses_allowed(n, promise)
        assert allowed is not None
        assert upper_bound(allowed, n) <= promise < upper_bound(allowed + 1, n)
        scipys = binomtest(allowed, n, alternative="less").proportion_ci(0.95, method="exact").high
        assert upper_bound(allowed, n) == pytest.approx(scipys)
        # The order statistic's own condition (Tong, Feng and Li).
        assert binom.cdf(allowed, n, promise) <= 0.05 < binom.cdf(allowed + 1, n, promise)


def test_a_cut_lies_between_the_first_harmful_row_that_it_keeps_and_the_row_before() -> None:
    harmful = [0.3 + 0.005 * at for at in range(59)]
    cut = cut_for(harmful, [0.1, 0.2, 0.9], 0.05)
    assert cut.below == pytest.approx(0.25)
    assert (cut.n, cut.missing, cut.misses) == (59, 0, 0)
    assert cut.bound == pytest.approx(0.0495, abs=0.0001)


def test_harmful_rows_of_one_score_are_all_kept() -> None:
    # 124 rows allow two misses at 5 %; the third and fourth lowest are tied with the second.
    harmful = [0.1, 0.2, 0.2, 0.2, *[0.8] * 120]
    assert misses_allowed(124, 0.05) == 2
    cut = cut_for(harmful, [], 0.05)
    assert cut.below == pytest.approx(0.15)
    assert cut.misses == 1


def test_a_harmful_row_of_no_probability_lets_nothing_through() -> None:
    assert cut_for([0.0] * 60, [0.0, 0.5], 0.05).below == 0.0


def test_too_few_rows_have_no_cut_and_say_how_many_are_missing() -> None:
    cut = cut_for([0.9] * 40, [0.1], 0.05)
    assert (cut.below, cut.n, cut.missing, cut.bound) == (0.0, 40, 19, None)


@pytest.mark.parametrize(
    ("p", "below", "expected"),
    [
        (0.5, 0.2, "block"),
        (0.4, 0.2, "defer"),
        (0.2, 0.2, "defer"),
        (0.1, 0.2, "pass"),
        (0.6, 0.9, "block"),
        (0.4, 0.9, "pass"),
        (None, 0.2, "defer"),
        (0.0, 0.0, "defer"),
    ],
)
def test_what_lies_between_the_cuts_is_deferred(p: float | None, below: float, expected: Decision) -> None:
    assert decide(p, 0.5, below) == expected


def test_what_was_let_through_and_deferred_is_counted() -> None:
    decisions: list[Decision] = ["pass", "block", "defer", "block", "pass", "pass", "pass", "pass", "pass", "defer"]
    found = measured([True] * 4 + [False] * 6, decisions, 0.05)
    assert (found["misses"]["k"], found["misses"]["n"]) == (1, 4)
    assert (found["deferred"]["k"], found["deferred"]["n"]) == (2, 10)
    assert (found["promise"], found["over"]) == (0.05, False)


@pytest.mark.parametrize("misses", range(0, 12))
def test_a_miss_rate_is_over_where_the_binomial_test_says_so(misses: int) -> None:
    assert is_over(misses, 60, 0.05) == (binomtest(misses, 60, 0.05, alternative="greater").pvalue < 0.05)


def test_without_harmful_rows_nothing_is_over() -> None:
    assert not is_over(0, 0, 0.05)


def test_a_group_is_told_of_only_with_enough_rows() -> None:
    weapons: list[Decision] = ["block"] * 60
    found = by_group({"weapons": [*weapons, "pass"], "fraud": ["pass"] * 3}, 0.05)
    assert found["weapons"] == {"n": 61, "missing": 0, "misses": 1, "bound": upper_bound(1, 61)}
    assert found["fraud"] == {"n": 3, "missing": 56, "misses": None, "bound": None}


def scores(rng: random.Random, n: int) -> list[float]:
    """Probabilities of harmful rows as a small guard gives them: mostly near 1, some missed, many ties."""
    return [round(rng.betavariate(0.3, 3) if rng.random() < 0.15 else rng.betavariate(5, 1), 2) for _ in range(n)]


def kept_splits(seed: int, splits: int, n: int, promise: float) -> int:
    """Halve rows `splits` times: on how many other halves is the miss rate not significantly over the promise?"""
    rng = random.Random(seed)
    rows, kept = scores(rng, 2 * n), 0
    for _ in range(splits):
        rng.shuffle(rows)
        below = cut_for(rows[:n], [], promise).below
        kept += not is_over(sum(p < below for p in rows[n:]), n, promise)
    return kept


@pytest.mark.parametrize(("n", "promise"), [(59, 0.05), (400, 0.05), (300, 0.01)])
def test_a_promise_is_kept_on_other_halves(n: int, promise: float) -> None:
    assert kept_splits(1, 20, n, promise) >= 19


@pytest.mark.long
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("n", "promise"), [(59, 0.05), (150, 0.1), (400, 0.05), (300, 0.01), (1500, 0.01)])
def test_a_promise_is_kept_on_95_of_100_other_halves(n: int, promise: float, seed: int) -> None:
    assert kept_splits(seed, 100, n, promise) >= 95


def test_a_higher_promise_lets_more_through() -> None:
    harmful = scores(random.Random(2), 800)
    cuts = [cut_for(harmful, [], promise).below for promise in (0.005, 0.01, 0.05, 0.2)]
    assert all(low <= high for low, high in pairwise(cuts))
    assert cuts[0] < cuts[-1]
