"""Which texts to train on also stand, or nearly stand, in a set that measures. It reports; it removes nothing."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

from wizloop.loop.similarity import NearDuplicates, normalise

__all__ = ["Leak", "normalise", "overlaps"]

Text = tuple[Hashable, str]
"""An id and its text."""


@dataclass(frozen=True)
class Leak:
    """A text to train on, and the text of the measuring set that it comes nearest to."""

    train_id: Hashable
    measure_id: Hashable
    kind: Literal["exact", "near"]
    similarity: float
    """Jaccard of word 3-shingles, 0..1; 1 for an exact match."""


def overlaps(train: Sequence[Text], measure: Sequence[Text], threshold: float = 0.8) -> list[Leak]:
    """At most one leak per row of `train`, in its order: an exact match of the normalised text, or else the nearest.

    Near means a Jaccard of `threshold` or more; MinHash LSH proposes the pairs and finds all but a few of those just at
    the threshold. Raises ValueError for a threshold outside (0, 1].
    """
    measured: dict[str, Hashable] = {}
    for measure_id, text in measure:
        measured.setdefault(_key(text), measure_id)
    rest = dict.fromkeys(key for _, text in train if (key := _key(text)) not in measured)
    near = _nearest(list(rest), list(measured), threshold)
    leaks = []
    for train_id, text in train:
        key = _key(text)
        if key in measured:
            leaks.append(Leak(train_id, measured[key], "exact", 1.0))
        elif key in near:
            match, similarity = near[key]
            leaks.append(Leak(train_id, measured[match], "near", similarity))
    return leaks


def _nearest(texts: Sequence[str], measured: Sequence[str], threshold: float) -> dict[str, tuple[str, float]]:
    """For each text that nearly repeats a measured one: that one, and how similar it is."""
    index = NearDuplicates(threshold)
    for text in measured:
        index.add(index.fingerprint(text))
    found = {}
    for text in texts:
        if (match := index.find(index.fingerprint(text))) is not None:
            found[text] = (measured[match[0]], match[1])
    return found


def _key(text: str) -> str:
    """The normalised text, or the bare text where it has no word at all (emoji, punctuation)."""
    return normalise(text) or text.strip()
