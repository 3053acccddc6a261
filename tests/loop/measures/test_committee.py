"""The committee: where it agrees, where it does not, and what it needs."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from wizloop.loop.measures import committee
from wizloop.loop.measures.committee import Committee


def labeled(n: int = 120) -> tuple[csr_matrix, "np.typing.NDArray[np.bool_]"]:
    rng = np.random.default_rng(5)
    y = rng.random(n) < 0.4
    x = np.column_stack([np.where(y, 1, -1) + rng.normal(size=n), np.zeros((n, 2))])
    return csr_matrix(x.astype(np.float32)), y


def fitted(seed: int = 1) -> Committee:
    found = committee.fit(*labeled(), seed=seed)
    assert found is not None
    return found


def test_it_learns_and_is_unsure_between_the_classes() -> None:
    p = fitted().p(csr_matrix(np.array([[-3, 0, 0], [0, 0, 0], [3, 0, 0]], dtype=np.float32)))
    assert p.shape == (8, 3)
    assert committee.mean(p)[0] < 0.1 < 0.9 < committee.mean(p)[2]
    assert committee.spread(p)[1] > committee.spread(p)[[0, 2]].max()
    assert committee.margin(p)[1] < 0.5 < committee.margin(p)[[0, 2]].min()


def test_the_seed_decides_the_copies() -> None:
    x, _ = labeled()
    assert np.array_equal(fitted(1).p(x), fitted(1).p(x))
    assert not np.array_equal(fitted(1).p(x), fitted(2).p(x))


def test_blocks_give_the_same_probabilities() -> None:
    x, _ = labeled()
    halves = np.hstack([fitted().p(x[:50]), fitted().p(x[50:])])
    assert np.allclose(fitted().p(x), halves)


@pytest.mark.parametrize("y", [[True] * 4, [False] * 4, []])
def test_without_a_class_there_is_no_committee(y: list[bool]) -> None:
    assert committee.fit(csr_matrix(np.ones((len(y), 2), dtype=np.float32)), y, seed=1) is None


def test_a_rare_class_is_in_every_copy() -> None:
    x, _ = labeled()
    y = np.arange(120) == 7
    found = committee.fit(x, y, seed=1, copies=5)
    assert found is not None
    assert found.p(x).shape == (5, 120)
    assert np.isfinite(found.weights).all()


def test_measures_of_known_probabilities() -> None:
    p = np.array([[0.2, 0.5], [0.4, 0.5]], dtype=np.float32)
    assert committee.spread(p) == pytest.approx([0.1, 0])
    assert committee.mean(p) == pytest.approx([0.3, 0.5])
    assert committee.margin(p) == pytest.approx([0.4, 0])
