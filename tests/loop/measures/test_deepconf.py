"""The numeric checks of DeepConf (arXiv:2508.15260); a few against hand-worked cases of our own."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wizloop.loop.measures import deepconf

TRACE = [4, 6, 5, 1, 2, 3, 7, 8, 6, 8]
WARM_UP = [10.2, 11.5, 9.8, 12.4, 13.1, 10.9, 11.1, 12.0, 9.5, 13.6, 12.8, 11.7, 10.4, 12.2, 11.9, 10.7]


def cut_at(trace: Sequence[float], window: int, threshold: float) -> int | None:
    """The token (from 1) at which the trace is cut."""
    online = deepconf.OnlineGroup(window, threshold)
    return next((i for i, confidence in enumerate(trace, start=1) if online.push(confidence)), None)


def test_groups_of_a_short_window() -> None:
    assert deepconf.groups(TRACE, 3) == pytest.approx([5, 4, 2.667, 2, 4, 6, 7, 7.333], abs=1e-3)


def test_all_measures_at_once() -> None:
    assert deepconf.measures(TRACE, window=3, tail=4) == deepconf.Measures(mean=5.0, tail=7.25, lowest=2.0, bottom=2.0)


def test_a_window_longer_than_the_trace_is_the_mean() -> None:
    assert deepconf.groups(TRACE, 2048).tolist() == [5.0]
    assert deepconf.measures(TRACE, window=2048, tail=2048) == deepconf.Measures(5.0, 5.0, 5.0, 5.0)


def test_an_empty_trace_is_zero() -> None:
    assert deepconf.groups([], 4).tolist() == [0.0]
    assert deepconf.measures([], window=4, tail=4) == deepconf.Measures(0.0, 0.0, 0.0, 0.0)


def test_bottom_tenth_of_27_groups_is_two() -> None:
    confidences = list(range(1, 31))
    assert len(deepconf.groups(confidences, 4)) == 27
    assert deepconf.measures(confidences, window=4, tail=4).bottom == 3.0


@pytest.mark.parametrize(("window", "tail"), [(0, 4), (4, 0)])
def test_a_window_of_nothing_is_refused(window: int, tail: int) -> None:
    with pytest.raises(ValueError, match="must be 1 or more"):
        deepconf.measures(TRACE, window=window, tail=tail)


@pytest.mark.parametrize(("mean_tokens", "window"), [(0, 4), (10, 5), (40, 20), (64, 32), (256, 128), (2000, 128)])
def test_window_for(mean_tokens: float, window: int) -> None:
    assert deepconf.window_for(mean_tokens) == window


def test_votes_sum_their_weights() -> None:
    votes = deepconf.weighted_votes(["109", "103", "109", "104", "98"], [17, 15, 13, 11, 9])
    assert votes.sums == {"109": 30, "103": 15, "104": 11, "98": 9}
    assert votes.winner == "109"
    assert votes.share == pytest.approx(0.461538, abs=1e-6)


def test_an_unparsed_trace_never_votes() -> None:
    votes = deepconf.weighted_votes([None, "harmful", None], [100.0, 2.0, 100.0])
    assert votes == deepconf.Votes({"harmful": 2.0}, "harmful", 1.0)
    assert deepconf.weighted_votes([None], [1.0]) == deepconf.Votes({}, None, 0.0)


def test_a_tie_goes_to_the_first_seen() -> None:
    assert deepconf.weighted_votes(["unharmful", "harmful"], [2.0, 2.0]).winner == "unharmful"
    assert deepconf.weighted_votes(["harmful", "unharmful"], [2.0, 2.0]).winner == "harmful"


def test_votes_without_weight_are_no_consensus() -> None:
    assert deepconf.weighted_votes(["harmful", "harmful"], [0.0, 0.0]).share == 0.0


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0], [1.0, math.nan]])
def test_bad_weights_are_refused(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="weight"):
        deepconf.weighted_votes(["harmful", "harmful"], weights)


@pytest.mark.parametrize(("percent", "threshold"), [(10, 16.2), (40, 13.8), (90, 9.8)])
def test_stop_threshold_is_a_linear_percentile(percent: float, threshold: float) -> None:
    assert deepconf.stop_threshold([17, 15, 13, 11, 9], percent) == pytest.approx(threshold)


@pytest.mark.parametrize("percent", [-1, 101])
def test_stop_threshold_refuses_what_is_no_percentage(percent: float) -> None:
    with pytest.raises(ValueError, match="0 to 100"):
        deepconf.stop_threshold([1.0], percent)


def test_stop_threshold_refuses_no_traces() -> None:
    with pytest.raises(ValueError, match="no warm-up traces"):
        deepconf.stop_threshold([], 10)


@pytest.mark.parametrize(("percent", "threshold", "kept"), [(10, 12.95, 2), (90, 10.0, 14)])
def test_stop_threshold_low_and_high(percent: float, threshold: float, kept: int) -> None:
    found = deepconf.stop_threshold(WARM_UP, percent)
    assert found == pytest.approx(threshold)
    assert sum(low >= found for low in WARM_UP) == kept


@pytest.mark.parametrize(
    ("against", "weight", "n_for", "share", "goes_on"),
    [(1, 2.0, 9, 0.957447, False), (1, 4.0, 2, 0.714286, True), (0, 0.0, 3, 1.0, False)],
)
def test_consensus(against: int, weight: float, n_for: int, share: float, goes_on: bool) -> None:
    answers = ["harmful"] * n_for + ["unharmful"] * against
    votes = deepconf.weighted_votes(answers, [5.0] * n_for + [weight] * against)
    assert votes.share == pytest.approx(share, abs=1e-6)
    assert deepconf.keep_sampling(votes, len(answers), least=3, most=12, consensus=0.95) is goes_on


@pytest.mark.parametrize(("threshold", "token"), [(3.2, 6), (2.5, None), (100.0, 4)])
def test_online_cut_waits_for_a_full_window(threshold: float, token: int | None) -> None:
    assert cut_at(TRACE, 4, threshold) == token


def test_a_group_at_the_threshold_is_not_cut() -> None:
    assert deepconf.groups(TRACE, 4).min() == 2.75
    assert cut_at(TRACE, 4, 2.75) is None
    assert cut_at(TRACE, 4, np.nextafter(2.75, 3)) == 6


@settings(deadline=None)
@given(st.lists(st.floats(0, 40), min_size=1, max_size=300), st.integers(1, 140), st.data())
def test_online_and_offline_agree_to_the_last_bit(trace: list[float], window: int, data: st.DataObject) -> None:
    if len(trace) < window:
        assert cut_at(trace, window, math.inf) is None
        return
    by_group = deepconf.groups(trace, window)
    threshold = float(data.draw(st.sampled_from(by_group.tolist())))
    below = np.flatnonzero(by_group < threshold)
    assert cut_at(trace, window, threshold) == (below[0] + window if len(below) else None)


@pytest.mark.parametrize("window", [3, 32, 100, 128])
def test_the_lowest_group_of_a_long_trace_is_not_cut_at_itself(window: int) -> None:
    trace = np.random.default_rng(7).uniform(0, 20, 300).tolist()
    lowest = deepconf.measures(trace, window=window, tail=window).lowest
    assert cut_at(trace, window, lowest) is None
    assert cut_at(trace, window, np.nextafter(lowest, 20)) is not None


@pytest.mark.parametrize(("share", "taken"), [(1.0, 3), (0.5, 10)])
def test_the_number_of_traces_stays_within_its_bounds(share: float, taken: int) -> None:
    votes = deepconf.Votes({"harmful": share, "unharmful": 1 - share}, "harmful", share)
    n = 0
    while deepconf.keep_sampling(votes, n, least=3, most=10, consensus=0.95):
        n += 1
    assert n == taken


@pytest.mark.parametrize(("least", "most"), [(0, 3), (4, 3)])
def test_bounds_that_cannot_hold_are_refused(least: int, most: int) -> None:
    with pytest.raises(ValueError, match="1 <= least <= most"):
        deepconf.keep_sampling(deepconf.Votes({}, None, 0.0), 0, least=least, most=most, consensus=0.95)
