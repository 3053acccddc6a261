"""Find texts that are the same, or nearly, or contained: word shingles, Jaccard, MinHash, overlaps of two sets.

Knows no samples. Words are runs of word characters, so text in a script without spaces (Chinese, Thai) is compared by
whole phrases.
"""

import re
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
"""Measuring texts compared at a time; their shingles take about 100 MB."""
CONTAINED, CONTAINED_LEAST = 0.75, 8
"""Share of a measuring text's shingles from which a longer text contains it, and the shingles that such a text needs.

One word of fifteen may change: 10 of 13 shingles stay.
"""
WHOLE_LEAST = 5
"""Shingles that a measuring text needs to count as contained if all of them are: seven words."""

_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff"
    "\U000e0000-\U000e0fff]"
)
"""Characters without a glyph that hide inside words: Unicode's default-ignorable ones, tags and variation selectors."""

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
    """Jaccard of word 3-shingles, or the share of the measuring text's shingles in the other, 0..1; 1 if exact only."""


class _MeasuringTexts:
    """An index of measuring texts by shingle, which counts what each shares with a text to train on."""

    def __init__(self, texts: Iterable[Text], threshold: float) -> None:
        self._threshold = threshold
        self._ids: dict[str, int] = {}
        holders: dict[str, list[int]] = {}
        sizes = []
        for measure_id, text in texts:
            if (key := _key(text)) not in self._ids:
                shingled = _shingles(key)
                for one in shingled:
                    holders.setdefault(one, []).append(len(self._ids))
                self._ids[key] = measure_id
                sizes.append(len(shingled))
        self._in_order = list(self._ids.values())
        self._holders = {one: np.array(numbers, dtype=np.int32) for one, numbers in holders.items()}
        self._sizes = np.array(sizes, dtype=np.int64)

    def overlap(self, train_id: int, text: str) -> Overlap | None:
        """Return an exact match, or else the nearest text that is near or contained, or None."""
        key = _key(text)
        if key in self._ids:
            return Overlap(train_id, self._ids[key], True, 1.0)
        shingled = _shingles(key)
        held = [self._holders[one] for one in shingled if one in self._holders]
        # Most texts share too little for either measure.
        if not held or len(held) < min(WHOLE_LEAST, self._threshold * len(shingled)):
            return None
        similarity = self._similarities(np.concatenate(held), len(shingled))
        nearest = int(similarity.argmax())
        found = float(similarity[nearest])
        return Overlap(train_id, self._in_order[nearest], False, min(found, 0.9999)) if found else None

    def _similarities(self, held: NDArray[np.int32], size: int) -> NDArray[np.float64]:
        """Return the similarity to each measuring text, 0 where it is below both bounds."""
        shared = np.bincount(held, minlength=len(self._sizes))
        jaccard = shared / np.maximum(size + self._sizes - shared, 1)
        within = shared / np.maximum(self._sizes, 1)
        contained = (within >= CONTAINED) & (self._sizes >= CONTAINED_LEAST)
        contained |= (within == 1) & (self._sizes >= WHOLE_LEAST)
        near = jaccard >= self._threshold - 1e-9
        best: NDArray[np.float64] = np.where(near, jaccard, np.where(contained, within, 0.0))
        return best


def all_overlaps(
    train: Callable[[], Iterable[Text]], measure: Iterable[Text], threshold: float = 0.8
) -> dict[int, Overlap]:
    """Return at most one overlap per text of `train`, by its id: an exact match of the normalized text, or the nearest.

    Near means a Jaccard of `threshold` or more. A measuring text inside a longer text is contained (CONTAINED), also
    with a word changed. Works for sets of any size: `measure` is indexed in parts, and `train` is read again for each.
    Raises ValueError for a threshold outside (0, 1].
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"the near-duplicate threshold must be above 0 and at most 1, not {threshold}")
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
    """Return the normalized text without invisible characters, or the stripped text if it has no word at all."""
    seen = text if text.isascii() else _INVISIBLE.sub("", text)
    return normalize(seen) or text.strip()
