"""The HS-DPO loss against worked figures, and its gradient against the loss."""

import pytest

from wizloop.loop.measures.preference import effective_batch, hs_dpo_gradient, hs_dpo_loss, scaled_margin

LOGPROBS = (-120.0, -150.0, -130.0, -140.0)
"""Policy chosen and rejected, reference chosen and rejected: a margin of 20."""


def loss(*, beta: float = 0.01, weight: float = 1.0, chosen_nll_mean: float = 0.0, sft_weight: float = 2.0) -> float:
    return hs_dpo_loss(*LOGPROBS, beta=beta, weight=weight, chosen_nll_mean=chosen_nll_mean, sft_weight=sft_weight)


def test_no_margin_costs_log_two() -> None:
    found = hs_dpo_loss(-5.0, -7.0, -5.0, -7.0, beta=0.01, weight=1.0, chosen_nll_mean=0.0, sft_weight=2.0)
    assert found == pytest.approx(0.693147, abs=1e-6)


def test_the_margin_is_chosen_over_rejected_against_the_reference() -> None:
    assert scaled_margin(*LOGPROBS, beta=0.01) == pytest.approx(0.2)
    assert scaled_margin(*LOGPROBS, beta=0.1) == pytest.approx(2.0)


def test_loss_with_weight_and_supervised_term() -> None:
    assert loss() == pytest.approx(0.598139, abs=1e-6)
    assert loss(weight=1.2) == pytest.approx(0.717767, abs=1e-6)
    assert loss(weight=1.2, chosen_nll_mean=0.45) == pytest.approx(1.617767, abs=1e-6)


def test_loss_with_a_larger_beta() -> None:
    assert loss(beta=0.1) == pytest.approx(0.126928, abs=1e-6)
    assert loss(beta=0.1, weight=0.8) == pytest.approx(0.101542, abs=1e-6)


def test_the_weight_leaves_the_supervised_term_alone() -> None:
    assert loss(weight=0.0, chosen_nll_mean=0.45) == pytest.approx(0.9)


@pytest.mark.parametrize(("chosen", "expected"), [(-1e6, 1e6), (1e6, 0.0)])
def test_an_extreme_margin_does_not_overflow(chosen: float, expected: float) -> None:
    found = hs_dpo_loss(chosen, 0.0, 0.0, 0.0, beta=1.0, weight=1.0, chosen_nll_mean=0.0, sft_weight=0.0)
    assert found == pytest.approx(expected)


@pytest.mark.parametrize(
    ("z", "weight", "expected"), [(0.2, 1.2, -0.540199), (0.0, 1.0, -0.5), (-1e6, 1.2, -1.2), (1e6, 1.2, 0.0)]
)
def test_gradient(z: float, weight: float, expected: float) -> None:
    assert hs_dpo_gradient(z, weight=weight) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("z", [-3.0, -0.1, 0.2, 4.0])
def test_gradient_is_the_slope_of_the_loss(z: float) -> None:
    step = 1e-5
    up, down = (
        hs_dpo_loss(z + shift, 0.0, 0.0, 0.0, beta=1.0, weight=1.2, chosen_nll_mean=0.3, sft_weight=2.0)
        for shift in (step, -step)
    )
    assert (up - down) / (2 * step) == pytest.approx(hs_dpo_gradient(z, weight=1.2), abs=1e-8)


@pytest.mark.parametrize(
    ("sizes", "expected"), [((6, 16, 4), 384), ((1, 64, 4), 256), ((6, 64, 1), 384), ((1, 256, 1), 256)]
)
def test_effective_batch(sizes: tuple[int, int, int], expected: int) -> None:
    assert effective_batch(*sizes) == expected


def test_an_empty_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="each must be 1 or more"):
        effective_batch(1, 0, 1)
