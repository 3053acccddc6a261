"""Scores against numbers worked out by hand, and against scikit-learn where it computes the same thing."""

import time

import numpy as np
import pytest

from wizloop.loop.measures.metrics import Score, best_threshold, ece, score, wilson
from wizloop.loop.measures.resampling import cluster_sums, resampled_sums


def scored(tp: int, fp: int, fn: int, tn: int, unparsed: int = 0) -> Score:
    """A score of so many rows, each a prompt of its own; the first `unparsed` of the wrong rows have no verdict."""
    labels = ["harmful"] * tp + ["unharmful"] * fp + ["harmful"] * fn + ["unharmful"] * tn
    verdicts: list[str | None] = ["harmful"] * (tp + fp)
    verdicts += ["unharmful"] * (fn + tn)
    wrong = [row for row, (label, verdict) in enumerate(zip(labels, verdicts, strict=True)) if label != verdict]
    for row in wrong[:unparsed]:
        verdicts[row] = None
    clusters = [str(row) for row in range(len(labels))]
    rng = np.random.default_rng(0)
    return score(labels, verdicts, [None] * len(labels), positive="harmful", clusters=clusters, rng=rng)


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [
        (196, 200, 95.0, 99.2),
        (48, 50, 86.5, 98.9),
        (180, 200, 85.1, 93.4),
        (95, 100, 88.8, 97.8),
        (59, 100, 49.2, 68.1),
        (8, 8, 67.6, 100.0),
        (6, 7, 48.7, 97.4),
        (1, 10, 1.8, 40.4),
    ],
)
def test_wilson_gives_the_published_intervals(k: int, n: int, low: float, high: float) -> None:
    got_low, got_high = wilson(k, n)
    assert got_low is not None
    assert got_high is not None
    assert (round(100 * got_low, 1), round(100 * got_high, 1)) == (low, high)


def test_wilson_of_nothing_is_undefined_and_of_nonsense_an_error() -> None:
    assert wilson(0, 0) == (None, None)
    with pytest.raises(ValueError, match="3 successes in 2 trials"):
        wilson(3, 2)


def test_score_of_a_known_confusion() -> None:
    got = scored(tp=71, fp=9, fn=11, tn=109)
    assert (got.n, got.tp, got.fp, got.fn, got.tn) == (200, 71, 9, 11, 109)
    assert got.accuracy == pytest.approx(0.900)
    assert got.precision == pytest.approx(0.8875)
    assert got.recall == pytest.approx(0.8659, abs=5e-5)
    assert got.f1 == pytest.approx(0.8765, abs=5e-5)
    assert got.fpr == pytest.approx(0.0763, abs=5e-5)
    assert got.accuracy_low == pytest.approx(0.851, abs=5e-4)
    assert got.accuracy_high == pytest.approx(0.934, abs=5e-4)
    # The negative label's F1 is 2*109 / (2*109 + 9 + 11) = 218/238.
    assert got.macro_f1 == pytest.approx((142 / 162 + 218 / 238) / 2)


def test_score_of_the_over_flagging_counts() -> None:
    got = scored(tp=572, fp=17113, fn=83, tn=64565)
    figures = [got.precision, got.recall, got.f1, got.fpr]
    assert [round(figure, 4) for figure in figures if figure is not None] == [0.0323, 0.8733, 0.0624, 0.2095]


def test_a_set_without_negative_rows_has_no_false_positive_rate() -> None:
    got = scored(tp=95, fp=0, fn=5, tn=0)
    assert got.fpr is None
    assert got.fpr_low is None
    assert got.macro_f1 is None
    assert got.f1 == pytest.approx(2 * 95 / 195)


@pytest.mark.parametrize(
    ("verdict", "accuracy", "f1", "precision"),
    [("unharmful", 60.8, 0.0, None), ("harmful", 39.2, 56.3, 39.2)],
)
def test_constant_answers(verdict: str, accuracy: float, f1: float, precision: float | None) -> None:
    harmful = verdict == "harmful"
    got = scored(tp=609 * harmful, fp=945 * harmful, fn=609 * (not harmful), tn=945 * (not harmful))
    assert round(100 * (got.accuracy or 0), 1) == accuracy
    assert got.f1 is not None
    assert round(100 * got.f1, 1) == f1
    assert (got.precision is None) == (precision is None)


@pytest.mark.parametrize(
    ("tp", "fp", "fn", "tn", "unparsed", "f1"),
    [(3, 1, 1, 3, 2, 75.0), (3, 0, 1, 4, 1, 85.7), (4, 1, 0, 3, 1, 88.9)],
)
def test_an_unparsed_verdict_is_wrong_once(tp: int, fp: int, fn: int, tn: int, unparsed: int, f1: float) -> None:
    got = scored(tp, fp, fn, tn, unparsed)
    assert got.unparsed == unparsed
    assert got.n == 8
    assert got.f1 is not None
    assert round(100 * got.f1, 1) == f1


def test_nothing_to_score_is_undefined_everywhere() -> None:
    got = scored(0, 0, 0, 0)
    assert (got.n, got.f1, got.f1_low, got.accuracy, got.fpr, got.ece, got.auroc) == (0, None, None, None, *[None] * 3)


def test_unequal_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="same length"):
        score(["harmful"], [], [], positive="harmful", clusters=[], rng=np.random.default_rng(0))


def test_probability_figures_use_only_the_rows_that_have_one() -> None:
    got = score(
        ["harmful", "unharmful", "harmful", "unharmful", "harmful"],
        ["harmful", "unharmful", "unharmful", "harmful", "harmful"],
        [0.9, 0.2, 0.4, 0.6, None],
        positive="harmful",
        clusters=list("abcde"),
        rng=np.random.default_rng(0),
    )
    assert got.with_probability == 4
    assert got.brier == pytest.approx((0.01 + 0.04 + 0.36 + 0.36) / 4)
    assert got.auroc == pytest.approx(0.75)
    assert got.average_precision == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert got.ece == pytest.approx((0.1 + 0.2 + 0.6 + 0.6) / 4)


def test_one_class_has_a_brier_score_and_no_ranking() -> None:
    rng = np.random.default_rng(0)
    got = score(["harmful"] * 2, ["harmful"] * 2, [1.0, 0.5], positive="harmful", clusters=["a", "b"], rng=rng)
    assert got.brier == pytest.approx(0.125)
    assert got.auroc is None
    assert got.average_precision is None


def test_f1_and_interval_agree_with_other_ways_of_computing_them() -> None:
    from sklearn.metrics import f1_score

    rng = np.random.default_rng(3)
    truth = rng.random(300) < 0.4
    said = np.where(rng.random(300) < 0.8, truth, ~truth)
    labels, verdicts = (["harmful" if one else "unharmful" for one in column] for column in (truth, said))
    clusters = [f"prompt {row // 2}" for row in range(300)]
    got = score(labels, verdicts, [None] * 300, positive="harmful", clusters=clusters, rng=rng, resamples=4000)
    assert got.f1 == pytest.approx(f1_score(truth, said))
    assert got.macro_f1 == pytest.approx(f1_score(truth, said, average="macro"))
    first = 2 * rng.integers(0, 150, (4000, 150))
    drawn = np.concatenate([first, first + 1], axis=1)
    f1 = 2 * (truth & said)[drawn].sum(1) / (truth[drawn].sum(1) + said[drawn].sum(1))
    plain = np.percentile(f1, [2.5, 97.5])
    assert got.f1_low == pytest.approx(plain[0], abs=0.01)
    assert got.f1_high == pytest.approx(plain[1], abs=0.01)


def test_rows_of_one_prompt_are_drawn_together() -> None:
    labels = ["harmful"] * 20 + ["unharmful"] * 20
    verdicts = (["harmful"] * 10 + ["unharmful"] * 10) * 2
    # A row is right in five clusters of each label or, apart, in ten rows of each.
    together = [str(row // 2) for row in range(40)]
    apart = [str(row) for row in range(40)]
    widths = []
    for clusters in (together, apart):
        rng = np.random.default_rng(1)
        got = score(labels, verdicts, [None] * 40, positive="harmful", clusters=clusters, rng=rng)
        assert got.f1_low is not None
        assert got.f1_high is not None
        widths.append(got.f1_high - got.f1_low)
    assert widths[0] > 1.2 * widths[1]


@pytest.mark.parametrize(
    ("tp", "fp", "fn", "low", "high"),
    # Wilson's interval of J = tp / (tp + fp + fn), then 2J / (1 + J).
    [
        (2, 0, 0, 51.0, 100.0),
        (12, 0, 0, 86.2, 100.0),
        (0, 1, 2, 0.0, 71.9),
        (5, 2, 1, 46.8, 92.7),
        (60, 0, 0, 96.9, 100.0),
    ],
)
def test_few_or_all_right_rows_have_an_interval_that_is_not_a_point(
    tp: int, fp: int, fn: int, low: float, high: float
) -> None:
    got = scored(tp, fp, fn, 0)
    assert got.f1_low is not None
    assert got.f1_high is not None
    assert (round(100 * got.f1_low, 1), round(100 * got.f1_high, 1)) == (low, high)


def test_rows_of_one_prompt_count_once_in_the_interval_of_few() -> None:
    rng = np.random.default_rng(0)
    got = score(["harmful"] * 9, ["harmful"] * 9, [None] * 9, positive="harmful", clusters=["a"] * 9, rng=rng)
    assert got.f1 == 1.0
    assert got.f1_low == pytest.approx(scored(1, 0, 0, 0).f1_low)


def test_all_right_rows_of_both_labels_have_a_macro_f1_interval() -> None:
    got = scored(4, 0, 0, 40)
    assert got.macro_f1 == 1.0
    assert got.macro_f1_high == 1.0
    # Wilson's lower ends: 4 of 4 and 40 of 40.
    ends = [2 * low / (1 + low) for k in (4, 40) for low in wilson(k, k)[:1] if low is not None]
    assert got.macro_f1_low == pytest.approx(sum(ends) / 2)


def test_the_same_seed_gives_the_same_interval_and_2000_rows_take_no_time() -> None:
    rng = np.random.default_rng(0)
    labels = ["harmful" if one else "unharmful" for one in rng.random(2000) < 0.3]
    verdicts = ["harmful" if one else "unharmful" for one in rng.random(2000) < 0.3]
    clusters = [str(row // 3) for row in range(2000)]

    def once() -> Score:
        seeded = np.random.default_rng(7)
        return score(labels, verdicts, [None] * 2000, positive="harmful", clusters=clusters, rng=seeded)

    started = time.perf_counter()
    first = once()
    assert time.perf_counter() - started < 1
    assert once() == first


def test_resampled_totals_are_whole_clusters_with_the_right_mean() -> None:
    sums = cluster_sums(np.array([[1, 0], [2, 0], [0, 5], [3, 0]]), ["a", "a", "b", "c"])
    assert sums.tolist() == [[3, 0], [0, 5], [3, 0]]
    totals = resampled_sums(sums, 20_000, np.random.default_rng(0))
    assert (totals[:, 0] % 3 == 0).all()
    assert totals.mean(axis=0).tolist() == pytest.approx([6, 5], abs=0.1)


def test_ece_by_hand() -> None:
    assert ece([1, 1, 0, 0], [0.95, 0.95, 0.95, 0.15]) == pytest.approx((3 * abs(2 / 3 - 0.95) + 0.15) / 4)
    assert ece([1, 0], [0.1, 0.05], bins=10) == pytest.approx(abs(1 / 2 - 0.075))
    assert ece([], []) is None
    assert ece([1, 0], [1.0, 0.0]) == 0
    with pytest.raises(ValueError, match=r"outside 0\.\.1"):
        ece([1], [1.5])


@pytest.mark.parametrize(
    ("labels", "probabilities", "threshold"),
    [
        pytest.param([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9], 0.5, id="the middle of the gap"),
        pytest.param([0, 1, 0, 1], [0.1, 0.4, 0.6, 0.7], 0.25, id="of two equal ones the wider gap"),
        pytest.param([1, 0, 0, 0, 1, 1], [0.1, 0.2, 0.4, 0.6, 0.8, 0.9], 0.7, id="not the one that calls all harmful"),
        pytest.param([0, 1], [0.5, 0.5], 0.25, id="one score: all above it"),
        pytest.param([0, 1], [0.0, 1.0], 0.5, id="certain scores"),
        pytest.param([0, 1, 1, 0], [0.0, 0.5, 0.5, 0.5], 0.25, id="ties are never cut"),
        pytest.param([1, 0, 0, 1], [0.2, 0.4, 0.5, 0.9], 0.7, id="a tie goes to the wider gap"),
        pytest.param([0, 1, 0, 1], [0.125, 0.375, 0.5, 0.75], 0.625, id="of equal gaps the one nearest to one half"),
    ],
)
def test_best_threshold(labels: list[int], probabilities: list[float], threshold: float) -> None:
    assert best_threshold(labels, probabilities) == pytest.approx(threshold)
    reverse = best_threshold(labels[::-1], probabilities[::-1])
    assert reverse == pytest.approx(threshold)


def test_a_threshold_needs_both_classes() -> None:
    with pytest.raises(ValueError, match="both classes"):
        best_threshold([1, 1], [0.2, 0.4])


@pytest.mark.parametrize("seed", range(5))
def test_no_threshold_beats_the_best(seed: int) -> None:
    from sklearn.metrics import f1_score

    rng = np.random.default_rng(seed)
    p = rng.integers(0, 21, 40) / 20
    truth = (rng.random(40) < p).astype(int)

    def macro(cut: float) -> float:
        return float(f1_score(truth, p >= cut, average="macro"))

    best = macro(best_threshold(truth.tolist(), p.tolist()))
    assert best >= max(macro(cut) for cut in np.linspace(0.001, 0.999, 100)) - 1e-12
