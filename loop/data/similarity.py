"""Find texts that are the same, or nearly: word shingles, Jaccard, MinHash LSH, overlaps of two sets. Knows no samples.

Words are runs of word characters, so text in a script without spaces (Chinese, Thai) is compared by whole phrases.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wizloop.store import hashing

SHINGLE_WORDS = 3
PERMUTATIONS = 128
# Fixed, so that signatures made on different days can be compared.
SEED = 1
# A missed pair costs more than a needless check: favor few false negatives.
LSH_WEIGHTS = (0.1, 0.9)
TOGETHER = 5000
"""Measuring texts compared at a time; their shingles and signatures take about 100 MB."""

Text = tuple[int, str]
"""An id and its text."""


def normalize(text: str) -> str:
    """Return the text as the store compares it: NFKC, case-folded, words with single spaces. May be empty."""
    return hashing.words(text)


def shingles(text: str) -> frozenset[str]:
    """Return the distinct runs of three words of a text; a shorter text is one shingle, an empty one has none."""
    return _shingles(normalize(text))


def _shingles(normalized: str) -> frozenset[str]:
    words = normalized.split()
    last = max(len(words) - SHINGLE_WORDS, 0)
    return frozenset(" ".join(words[at : at + SHINGLE_WORDS]) for at in range(last + 1) if words)


def jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    """Return the shared part of two sets of shingles, 0..1; 0 if both are empty."""
    return len(a & b) / len(a | b) if a or b else 0.0


@dataclass(frozen=True)
class Fingerprint:
    """Shingles of a text and their MinHash."""

    shingles: frozenset[str]
    minhash: Any

    @property
    def values(self) -> NDArray[np.uint32]:
        """MinHash values; the share of equal ones in two fingerprints estimates their Jaccard."""
        values: NDArray[np.uint32] = self.minhash.hashvalues
        return values


class NearDuplicates:
    """An index of texts that finds the one that a new text nearly repeats.

    MinHash LSH proposes, the true Jaccard of word shingles decides. `threshold` is in (0, 1].
    """

    def __init__(self, threshold: float) -> None:
        from datasketch import MinHash, MinHashLSH

        if not 0 < threshold <= 1:
            raise ValueError(f"the near-duplicate threshold must be above 0 and at most 1, not {threshold}")
        self._threshold = threshold
        self._blank = MinHash(num_perm=PERMUTATIONS, seed=SEED)
        # MinHashLSH needs a threshold below 1; the true Jaccard decides anyway.
        self._index = MinHashLSH(threshold=min(threshold, 0.99), num_perm=PERMUTATIONS, weights=LSH_WEIGHTS)
        self._added: list[Fingerprint] = []

    def fingerprint(self, text: str | frozenset[str]) -> Fingerprint:
        """Return the fingerprint of a text, or of its shingles."""
        shingled = shingles(text) if isinstance(text, str) else text
        minhash = self._blank.copy()
        minhash.update_batch([one.encode() for one in shingled])
        return Fingerprint(shingled, minhash)

    def add(self, text: Fingerprint) -> None:
        """Add a text; its number is how many were added before it."""
        self._index.insert(len(self._added), text.minhash)
        self._added.append(text)

    def find(self, text: Fingerprint) -> tuple[int, float] | None:
        """Return number and similarity of the nearest added text at or above the threshold; ties go to the earliest."""
        proposed = self._index.query(text.minhash)
        near = ((jaccard(text.shingles, self._added[number].shingles), -number) for number in proposed)
        similarity, minus = max(near, default=(0.0, 0))
        return (-minus, similarity) if similarity >= self._threshold else None


@dataclass(frozen=True)
class Overlap:
    """A text to train on, and the nearest text of the set that measures."""

    train_id: int
    measure_id: int
    exact: bool
    """True if the normalized texts are equal."""
    similarity: float
    """Jaccard of word 3-shingles, 0..1; 1 for an exact match."""


class _MeasuringTexts:
    """An index of measuring texts that finds the one that a text to train on repeats, exactly or nearly."""

    def __init__(self, texts: Iterable[Text], threshold: float) -> None:
        self._threshold = threshold
        self._near = NearDuplicates(threshold)
        self._ids: dict[str, int] = {}
        self._shingles: set[str] = set()
        for measure_id, text in texts:
            key = _key(text)
            if key not in self._ids:
                self._ids[key] = measure_id
                shingled = shingles(text)
                self._shingles |= shingled
                self._near.add(self._near.fingerprint(shingled))
        self._in_order = list(self._ids.values())

    def overlap(self, train_id: int, text: str) -> Overlap | None:
        """Return an exact match, or else the nearest text at or above the threshold, or None."""
        key = _key(text)
        if key in self._ids:
            return Overlap(train_id, self._ids[key], True, 1.0)
        shingled = _shingles(key)
        # Jaccard is at most the share of the text's shingles that occur in the set: most texts need no signature.
        if not shingled or len(shingled & self._shingles) < self._threshold * len(shingled) - 1e-9:
            return None
        match = self._near.find(self._near.fingerprint(shingled))
        return None if match is None else Overlap(train_id, self._in_order[match[0]], False, match[1])


def all_overlaps(
    train: Callable[[], Iterable[Text]], measure: Iterable[Text], threshold: float = 0.8
) -> dict[int, Overlap]:
    """Return at most one overlap per text of `train`, by its id: an exact match of the normalized text, or the nearest.

    Near means a Jaccard of `threshold` or more; MinHash LSH proposes the pairs and finds all but a few of those just at
    the threshold. Works for sets of any size: `measure` is indexed in parts, and `train` is read again for each part.
    """
    found: dict[int, Overlap] = {}
    rest = iter(measure)
    while part := list(islice(rest, TOGETHER)):
        index = _MeasuringTexts(part, threshold)
        for train_id, text in train():
            overlap = index.overlap(train_id, text)
            if overlap is not None and (train_id not in found or _rank(overlap) > _rank(found[train_id])):
                found[train_id] = overlap
    return found


def _rank(overlap: Overlap) -> tuple[bool, float]:
    return overlap.exact, overlap.similarity


def _key(text: str) -> str:
    """Return the normalized text, or the stripped text if it has no word at all (emoji, punctuation)."""
    return normalize(text) or text.strip()
