"""What choosing saved, on pools where it is known how many labels chance needs."""

import numpy as np
import pytest
from numpy.typing import NDArray

from wizloop.loop.measures import labels_saved as measure
from wizloop.loop.measures.labels_saved import Asked, labels_saved, next_hundred

POOL, SEED = 3000, 40


def pool(seed: int, columns: int = 12) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Texts as points, one in ten of which is harmful, behind a plane with some noise."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(POOL + 600, columns))
    score = x @ rng.normal(size=columns) / np.sqrt(columns) + 0.3 * rng.normal(size=len(x))
    return x, score > np.quantile(score, 0.9)


def asked(seed: int, *, chance: int = 120, chosen: int = 120, wise: bool = False) -> Asked:
    """A seed, labels by chance, and labels that are near the border, if choosing is wise, or drawn too."""
    x, y = pool(seed)
    rng = np.random.default_rng(seed + 100)
    order = rng.permutation(POOL)
    first, drawn, left = np.split(order, [SEED, SEED + chance])
    border = np.argsort(np.abs(x[left] @ np.linalg.lstsq(x, y - 0.1, rcond=None)[0] - 0.25))
    picked = left[border[:chosen]] if wise else left[:chosen]
    rows = np.concatenate([first, drawn, picked])
    propensity = np.full(len(rows), np.nan)
    propensity[SEED : SEED + chance] = chance / (POOL - SEED)
    of_seed = np.arange(len(rows)) < SEED
    return Asked(x[rows], y[rows], propensity, of_seed, x[POOL:], y[POOL:])


@pytest.mark.parametrize("seed", [4, 6])
def test_labels_that_were_all_drawn_saved_nothing(seed: int) -> None:
    found = labels_saved(asked(seed), np.random.default_rng(1), replicates=10)
    assert found.why is None
    assert found.low is not None
    assert found.low <= found.labels == SEED + 240
    assert found.high is None or found.high >= found.labels


def test_the_interval_holds_what_chance_truly_needs() -> None:
    run = asked(4, wise=True)
    found = labels_saved(run, np.random.default_rng(1), replicates=10)
    x, y = pool(4)
    rest = Asked(x[:POOL], y[:POOL], np.full(POOL, 0.1), np.zeros(POOL, bool), run.dev_x, run.dev_y)
    dev, rng = np.arange(600), np.random.default_rng(2)
    reached = measure._figure(run, np.arange(len(run.y)), dev)
    sizes = [60, 120, 240, 480, 960, 1900]
    curve = [
        np.mean([measure._figure(rest, rng.permutation(POOL)[:size], dev) or 0.0 for _ in range(4)]) for size in sizes
    ]
    truth = float(np.interp(reached or 0.0, np.maximum.accumulate(curve), sizes))
    assert truth > 1.3 * found.labels
    assert found.low is not None
    assert found.low <= truth <= (found.high or np.inf)


@pytest.mark.parametrize(
    ("chance", "why"), [(0, "no label was drawn by chance"), (20, "20 labels were drawn by chance, and 30 are needed")]
)
def test_with_few_labels_by_chance_it_cannot_be_told(chance: int, why: str) -> None:
    found = labels_saved(asked(0, chance=chance), np.random.default_rng(1), replicates=2)
    assert found.needed is None
    assert why in (found.why or "")


def test_the_same_labels_and_seed_give_the_same() -> None:
    twice = [labels_saved(asked(4), np.random.default_rng(1), replicates=1) for _ in range(2)]
    assert twice[0] == twice[1]


def test_the_next_hundred_bring_less_the_more_there_are_and_nothing_where_labels_are_noise() -> None:
    few, many = (next_hundred(asked(5, chosen=n), np.random.default_rng(1), 4) for n in (40, 1500))
    assert few is not None
    assert many is not None
    assert few.low <= few.gain <= few.high
    assert few.gain > 2 * many.gain
    run = asked(5)
    noise = Asked(run.x, np.random.default_rng(6).permutation(run.y), run.propensity, run.seed, run.dev_x, run.dev_y)
    nothing = next_hundred(noise, np.random.default_rng(1), 4)
    assert nothing is not None
    assert nothing.gain < few.gain / 2
