"""Drawing the next token on MLX: what temperature and top-p keep, and how often each is drawn."""

import numpy as np
import pytest

from wizloop.backends.mlx_rows import nucleus

# After wizloop's own, which readies the BLAS.
import mlx.core as mx

# Of these tokens the probabilities are 0.5, 0.3, 0.15 and 0.05.
LOGITS = np.log([0.5, 0.3, 0.15, 0.05]).astype(np.float32)


def drawn(temperature: float, top_p: float) -> list[float]:
    """The share of each place over an even grid of random numbers."""
    noise = (np.arange(1000, dtype=np.float32) + 0.5) / 1000
    rows = np.tile(LOGITS, (1000, 1))
    places = np.array(nucleus(mx.array(rows), mx.array(noise[:, None]), temperature, top_p))
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
    noise = mx.array(np.array([[np.nextafter(np.float32(1), np.float32(0))]], np.float32))
    assert np.array(nucleus(mx.array(LOGITS[None]), noise, 1.0, 0.9)).tolist() == [[2]]
