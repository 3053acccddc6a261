"""When two texts are the same, or nearly: normalising, word shingles, Jaccard, MinHash. It knows nothing of samples.

Words are runs of word characters, so text in a script without spaces (Chinese, Thai) is compared by whole phrases.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wizloop.store import hashing

SHINGLE_WORDS = 3
PERMUTATIONS = 128
# Fixed, so that signatures made on different days can be compared.
SEED = 1
# A missed pair costs more than a needless check: favour few false negatives.
LSH_WEIGHTS = (0.1, 0.9)


def normalise(text: str) -> str:
    """The text as compared, which is the store's rule: NFKC, case-folded, words with single spaces. May be empty."""
    return hashing.words(text)


def shingles(text: str) -> frozenset[str]:
    """The distinct runs of three words of the normalised text; a shorter text is one shingle, an empty one has none."""
    return shingles_of(normalise(text))


def shingles_of(normal: str) -> frozenset[str]:
    """The shingles of a text that is normalised already."""
    words = normal.split()
    last = max(len(words) - SHINGLE_WORDS, 0)
    return frozenset(" ".join(words[at : at + SHINGLE_WORDS]) for at in range(last + 1) if words)


def jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    """Shared part of two sets of shingles, 0..1; 0 where both are empty."""
    return len(a & b) / len(a | b) if a or b else 0.0


@dataclass(frozen=True)
class Fingerprint:
    """A text as it is compared: its shingles, and the MinHash values of them."""

    shingles: frozenset[str]
    minhash: Any

    @property
    def values(self) -> NDArray[np.uint32]:
        """The MinHash values; the share of equal ones in two fingerprints estimates their Jaccard."""
        values: NDArray[np.uint32] = self.minhash.hashvalues
        return values


class NearDuplicates:
    """Texts that were added, asked for the one that a new text nearly repeats.

    MinHash LSH proposes, the true Jaccard of word shingles decides. `threshold` is in (0, 1].
    """

    def __init__(self, threshold: float) -> None:
        from datasketch import MinHash, MinHashLSH

        if not 0 < threshold <= 1:
            raise ValueError(f"the near-duplicate threshold must be above 0 and at most 1, not {threshold}")
        self._threshold = threshold
        self._blank = MinHash(num_perm=PERMUTATIONS, seed=SEED)
        # MinHashLSH wants its own threshold below 1; the true Jaccard decides anyway.
        self._index = MinHashLSH(threshold=min(threshold, 0.99), num_perm=PERMUTATIONS, weights=LSH_WEIGHTS)
        self._added: list[Fingerprint] = []

    def fingerprint(self, text: str) -> Fingerprint:
        """The text as this index compares it."""
        return self.fingerprint_of(shingles(text))

    def fingerprint_of(self, shingled: frozenset[str]) -> Fingerprint:
        """The text with these shingles as this index compares it."""
        minhash = self._blank.copy()
        minhash.update_batch([one.encode() for one in shingled])
        return Fingerprint(shingled, minhash)

    def add(self, text: Fingerprint) -> None:
        """Remember a text; its number is how many were added before it."""
        self._index.insert(len(self._added), text.minhash)
        self._added.append(text)

    def find(self, text: Fingerprint) -> tuple[int, float] | None:
        """The number and similarity of the nearest added text at or above the threshold; ties go to the earliest."""
        proposed = self._index.query(text.minhash)
        near = ((jaccard(text.shingles, self._added[number].shingles), -number) for number in proposed)
        similarity, minus = max(near, default=(0.0, 0))
        return (-minus, similarity) if similarity >= self._threshold else None
