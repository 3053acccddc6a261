"""When two texts are the same, or nearly: normalising, word shingles, Jaccard, MinHash. It knows nothing of samples.

Words are runs of word characters, so text in a script without spaces (Chinese, Thai) is compared by whole phrases.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

SHINGLE_WORDS = 3
PERMUTATIONS = 128
# Fixed, so that signatures made on different days can be compared.
SEED = 1
# A missed pair costs more than a needless check: favour few false negatives.
LSH_WEIGHTS = (0.1, 0.9)


def normalise(text: str) -> str:
    """The text as compared: NFKC, case-folded, word characters only, single spaces. May be empty."""
    return " ".join(re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold()))


def shingles(text: str) -> frozenset[str]:
    """The distinct runs of three words of the normalised text; a shorter text is one shingle, an empty one has none."""
    words = normalise(text).split()
    last = max(len(words) - SHINGLE_WORDS, 0)
    return frozenset(" ".join(words[at : at + SHINGLE_WORDS]) for at in range(last + 1) if words)


def jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    """Shared part of two sets of shingles, 0..1; 0 where both are empty."""
    return len(a & b) / len(a | b) if a or b else 0.0


def signatures(shingled: Iterable[frozenset[str]]) -> Iterator[Any]:
    """A MinHash per set of shingles, in order."""
    from datasketch import MinHash

    # Sorted, because the order of a set of strings changes from process to process.
    encoded = ([one.encode() for one in sorted(each)] for each in shingled)
    yield from MinHash.generator(encoded, num_perm=PERMUTATIONS, seed=SEED)


class NearDuplicates:
    """Texts that were added, asked for those that a new one nearly repeats.

    MinHash LSH proposes, the true Jaccard of word shingles decides. `threshold` is in (0, 1].
    """

    def __init__(self, threshold: float) -> None:
        from datasketch import MinHashLSH

        if not 0 < threshold <= 1:
            raise ValueError(f"the near-duplicate threshold must be above 0 and at most 1, not {threshold}")
        self._threshold = threshold
        # MinHashLSH wants its own threshold below 1; the true Jaccard decides anyway.
        self._index = MinHashLSH(threshold=min(threshold, 0.99), num_perm=PERMUTATIONS, weights=LSH_WEIGHTS)
        self._shingled: list[frozenset[str]] = []

    def add(self, shingled: frozenset[str], signature: Any) -> None:
        """Remember a text; its number is how many were added before it."""
        self._index.insert(len(self._shingled), signature)
        self._shingled.append(shingled)

    def find(self, shingled: frozenset[str], signature: Any) -> tuple[int, float] | None:
        """The number and similarity of the nearest added text at or above the threshold; ties go to the earliest."""
        near = ((jaccard(shingled, self._shingled[number]), -number) for number in self._index.query(signature))
        best = max(near, default=(0.0, 0))
        return (-best[1], best[0]) if best[0] >= self._threshold else None


def paired(texts: Sequence[str]) -> Iterator[tuple[frozenset[str], Any]]:
    """Each text's shingles and signature, in order."""
    shingled = [shingles(text) for text in texts]
    return zip(shingled, signatures(shingled), strict=True)
