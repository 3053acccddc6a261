"""What is read off logits: the same by MLX and by NumPy, and tokens drawn as often as they are likely."""

import mlx.core as mx
import numpy as np
import pytest

from wizloop.backends.mlx.logits import by_mlx, by_numpy, softmax
from wizloop.backends.sampling import StepSpec, nucleus

# Of these tokens the probabilities are 0.5, 0.3, 0.15 and 0.05.
LOGITS = np.log([0.5, 0.3, 0.15, 0.05]).astype(np.float32)


def drawn(temperature: float, top_p: float) -> list[float]:
    """The share of each place over an even grid of random numbers."""
    noise = ((np.arange(1000)[:, None] + 0.5) / 1000).astype(np.float32)
    rows = np.tile(LOGITS, (1000, 1)) / np.float32(temperature)
    places = np.array(nucleus(mx, mx.softmax(mx.array(rows), axis=-1), mx.array(noise), top_p))
    assert places.tolist() == nucleus(np, softmax(rows), noise, top_p).tolist()
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
    noise, p = np.array([[np.nextafter(np.float32(1), np.float32(0))]], np.float32), softmax(LOGITS[None])
    assert np.array(nucleus(mx, mx.array(p), mx.array(noise), 0.9)).tolist() == [[2]]
    assert nucleus(np, p, noise, 0.9).tolist() == [[2]]


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_numpy_reads_what_mlx_reads(temperature: float) -> None:
    rng = np.random.default_rng(5)
    logits = mx.array(rng.normal(0, 4, (64, 500)).astype(np.float32))
    noise = mx.array(rng.random(64, dtype=np.float32))
    spec = StepSpec(20, {"harm": (3, 77), "kind": (1, 2, 499)}, temperature, 0.9)
    ours, theirs = by_numpy(logits, noise, spec), by_mlx(logits, noise, spec)
    assert ours.tokens.tolist() == theirs.tokens.tolist()
    np.testing.assert_allclose(np.array(ours.confidences), np.array(theirs.confidences), atol=1e-5)
    for name in spec.watch:
        np.testing.assert_allclose(np.array(ours.watched[name]), np.array(theirs.watched[name]), atol=1e-6)
    if not temperature:
        assert ours.tokens.tolist() == np.array(logits).argmax(axis=-1).tolist()
