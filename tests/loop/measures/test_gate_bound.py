"""What the gates of a run can exclude, and how often they are wrong."""

from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from wizloop.loop.measures.gate_bound import APART, GateBound, gate_bound, lower_bound
from wizloop.loop.measures.promotion import Candidate, LabeledVerdicts, decide

NIGHTS = 150


def test_the_loss_is_so_many_standard_errors() -> None:
    bound = gate_bound([(500, 500)], 1000, 4)
    assert bound is not None
    # On balanced labels macro-F1 is nearly accuracy, whose paired difference has this error.
    error = (APART / 1000) ** 0.5
    assert bound.loss == pytest.approx((norm.ppf(1 - 0.05 / 4) + norm.ppf(0.8)) * error, rel=0.05)
    assert (bound.level, bound.gates, bound.prompts) == (0.0125, 4, 1000)


def test_the_errors_of_two_tasks_are_independent() -> None:
    one, two = gate_bound([(50, 50)], 100, 4), gate_bound([(50, 50), (50, 50)], 100, 4)
    assert one is not None
    assert two is not None
    assert two.loss == pytest.approx(one.loss / 2**0.5)


@pytest.mark.parametrize(
    ("smaller", "larger"),
    [(([(500, 500)], 1000, 4), ([(50, 50)], 100, 4)), (([(50, 50)], 100, 1), ([(50, 50)], 100, 8))],
)
def test_fewer_prompts_and_more_gates_exclude_less(smaller: Any, larger: Any) -> None:
    first, second = gate_bound(*smaller), gate_bound(*larger)
    assert first is not None
    assert second is not None
    assert first.loss < second.loss


def test_without_both_classes_nothing_is_known() -> None:
    assert gate_bound([(0, 9), (9, 0)], 9, 4) is None
    with pytest.raises(ValueError, match="at least one gate"):
        gate_bound([(1, 1)], 2, 0)


def test_the_bound_is_said_with_the_margin_where_that_is_wider() -> None:
    bound = GateBound(0.042, 0.0125, 4, 260)
    assert bound.sentence(0.01) == (
        "With 260 dev prompts, 4 gates can exclude a loss of more than 4.2 points of macro-F1 (at 5 % over the run)"
    )
    assert "more than 6.0 points" in bound.sentence(0.06)
    assert "one gate can" in GateBound(0.042, 0.05, 1, 260).sentence(0.0)


def test_a_lower_bound_is_the_smaller_of_two() -> None:
    draws = np.random.default_rng(0).normal(0.0, 1.0, 20_000)
    assert lower_bound(draws, 0.0, 0.05) == pytest.approx(-1.645, abs=0.05)
    assert lower_bound(draws + 1, 0.0, 0.05) == pytest.approx(-1.645, abs=0.05)
    assert lower_bound(np.array([np.nan, 0.0]), 0.0, 0.05) is None


def night(rng: np.random.Generator, gain: float, gates: int) -> bool:
    """Return whether any of a night's challengers passes; each is truly better than what stands by `gain`."""
    size, apart = 120, max(APART, 1.2 * abs(gain))
    bound = gate_bound([(size // 2, size // 2)], size, gates)
    labels = ["harmful", "unharmful"] * (size // 2)
    other = {"harmful": "unharmful", "unharmful": "harmful"}
    for _ in range(gates):
        kind = rng.choice(4, size=size, p=[0.7 - apart / 2, (apart - gain) / 2, (apart + gain) / 2, 0.3 - apart / 2])
        said = [
            [label if k in (0, which) else other[label] for label, k in zip(labels, kind, strict=True)]
            for which in (1, 2)
        ]
        both = [
            Candidate({"request": LabeledVerdicts(range(size), labels, each, [str(row) for row in range(size)])})
            for each in said
        ]
        limits: dict[str, Any] = {"margin": 0.01, "max_unparsable": 0.0, "max_over_refusal_rise": 1.0}
        if decide(*both, rng=rng, bound=bound, resamples=400, **limits).passed:
            return True
    return False


def test_few_nights_end_on_a_guard_that_is_worse_by_what_can_be_excluded() -> None:
    bound = gate_bound([(60, 60)], 120, 4)
    assert bound is not None
    rng = np.random.default_rng(5)
    passed = sum(night(rng, -bound.loss, 4) for _ in range(NIGHTS))
    assert passed <= 0.05 * NIGHTS


def test_most_guards_that_are_better_by_five_points_pass() -> None:
    rng = np.random.default_rng(6)
    passed = sum(night(rng, 0.05, 1) for _ in range(NIGHTS))
    assert passed >= 0.75 * NIGHTS
