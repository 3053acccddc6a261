"""Which texts to train on also stand, or nearly stand, in a set that measures. It reports; it removes nothing."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from wizloop.loop.data.similarity import NearDuplicates, normalise, shingles_of

__all__ = ["Leak", "Measured", "all_overlaps", "normalise", "overlaps"]

Text = tuple[Hashable, str]
"""An id and its text."""

TOGETHER = 5000
"""Measuring texts that are compared at once; their shingles and signatures take about 100 MB."""


@dataclass(frozen=True)
class Leak:
    """A text to train on, and the text of the measuring set that it comes nearest to."""

    train_id: Hashable
    measure_id: Hashable
    kind: Literal["exact", "near"]
    similarity: float
    """Jaccard of word 3-shingles, 0..1; 1 for an exact match."""


class Measured:
    """Texts of a measuring set, asked for the one that a text to train on repeats, or nearly repeats."""

    def __init__(self, texts: Iterable[Text], threshold: float) -> None:
        """Raises ValueError for a threshold outside (0, 1]."""
        self._threshold = threshold
        self._near = NearDuplicates(threshold)
        self._ids: dict[str, Hashable] = {}
        self._shingles: set[str] = set()
        for measure_id, text in texts:
            key = _key(text)
            if key not in self._ids:
                self._ids[key] = measure_id
                shingled = shingles_of(normalise(text))
                self._shingles |= shingled
                self._near.add(self._near.fingerprint_of(shingled))
        self._in_order = list(self._ids.values())

    def leak(self, train_id: Hashable, text: str) -> Leak | None:
        """An exact match of the normalised text, or else the nearest at or above the threshold, or nothing."""
        key = _key(text)
        if key in self._ids:
            return Leak(train_id, self._ids[key], "exact", 1.0)
        shingled = shingles_of(key)
        # Jaccard is at most the share of its shingles that stand anywhere in the set: no signature is needed for most.
        if not shingled or len(shingled & self._shingles) < self._threshold * len(shingled) - 1e-9:
            return None
        match = self._near.find(self._near.fingerprint_of(shingled))
        return None if match is None else Leak(train_id, self._in_order[match[0]], "near", match[1])


def overlaps(train: Sequence[Text], measure: Sequence[Text], threshold: float = 0.8) -> list[Leak]:
    """At most one leak per row of `train`, in its order: an exact match of the normalised text, or else the nearest.

    Near means a Jaccard of `threshold` or more; MinHash LSH proposes the pairs and finds all but a few of those just at
    the threshold. Raises ValueError for a threshold outside (0, 1].
    """
    measured = Measured(measure, threshold)
    return [leak for train_id, text in train if (leak := measured.leak(train_id, text)) is not None]


def all_overlaps(
    train: Callable[[], Iterable[Text]], measure: Iterable[Text], threshold: float = 0.8
) -> dict[Hashable, Leak]:
    """`overlaps` for sets of any size: the measuring one a part at a time, `train` read anew for each part."""
    found: dict[Hashable, Leak] = {}
    left = iter(measure)
    while part := list(islice(left, TOGETHER)):
        measured = Measured(part, threshold)
        for train_id, text in train():
            leak = measured.leak(train_id, text)
            if leak is not None and (train_id not in found or _rank(leak) > _rank(found[train_id])):
                found[train_id] = leak
    return found


def _rank(leak: Leak) -> tuple[bool, float]:
    return leak.kind == "exact", leak.similarity


def _key(text: str) -> str:
    """The normalised text, or the bare text where it has no word at all (emoji, punctuation)."""
    return normalise(text) or text.strip()
