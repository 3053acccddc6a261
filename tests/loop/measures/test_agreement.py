"""Agreement of raters: against statsmodels and scikit-learn, values by hand, and the coverage of the intervals."""

import warnings

import krippendorff
import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import cohens_kappa

from wizloop.loop.measures import agreement
from wizloop.loop.measures.agreement import Codes, Figure, Level


def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def names(n: int) -> list[str]:
    return [f"prompt {at}" for at in range(n)]


def two_raters(n: int, k: int, agree: float, seed: int) -> tuple[Codes, Codes]:
    """Two raters who give the same label where a coin says so, and any label otherwise."""
    chance = np.random.default_rng(seed)
    first, other = chance.integers(k, size=(2, n))
    return first, np.where(chance.random(n) < agree, first, other)


def ends(figure: Figure) -> tuple[float, float, float]:
    """A figure between the ends of its interval, which must be there."""
    assert figure.value is not None
    assert figure.low is not None
    assert figure.high is not None
    return figure.low, figure.value, figure.high


def pair(first: Codes, second: Codes, k: int, level: Level = "nominal") -> agreement.Pair:
    return agreement.pair(first, second, k, names(len(first)), level, rng())


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("k", "level", "weights"), [(2, "nominal", None), (3, "nominal", None), (5, "ordinal", "quadratic")]
)
def test_kappa_is_that_of_statsmodels_and_of_scikit_learn(k: int, level: Level, weights: str | None, seed: int) -> None:
    first, second = two_raters(80, k, 0.6, seed)
    found = pair(first, second, k, level)
    theirs = cohens_kappa(np.array(found.table), wt=weights, return_results=False)
    assert found.kappa.value == pytest.approx(float(theirs))
    assert found.kappa.value == pytest.approx(cohen_kappa_score(first, second, weights=weights, labels=range(k)))


def test_kappa_by_hand() -> None:
    """Cohen's two examiners of fifty: 20 both yes, 15 both no, 5 and 10 apart: (0.7 - 0.5) / 0.5."""
    table = [[20, 5], [10, 15]]
    first = np.repeat([0, 0, 1, 1], [20, 5, 10, 15])
    second = np.repeat([0, 1, 0, 1], [20, 5, 10, 15])
    found = pair(first, second, 2)
    assert (found.n, found.prompts, found.table) == (50, 50, table)
    assert found.same.value == pytest.approx(0.7)
    assert found.kappa.value == pytest.approx(0.4)


def test_the_interval_of_kappa_is_near_the_one_from_theory() -> None:
    first, second = two_raters(400, 2, 0.6, 5)
    found = pair(first, second, 2)
    theirs = cohens_kappa(np.array(found.table))
    assert found.kappa.low == pytest.approx(theirs.kappa_low, abs=0.02)
    assert found.kappa.high == pytest.approx(theirs.kappa_upp, abs=0.02)


def test_alpha_by_hand_with_gaps_and_three_raters() -> None:
    """Example C of Krippendorff, Computing Krippendorff's Alpha-Reliability (2011): 4 raters, 12 units, 5 values."""
    data = np.array(
        [
            [1, 2, 3, 3, 2, 1, 4, 1, 2, 0, 0, 0],
            [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, 0, 3],
            [0, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, 0],
            [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, 0],
        ]
    )
    values = [agreement.alpha(data - 1, 5, names(12), level, rng()).value for level in ("nominal", "ordinal")]
    assert values == [pytest.approx(0.743, abs=0.001), pytest.approx(0.815, abs=0.001)]


def test_alpha_of_two_raters_by_hand() -> None:
    """The 2011 example A: two raters, ten units, two values: alpha 0.095."""
    data = np.array([[0, 1, 0, 0, 0, 0, 0, 0, 1, 0], [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]])
    found = agreement.alpha(data, 2, names(10), "nominal", rng())
    assert found.value == pytest.approx(0.095, abs=0.001)
    assert found.low is None
    assert found.value == pytest.approx(krippendorff.alpha(data, level_of_measurement="nominal"))


def test_an_interval_of_alpha_holds_the_value_and_narrows_with_more_prompts() -> None:
    widths = []
    for n in (40, 300):
        found = agreement.alpha(np.array(two_raters(n, 2, 0.6, 3)), 2, names(n), "nominal", rng())
        low, value, high = ends(found)
        assert low < value < high
        widths.append(high - low)
    assert widths[1] < widths[0] / 2


def test_what_only_one_rated_does_not_count() -> None:
    found = pair(np.array([0, 1, -1, 1]), np.array([0, 0, 1, -1]), 2)
    assert (found.n, found.table) == (2, [[1, 0], [1, 0]])


@pytest.mark.parametrize("n", [0, 1, 40])
def test_one_label_only_gives_no_kappa_and_no_alpha(n: int) -> None:
    same = np.zeros(n, dtype=np.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = pair(same, same, 2)
        alpha = agreement.alpha(np.array([same, same]), 2, names(n), "nominal", rng())
    assert (found.kappa, alpha) == (Figure(None), Figure(None))
    assert found.same.value == (1.0 if n else None)


def test_few_prompts_have_no_interval() -> None:
    first, second = two_raters(60, 2, 0.6, 1)
    few = agreement.pair(first, second, 2, [f"prompt {at % 29}" for at in range(60)], "nominal", rng())
    assert (few.n, few.prompts, few.kappa.low, few.same.low) == (60, 29, None, None)
    enough = agreement.pair(first, second, 2, [f"prompt {at % 30}" for at in range(60)], "nominal", rng())
    assert enough.kappa.low is not None


def test_raters_who_never_differ_get_no_interval_of_one_point() -> None:
    first = np.array([0, 1] * 25)
    found = pair(first, first, 2)
    assert (found.kappa, found.same.value, found.same.high) == (Figure(1.0), 1.0, 1.0)
    assert found.same.low == pytest.approx(0.929, abs=0.001)
    assert agreement.alpha(np.array([first, first]), 2, names(50), "nominal", rng()) == Figure(1.0)


def test_rows_of_one_prompt_are_drawn_together() -> None:
    """Each prompt twice with the same answers is no more evidence than once: the intervals are as wide."""
    first, second = two_raters(100, 2, 0.6, 2)
    once = agreement.pair(first, second, 2, names(100), "nominal", rng())
    twice = agreement.pair(np.tile(first, 2), np.tile(second, 2), 2, names(100) * 2, "nominal", rng())
    assert twice.kappa == once.kappa
    alphas = [
        agreement.alpha(np.tile(np.array([first, second]), times), 2, names(100) * times, "nominal", rng())
        for times in (1, 2)
    ]
    assert (alphas[1].low, alphas[1].high) == pytest.approx((alphas[0].low, alphas[0].high), abs=0.01)


def test_grades_have_a_mean_and_a_share() -> None:
    given = np.array([5, 4, 3, 1, 0] * 10)
    found = agreement.grades(given, 4, names(50), rng())
    assert (found.n, found.mean.value, found.share.value) == (40, 3.25, 0.5)
    low, _, high = ends(found.share)
    assert 0.3 < low < 0.5 < high < 0.7
    assert agreement.grades(given[:0], 4, [], rng()).mean == Figure(None)
