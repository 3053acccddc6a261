"""What is read off logits: the same by MLX and by NumPy, and tokens drawn as often as they are likely."""

import numpy as np
import pytest

from wizloop.backends.mlx.logits import nucleus, nucleus_on_cpu, on_cpu, on_device
from wizloop.backends.sampling import Reading

# After wizloop's own, which readies the BLAS.
import mlx.core as mx

# Of these tokens the probabilities are 0.5, 0.3, 0.15 and 0.05.
LOGITS = np.log([0.5, 0.3, 0.15, 0.05]).astype(np.float32)


def drawn(temperature: float, top_p: float) -> list[float]:
    """The share of each place over an even grid of random numbers."""
    noise = ((np.arange(1000)[:, None] + 0.5) / 1000).astype(np.float32)
    rows, how = np.tile(LOGITS, (1000, 1)), Reading(2, {}, temperature, top_p)
    places = np.array(nucleus(mx.array(rows), mx.array(noise), how))
    assert places.tolist() == nucleus_on_cpu(rows, noise, how).tolist()
    assert places.shape == (1000, 1)
    return [float((places == place).mean()) for place in range(4)]


@pytest.mark.parametrize(
    ("temperature", "top_p", "shares"),
    [
        (1.0, 1.0, [0.5, 0.3, 0.15, 0.05]),
        # Half is not enough for 0.6, so that the second is kept too: 0.5 and 0.3 of 0.8.
        (1.0, 0.6, [0.625, 0.375, 0.0, 0.0]),
        (1.0, 0.01, [1.0, 0.0, 0.0, 0.0]),
        # Squares: 0.25, 0.09, 0.0225 and 0.0025 of 0.365.
        (0.5, 1.0, [0.685, 0.247, 0.062, 0.007]),
    ],
)
def test_the_nucleus_is_drawn_from_by_its_probabilities(temperature: float, top_p: float, shares: list[float]) -> None:
    assert drawn(temperature, top_p) == pytest.approx(shares, abs=0.002)


def test_the_largest_random_number_draws_the_last_that_is_kept() -> None:
    noise, how = np.array([[np.nextafter(np.float32(1), np.float32(0))]], np.float32), Reading(2, {}, 1.0, 0.9)
    assert np.array(nucleus(mx.array(LOGITS[None]), mx.array(noise), how)).tolist() == [[2]]
    assert nucleus_on_cpu(LOGITS[None], noise, how).tolist() == [[2]]


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_numpy_reads_what_mlx_reads(temperature: float) -> None:
    rng = np.random.default_rng(5)
    logits = mx.array(rng.normal(0, 4, (64, 500)).astype(np.float32))
    noise = mx.array(rng.random(64, dtype=np.float32))
    how = Reading(20, {"harm": (3, 77), "kind": (1, 2, 499)}, temperature, 0.9)
    ours, theirs = on_cpu(logits, noise, how), on_device(logits, noise, how)
    assert ours.tokens.tolist() == theirs.tokens.tolist()
    np.testing.assert_allclose(np.array(ours.confidences), np.array(theirs.confidences), atol=1e-5)
    for name in how.watch:
        np.testing.assert_allclose(np.array(ours.watched[name]), np.array(theirs.watched[name]), atol=1e-6)
    if not temperature:
        assert ours.tokens.tolist() == np.array(logits).argmax(axis=-1).tolist()
