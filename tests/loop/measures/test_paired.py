"""Paired comparisons: against statsmodels and SciPy, by hand, and by simulation."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy.stats import bootstrap
from statsmodels.stats.contingency_tables import mcnemar as their_mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import NormalIndPower
from statsmodels.stats.weightstats import DescrStatsW

from wizloop.loop.measures.paired import Pair, compare, detectable, holm, mcnemar, power

# Label, our verdict, their verdict.
BOTH = [("harmful", "harmful", "harmful"), ("unharmful", "unharmful", "unharmful")]
OURS = [("harmful", "harmful", "unharmful"), ("unharmful", "unharmful", "harmful")]
THEIRS = [("harmful", "unharmful", "harmful"), ("unharmful", "harmful", "unharmful")]


def pair(rows: Sequence[tuple[str, str | None, str | None]], prompts: Sequence[str] | None = None) -> Pair:
    labels, ours, theirs = zip(*rows, strict=True)
    return Pair("harmful", labels, ours, theirs, prompts or [str(at) for at in range(len(rows))])


def rows_of(both: int, ours: int, theirs: int) -> list[tuple[str, str, str]]:
    """Rows that both have right, ours alone, theirs alone; of each half is harmful."""
    return BOTH * (both // 2) + OURS * (ours // 2) + THEIRS * (theirs // 2)


@pytest.mark.parametrize(("only_ours", "only_theirs"), [(0, 0), (1, 0), (6, 0), (3, 12), (20, 14), (150, 190)])
def test_mcnemar_is_that_of_statsmodels(only_ours: int, only_theirs: int) -> None:
    table = [[50, only_ours], [only_theirs, 9]]
    assert mcnemar(only_ours, only_theirs) == pytest.approx(min(their_mcnemar(table, exact=True).pvalue, 1.0))


@pytest.mark.parametrize("ps", [[0.03], [0.01, 0.04, 0.03, 0.005], [0.2, 0.2, 0.9, 1.0], [0.04, 0.01, 0.01], []])
def test_holm_is_that_of_statsmodels(ps: list[float]) -> None:
    theirs = multipletests(ps, method="holm")[1].tolist() if ps else []
    assert holm(ps) == pytest.approx(theirs)


def test_the_intervals_are_those_of_scipy() -> None:
    rows = rows_of(200, 40, 20)
    (found,) = compare([pair(rows)], resamples=4000)
    truth, ours, theirs = (np.array([row[at] == "harmful" for row in rows]) for at in range(3))

    def f1(y: Any, said: Any) -> Any:
        return 2 * (y & said).sum(axis=-1) / (y.sum(axis=-1) + said.sum(axis=-1))

    def difference(y: Any, a: Any, b: Any, axis: int = -1) -> Any:
        return f1(y, a) - f1(y, b)

    how = {"paired": True, "method": "percentile", "n_resamples": 4000, "rng": np.random.default_rng(1)}
    peer = bootstrap((truth, ours, theirs), difference, **how).confidence_interval
    assert found.f1.difference == pytest.approx(float(difference(truth, ours, theirs)))
    assert (found.f1.low, found.f1.high) == pytest.approx(tuple(peer), abs=0.006)
    gained = DescrStatsW((ours == truth).astype(float) - (theirs == truth))
    assert (found.accuracy.low, found.accuracy.high) == pytest.approx(gained.zconfint_mean(), abs=0.006)


def test_in_accuracy_the_exchange_of_answers_is_mcnemar() -> None:
    benign = [("unharmful", "unharmful", "harmful")] * 12 + [("unharmful", "harmful", "unharmful")] * 4
    (found,) = compare([pair(benign + [BOTH[1]] * 60)])
    # No label is positive: F1 is 0 of both, and says nothing.
    assert (found.f1.ours, found.f1.difference) == (0.0, 0.0)
    assert (found.only_ours, found.only_theirs) == (12, 4)
    assert found.mcnemar == pytest.approx(mcnemar(12, 4))
    assert found.p == pytest.approx(found.mcnemar, abs=0.01)


def test_better_worse_and_what_cannot_be_told_apart() -> None:
    (ours,), (theirs,), (neither,) = (compare([pair(rows_of(200, *alone))]) for alone in ((40, 10), (10, 40), (14, 10)))
    assert (ours.conclusion, theirs.conclusion) == ("better", "worse")
    assert neither.conclusion == "cannot be told apart"
    assert (ours.n, ours.prompts, ours.only_ours, ours.only_theirs) == (250, 250, 40, 10)
    assert ours.f1.difference == pytest.approx(-float(theirs.f1.difference or 0))
    assert ours.macro_f1.ours == pytest.approx(0.96)
    # What could not be told is smaller than what could have been.
    assert 0 < float(neither.f1.difference or 0) < float(neither.f1.detectable or 0) < 0.1


def test_a_benign_set_is_compared_by_accuracy() -> None:
    rows = [("unharmful", "unharmful", "harmful")] * 20 + [BOTH[1]] * 60
    assert compare([pair(rows)])[0].conclusion == "better"


def test_a_guard_that_never_sees_harm_is_told_apart_though_it_is_right_as_often() -> None:
    rows = [("harmful", "harmful", "unharmful")] * 12 + [("unharmful", "harmful", "unharmful")] * 12 + [BOTH[1]] * 100
    (found,) = compare([pair(rows)])
    assert (found.conclusion, found.mcnemar) == ("better", 1.0)


def test_the_rows_of_a_table_count() -> None:
    likely = pair(rows_of(200, 24, 8))
    alone, among = compare([likely])[0], compare([likely, *[pair(rows_of(200, 12, 12))] * 12])[0]
    assert (alone.conclusion, alone.holm) == ("better", alone.p)
    assert among.conclusion == "cannot be told apart"
    assert among.mcnemar_holm == pytest.approx(13 * alone.mcnemar)
    assert float(among.f1.detectable or 0) > float(alone.f1.detectable or 0)


def test_rows_of_one_prompt_vote_once() -> None:
    rows = rows_of(40, 20, 0)
    (found,) = compare([pair(rows, [f"prompt {at // 10}" for at in range(60)])])
    assert (found.n, found.prompts, found.only_ours, found.mcnemar) == (60, 6, 2, 0.5)
    assert found.conclusion == "cannot be told apart"
    # As single rows they would be enough.
    assert compare([pair(rows)])[0].conclusion == "better"


def test_an_unread_answer_is_wrong() -> None:
    (found,) = compare([pair([("harmful", "harmful", None), ("unharmful", None, "unharmful"), *BOTH])])
    assert (found.only_ours, found.only_theirs, found.accuracy.ours) == (1, 1, 0.75)


@pytest.mark.parametrize("rows", [BOTH * 30, BOTH[:1], OURS])
def test_where_no_row_tells_nothing_is_said(rows: list[tuple[str, str, str]]) -> None:
    (found,) = compare([pair(rows)])
    assert found.conclusion == "cannot be told apart"
    assert found.f1.detectable is None


def test_guards_that_agree_have_rows_that_could_have_told() -> None:
    (found,) = compare([pair(BOTH * 150)])
    # Six prompts must differ in one direction, and do so in 80 of 100 sets if 7.9 are expected.
    assert found.accuracy.detectable == pytest.approx(7.9 / 300, abs=2e-4)
    assert detectable(5, 2) is None
    assert detectable(9, 2) == pytest.approx(0.72, abs=0.2)


def test_the_power_is_that_of_a_simulation() -> None:
    prompts, differ, gap = 400, 0.1, 0.045
    rng = np.random.default_rng(3)
    sets = rng.multinomial(prompts, [(differ + gap) / 2, (differ - gap) / 2, 1 - differ], size=600)
    shown = [mcnemar(*counts) <= 0.05 for counts in sets[:, :2].tolist()]
    assert power(prompts, differ, gap) == pytest.approx(np.mean(shown), abs=0.05)
    assert power(prompts, differ, float(detectable(prompts, 40) or 0)) == pytest.approx(0.8, abs=0.001)


def test_on_many_prompts_the_detectable_difference_is_that_of_statsmodels() -> None:
    effect = NormalIndPower().solve_power(nobs1=20_000, alpha=0.05, power=0.8, ratio=0)
    assert detectable(20_000, 2000) == pytest.approx(effect * 0.1**0.5, rel=0.01)


def test_each_row_needs_a_label_and_two_verdicts() -> None:
    with pytest.raises(ValueError, match="2 labels and 1 verdicts"):
        compare([Pair("harmful", ["harmful", "unharmful"], ["harmful"], ["harmful", "harmful"], ["a", "b"])])
    with pytest.raises(ValueError, match="2 labels and 1 prompts"):
        compare([pair(BOTH, ["a"])])


def _simulated(prompts: int, differ: float, gap: float, rng: np.random.Generator) -> Pair:
    kinds = rng.choice(3, size=prompts, p=[(differ + gap) / 2, (differ - gap) / 2, 1 - differ])
    sides = rng.integers(2, size=prompts)
    return pair([(OURS, THEIRS, BOTH)[kind][side] for kind, side in zip(kinds, sides, strict=True)])


@pytest.mark.long
def test_the_conclusion_is_as_often_right_as_it_says() -> None:
    rng = np.random.default_rng(5)
    gap = float(detectable(400, 40) or 0)
    shown = [compare([_simulated(400, 0.1, gap, rng)], resamples=500)[0].conclusion for _ in range(400)]
    assert 0.74 <= shown.count("better") / 400 <= 0.87
    alike = [compare([_simulated(400, 0.1, 0.0, rng)], resamples=500)[0].conclusion for _ in range(400)]
    assert 400 - alike.count("cannot be told apart") <= 32
