"""The space of features: what it reads, that it can be stored, and that blocks change nothing."""

import numpy as np
import pytest

from wizloop.loop.measures import features
from wizloop.loop.measures.features import COLUMNS, STATES_WEIGHT, Space

TEXTS = [
    f"how do I {verb} a {thing}" for verb in ("bake", "pick", "hide", "sell") for thing in ("lock", "cake", "knife")
]


def states(n: int = len(TEXTS)) -> features.Floats:
    rng = np.random.default_rng(3)
    return (rng.normal(size=(n, 5)) * [1, 10, 100, 1, 0] + 7).astype(np.float32)


@pytest.mark.parametrize(("texts", "read", "columns"), [
    (TEXTS, None, 2 * COLUMNS),
    (TEXTS, states(), 2 * COLUMNS + 5),
    (None, states(), 5),
])  # fmt: skip
def test_what_is_given_is_read(texts: list[str] | None, read: features.Floats | None, columns: int) -> None:
    space = Space.fit(texts, read, seed=0)
    matrix = space.matrix(texts, read)
    assert matrix.shape == (len(TEXTS), columns)
    assert matrix.shape[1] == space.columns
    assert matrix.dtype == np.float32


def test_each_part_weighs_what_it_should() -> None:
    space = Space.fit(TEXTS, states(), seed=0)
    rows = space.matrix(TEXTS, states())
    norm = [np.sqrt(rows[:, here].multiply(rows[:, here]).sum(axis=1)) for here in (slice(0, 5), slice(5, 5 + COLUMNS))]
    assert np.mean(norm[0]) == pytest.approx(STATES_WEIGHT, rel=1e-4)
    assert np.allclose(norm[1], 1)


def test_a_column_that_one_text_has_is_no_feature() -> None:
    space = Space.fit(["red cake", "red knife", "blue lock"], None, seed=0)
    words = space.matrix(["cake", "knife", "red"], None)[:, :COLUMNS]
    assert np.diff(words.indptr).tolist() == [0, 0, 1]


def test_states_are_standardized() -> None:
    space = Space.fit(None, states(400), seed=0)
    rows = space.matrix(None, states(400)).toarray()
    assert np.allclose(rows.mean(axis=0), 0, atol=1e-4)
    assert rows.std(axis=0)[:4].min() > 0.8 * rows.std(axis=0)[:4].max()


def test_blocks_and_float16_give_the_same_rows() -> None:
    space = Space.fit(TEXTS, states(), seed=0)
    whole, halves = space.matrix(TEXTS, states()), list(space.blocks(TEXTS, states().astype(np.float16), rows=7))
    assert [block.shape[0] for block in halves] == [7, 5]
    assert abs(whole[:7] - halves[0]).max() < 1e-2
    assert space.matrix([], states()[:0]).shape == (0, space.columns)


def test_a_stored_space_is_the_same_space() -> None:
    space = Space.fit(TEXTS, states(), seed=0)
    again = Space.of(space.arrays())
    assert (space.matrix(TEXTS, states()) != again.matrix(TEXTS, states())).nnz == 0


def test_more_rows_than_it_is_fitted_on_are_drawn_by_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "FITTED", 4)
    one, same, other = (Space.fit(TEXTS, states(), seed).arrays() for seed in (1, 1, 2))
    assert all(np.array_equal(one[name], same[name]) for name in one)
    assert not np.array_equal(one["words_idf"], other["words_idf"])


@pytest.mark.parametrize(("texts", "read", "says"), [
    (TEXTS, states(3), "of equal length"),
    (None, None, "one or both"),
    ([], None, "at least one text"),
])  # fmt: skip
def test_what_does_not_fit_is_refused(texts: list[str] | None, read: features.Floats | None, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Space.fit(texts, read, seed=0)


def test_a_missing_part_and_an_unknown_array_are_refused() -> None:
    with pytest.raises(ValueError, match="fitted on more"):
        Space.fit(TEXTS, states(), seed=0).matrix(TEXTS, None)
    with pytest.raises(ValueError, match="unknown array 'weights'"):
        Space.of({"weights": states()})


def test_a_text_without_a_word_is_a_row_of_zeros() -> None:
    assert Space.fit(TEXTS, None, seed=0).matrix(["", "。"], None).nnz == 0


@pytest.mark.parametrize(("texts", "states"), [(True, True), (True, False), (False, True)])
def test_a_product_with_weights_is_that_of_the_matrix(texts: bool, states: bool) -> None:
    given = [f"text {at} of bread and the sea" for at in range(60)] if texts else None
    known = np.random.default_rng(1).normal(size=(60, 24)).astype(np.float16) if states else None
    space = Space.fit(given, known, 0)
    weights = np.random.default_rng(2).normal(size=(space.columns, 8)).astype(np.float32)
    np.testing.assert_allclose(space.product(given, known, weights), space.matrix(given, known) @ weights, atol=1e-4)
