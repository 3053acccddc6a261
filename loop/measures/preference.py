"""The HS-DPO loss of one pair in plain floats: what the backends' tensor code is held to. It trains nothing.

Weighted DPO plus a supervised term on the chosen trace (arXiv:2501.18492, section 3.3). The weight scales the
preference term only, as in the paper's formula. Log-probabilities are natural and summed, not averaged, over the
tokens of the trace.
"""

from math import exp, log1p


def scaled_margin(
    policy_chosen: float, policy_rejected: float, reference_chosen: float, reference_rejected: float, *, beta: float
) -> float:
    """Return z: beta times how much more the policy favours chosen over rejected than the reference does."""
    return beta * ((policy_chosen - reference_chosen) - (policy_rejected - reference_rejected))


def hs_dpo_loss(
    policy_chosen: float,
    policy_rejected: float,
    reference_chosen: float,
    reference_rejected: float,
    *,
    beta: float,
    weight: float,
    chosen_nll_mean: float,
    sft_weight: float,
) -> float:
    """Return weight x -log sigmoid(z) + sft_weight x chosen_nll_mean.

    `chosen_nll_mean` is the mean negative log-probability of a token of the chosen trace under the policy.
    """
    z = scaled_margin(policy_chosen, policy_rejected, reference_chosen, reference_rejected, beta=beta)
    # -log sigmoid(z) without overflow for a large z of either sign.
    return weight * (max(-z, 0.0) + log1p(exp(-abs(z)))) + sft_weight * chosen_nll_mean


def hs_dpo_gradient(z: float, *, weight: float) -> float:
    """Return the derivative of the preference term with respect to z: -weight x sigmoid(-z)."""
    small = exp(-abs(z))
    return -weight * (small if z >= 0 else 1.0) / (1.0 + small)


def effective_batch(per_device: int, accumulation: int, devices: int) -> int:
    """Return the pairs or examples behind one update; on fewer devices raise the accumulation to keep it."""
    if min(per_device, accumulation, devices) < 1:
        raise ValueError(f"batch {per_device} x {accumulation} x {devices}: each must be 1 or more")
    return per_device * accumulation * devices
