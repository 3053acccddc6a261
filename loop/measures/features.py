"""The features of the cheap linear models: hashed TF-IDF beside principal components of a base's hidden states.

A space knows no label: it is fitted on texts of the pool, and its arrays can be stored beside a guard.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wizloop.loop.measures import character_hashes

Floats = NDArray[np.float32]

COLUMNS: Final = 2**17
"""Hashed columns of words, and as many of characters."""
FITTED: Final = 20_000
"""Rows, drawn at random, that a space is fitted on at most."""
COMPONENTS: Final = 256
BLOCK: Final = 4096
"""Rows of a block: its float64 parts take some 50 MB."""
LONGEST: Final = 4000
"""Characters of a text that are read; a guard reads no more of it either."""
STATES_WEIGHT: Final = 1.5
"""Mean norm of the states' part of a row; words and characters have norm 1 each. 1.5 was best in the trial."""
_NAMES: Final = ("words_idf", "characters_idf", "center", "components")


@dataclass(frozen=True)
class Space:
    """Maps texts, hidden states or both to the rows of a sparse matrix."""

    words_idf: Floats | None = None
    """Of shape (COLUMNS,); 0 where fewer than two fitted texts have the column. None reads no text."""
    characters_idf: Floats | None = None
    center: Floats | None = None
    """Mean of each state; None reads no states."""
    components: Floats | None = None
    """Of shape (components, states), of centered states; the mean norm of a row is STATES_WEIGHT."""

    @classmethod
    def fit(cls, texts: Sequence[str] | None, states: NDArray[Any] | None, seed: int) -> "Space":
        """Fit on texts, on hidden states of shape (n, states), or on both, which belong together row by row.

        Raises ValueError where neither is given, they differ in length, or there is no row.
        """
        n = _rows(texts, states)
        if not n:
            raise ValueError("no row to fit a space on: give at least one text")
        rows = drawn(n, seed)
        known: dict[str, Floats] = {}
        if texts is not None:
            known |= _fit_texts([texts[int(row)] for row in rows])
        if states is not None:
            known |= _fit_states(np.asarray(states[rows], np.float32), seed)
        return cls(**known)

    @classmethod
    def of(cls, arrays: Mapping[str, ArrayLike]) -> "Space":
        """Return the space of what `arrays` gave. Raises ValueError for an unknown name."""
        if unknown := sorted(set(arrays) - set(_NAMES)):
            raise ValueError(f"unknown array {unknown[0]!r} of a space: known are {', '.join(_NAMES)}")
        return cls(**{name: np.asarray(array, np.float32) for name, array in arrays.items()})

    def arrays(self) -> dict[str, Floats]:
        """Return what the space was fitted to, as named arrays."""
        found = ((name, getattr(self, name)) for name in _NAMES)
        return {name: array for name, array in found if array is not None}

    @cached_property
    def columns(self) -> int:
        """Return the columns of a row."""
        known = (self.components, self.words_idf, self.characters_idf)
        return sum(len(array) for array in known if array is not None)

    def matrix(self, texts: Sequence[str] | None, states: NDArray[Any] | None) -> Any:
        """Return a csr_matrix of float32, one row per text: states first, then words and characters.

        The part that the space was not fitted on is not read. Raises ValueError for a part that is missing.
        """
        from scipy.sparse import csr_matrix, vstack

        found = list(self.blocks(texts, states))
        return vstack(found, format="csr") if found else csr_matrix((0, self.columns), dtype=np.float32)

    def blocks(self, texts: Sequence[str] | None, states: NDArray[Any] | None, rows: int = BLOCK) -> Iterator[Any]:
        """Yield the rows of `matrix` in blocks, for more texts than memory holds rows of. Raises ValueError."""
        texts, states = self._read(texts, states)
        for start in range(0, _rows(texts, states), rows):
            here = slice(start, start + rows)
            yield self._block(None if texts is None else texts[here], None if states is None else states[here])

    def product(self, texts: Sequence[str] | None, states: NDArray[Any] | None, weights: Floats) -> Floats:
        """Return the rows of `matrix` times `weights`, of shape (n, outputs), without the components of the states.

        For a large pool: the weights of the components are those of the states, of which there are few outputs.
        """
        texts, states = self._read(texts, states)
        cut = 0 if self.components is None else len(self.components)
        found = np.zeros((_rows(texts, states), weights.shape[1]), np.float32)
        for start in range(0, len(found), BLOCK):
            here = slice(start, start + BLOCK)
            if states is not None and self.components is not None and self.center is not None:
                of_states = self.components.T @ weights[:cut]
                found[here] += (np.asarray(states[here], np.float32) - self.center) @ of_states
            if texts is not None:
                found[here] += self._block(texts[here], None) @ weights[cut:]
        return found

    def _read(self, texts: Sequence[str] | None, states: Any) -> tuple[Sequence[str] | None, Any]:
        """Return what this space reads of both."""
        if (texts is None and self.words_idf is not None) or (states is None and self.center is not None):
            raise ValueError("the space was fitted on more than it is given: give texts and states as then")
        return texts if self.words_idf is not None else None, states if self.center is not None else None

    def _block(self, texts: Sequence[str] | None, states: Any) -> Any:
        from scipy.sparse import csr_matrix, hstack

        parts = []
        if states is not None:
            parts.append(csr_matrix(self._projected(np.asarray(states, np.float32))))
        if texts is not None:
            counted = zip(_counts(texts), (self.words_idf, self.characters_idf), strict=True)
            parts += [_weighted(counts, idf) for counts, idf in counted]
        return hstack(parts, format="csr", dtype=np.float32)

    def _projected(self, states: Floats) -> Floats:
        assert self.center is not None
        assert self.components is not None
        projected: Floats = np.matmul(states - self.center, self.components.T, dtype=np.float32)
        return projected


def drawn(n: int, seed: int) -> NDArray[np.int64]:
    """Return the rows, of `n`, that a space is fitted on, ascending."""
    if n <= FITTED:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).choice(n, FITTED, replace=False))


def _rows(texts: Sequence[str] | None, states: Any) -> int:
    lengths = {len(part) for part in (texts, states) if part is not None}
    if len(lengths) != 1:
        raise ValueError("texts and states must be given row by row: one or both, of equal length")
    return lengths.pop()


def _counts(texts: Sequence[str]) -> list[Any]:
    """Return the counts of hashed words and of hashed characters, a csr_matrix each."""
    from sklearn.feature_extraction.text import HashingVectorizer

    how = {"n_features": COLUMNS, "alternate_sign": False, "norm": None, "dtype": np.float32}
    words = HashingVectorizer(ngram_range=(1, 2), **how)
    cut = [text[:LONGEST] for text in texts]
    return [words.transform(cut), character_hashes.counts(cut, COLUMNS)]


def _fit_texts(texts: Sequence[str]) -> dict[str, Floats]:
    seen = [np.zeros(COLUMNS), np.zeros(COLUMNS)]
    for start in range(0, len(texts), BLOCK):
        for counted, counts in zip(seen, _counts(texts[start : start + BLOCK]), strict=True):
            counted += np.bincount(counts.indices, minlength=COLUMNS)
    return dict(zip(_NAMES[:2], (_idf(counted, len(texts)) for counted in seen), strict=True))


def _idf(seen: NDArray[np.float64], n: int) -> Floats:
    """Return smoothed IDF; 0 for what one text of several has: it can join nothing."""
    idf = np.log((1 + n) / (1 + seen)) + 1
    idf[seen < min(2, n)] = 0
    return idf.astype(np.float32)


def _weighted(counts: Any, idf: Any) -> Any:
    """Return rows of sublinear TF-IDF with norm 1."""
    from sklearn.preprocessing import normalize

    counts.data = (np.log(counts.data) + 1) * idf[counts.indices]
    counts.eliminate_zeros()
    return normalize(counts, copy=False)


def _fit_states(states: Floats, seed: int) -> dict[str, Floats]:
    """Standardize and find principal components, by a randomized SVD."""
    from sklearn.utils.extmath import randomized_svd

    center, spread = states.mean(axis=0), states.std(axis=0)
    scale = np.where(spread > 1e-6, 1 / np.maximum(spread, 1e-6), 0).astype(np.float32)
    standard = (states - center) * scale
    wanted = min(COMPONENTS, *standard.shape)
    components = randomized_svd(standard, wanted, random_state=seed)[2].astype(np.float32)
    norm = float(np.linalg.norm(standard @ components.T, axis=1).mean())
    return {"center": center, "components": components * scale * np.float32(STATES_WEIGHT / norm if norm else 0)}
