"""Disagreement, the four cells, AUROC and the comparison of cells, against figures worked out elsewhere."""

import math

import pytest

from wizloop.loop.measures import uncertainty


@pytest.mark.parametrize(
    ("ps", "expected"),
    [((0.9, 0.1, 0.5), 1.6), ((1, 1, 0), 2), ((0.3, 0.3, 0.3), 0), ((0.7,), 0), ((), 0), ((0.0, 0.25, 0.5, 1.0), 3.25)],
)
def test_disagreement(ps: tuple[float, ...], expected: float) -> None:
    assert uncertainty.disagreement(ps) == pytest.approx(expected)


def test_top_fifth_of_1554_is_310_with_ties_by_id() -> None:
    ids = list(range(1553, -1, -1))
    assert uncertainty.top_share([1.0] * 1554, ids, 0.2) == list(range(310))


def test_top_share_puts_the_highest_first() -> None:
    assert uncertainty.top_share([0.1, 0.9, 0.5, 0.9], ["d", "c", "b", "a"], 0.75) == ["a", "c", "b"]


def test_top_share_is_not_lost_to_rounding() -> None:
    assert len(uncertainty.top_share([0.0] * 100, list(range(100)), 0.29)) == 29


def test_top_share_needs_a_score_for_each_id() -> None:
    with pytest.raises(ValueError, match="1 scores for 2 ids"):
        uncertainty.top_share([1.0], ["a", "b"], 0.5)


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_top_share_refuses_what_is_no_share(share: float) -> None:
    with pytest.raises(ValueError, match="0 to 1"):
        uncertainty.top_share([1.0], ["a"], share)


@pytest.mark.parametrize(("p", "margin"), [(0.5, 0), (0.9, 0.8), (0.1, 0.8), (0, 1), (1, 1)])
def test_margin(p: float, margin: float) -> None:
    assert uncertainty.margin(p) == pytest.approx(margin)


@pytest.mark.parametrize("p", [-0.01, 1.01, math.nan])
def test_what_is_no_probability_is_refused(p: float) -> None:
    with pytest.raises(ValueError, match="not a probability"):
        uncertainty.margin(p)


@pytest.mark.parametrize(
    ("confidence", "passes", "expected"),
    [
        (0.9, False, "confident_block"),
        (0.9, True, "confident_pass"),
        (0.3, False, "uncertain_block"),
        (0.3, True, "uncertain_pass"),
        (0.5, True, "confident_pass"),
        (0.5, False, "confident_block"),
    ],
)
def test_four_cells(confidence: float, passes: bool, expected: str) -> None:
    assert uncertainty.cell(confidence, passes, 0.5) == expected


@pytest.mark.parametrize(
    ("scores", "positive", "expected"),
    [
        ([1, 2, 3, 4], [False, False, True, True], 1.0),
        ([1, 2, 3, 4], [True, True, False, False], 0.0),
        ([0.1, 0.4, 0.35, 0.8], [False, False, True, True], 0.75),
        ([1, 1, 1, 1], [False, True, False, True], 0.5),
        ([1, 2, 2, 3], [False, False, True, True], 0.875),
        ([1, 2], [True, True], None),
        ([], [], None),
    ],
)
def test_auroc(scores: list[float], positive: list[bool], expected: float | None) -> None:
    assert uncertainty.auroc(scores, positive) == expected


def test_the_measure_that_knows_right_from_wrong_is_chosen() -> None:
    choice = uncertainty.choose_measure(
        {
            "deepconf_mean": [4.0, 3.0, 2.0, 1.0],
            "verdict_margin": [0.1, 0.4, 0.35, 0.8],
            "lowest_group": [None, None, 1.0, 2.0],
        },
        [False, False, True, True],
    )
    assert choice.measure == "verdict_margin"
    assert choice.auroc == {"deepconf_mean": 0.0, "verdict_margin": 0.75, "lowest_group": None}
    assert choice.n == {"deepconf_mean": 4, "verdict_margin": 4, "lowest_group": 2}


def test_equal_measures_are_chosen_by_name_in_any_order() -> None:
    values, right = [1.0, 2.0], [False, True]
    for names in (["tail", "margin", "mean"], ["mean", "tail", "margin"]):
        assert uncertainty.choose_measure(dict.fromkeys(names, values), right).measure == "margin"


def test_a_measure_known_on_too_few_rows_is_not_chosen() -> None:
    candidates: dict[str, list[float | None]] = {"rare": [None, None, 0.0, 1.0], "common": [0.5, 0.1, 0.2, 0.6]}
    right = [True, False, False, True]
    assert uncertainty.choose_measure(candidates, right).measure == "common"
    candidates["common"] = [0.5, 0.1, 0.7, 0.6]
    assert uncertainty.choose_measure(candidates, right).measure == "rare"
    assert uncertainty.choose_measure(candidates, right, least=3).measure == "common"


def test_nothing_is_chosen_when_the_guard_is_always_right() -> None:
    assert uncertainty.choose_measure({"margin": [0.1, 0.2]}, [True, True]).measure is None


@pytest.mark.parametrize("values", [[1.0], [1.0, math.nan]])
def test_bad_values_name_the_measure(values: list[float | None]) -> None:
    with pytest.raises(ValueError, match="'margin'"):
        uncertainty.choose_measure({"margin": values}, [True, False])


def test_the_published_example_is_inconclusive() -> None:
    found = uncertainty.compare_cells(23, 25, 11, 15)
    assert found is not None
    assert found.difference == pytest.approx(0.187, abs=1e-3)
    assert found.z == pytest.approx(1.60, abs=5e-3)
    assert found.p == pytest.approx(0.109, abs=1e-3)
    assert found.exact_p == pytest.approx(0.174, abs=1e-3)
    assert found.words == "inconclusive"


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ((230, 250, 110, 150), "supports"),
        ((110, 150, 230, 250), "contradicts"),
        ((2, 2, 0, 2), "inconclusive"),
        ((5, 5, 7, 7), "inconclusive"),
        ((0, 5, 0, 7), "inconclusive"),
    ],
)
def test_compare_cells_words(counts: tuple[int, int, int, int], words: str) -> None:
    found = uncertainty.compare_cells(*counts)
    assert found is not None
    assert found.words == words


@pytest.mark.parametrize(
    ("counts", "exact_p"),
    [((1, 1, 2, 5), 1.0), ((0, 2, 2, 5), 1.0), ((2, 6, 4, 6), 0.567100), ((2, 2, 0, 2), 0.333333)],
)
def test_exact_p_counts_tables_as_likely_as_the_one_seen(counts: tuple[int, int, int, int], exact_p: float) -> None:
    found = uncertainty.compare_cells(*counts)
    assert found is not None
    assert found.exact_p == pytest.approx(exact_p, abs=1e-6)


@pytest.mark.parametrize("counts", [(0, 0, 3, 4), (3, 4, 0, 0)])
def test_an_empty_cell_has_no_comparison(counts: tuple[int, int, int, int]) -> None:
    assert uncertainty.compare_cells(*counts) is None


def test_more_right_than_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="5 right of 4"):
        uncertainty.compare_cells(5, 4, 1, 2)
