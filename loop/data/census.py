"""What two files have in common before either is imported: rows, texts, texts with two labels, overlaps. No store.

Texts are compared in two ways, since published counts use both: `plain` (case and white space aside) and `words`
(case, white space, punctuation and Unicode's forms aside).
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from wizloop.loop.data.importing import stream_samples
from wizloop.loop.data.leakage import all_overlaps, normalise
from wizloop.loop.data.leaks import NEAR
from wizloop.loop.data.sample_rows import SampleRow


@dataclass(frozen=True)
class Census:
    """One file, counted."""

    format: str
    rows: int
    refused: int
    plain: int
    """Different prompts, case and white space aside."""
    words: int
    """Different prompts, punctuation aside as well."""
    conflicts: int
    """Of the plain ones, those with two labels for one task."""


@dataclass(frozen=True)
class Common:
    """What two files have in common."""

    train: Census
    measure: Census
    plain: int
    """Different prompts that stand in both, case and white space aside."""
    words: int
    """The same, punctuation aside as well."""
    near: int
    """Different prompts of the first that nearly stand in the second, and do not stand there."""

    def to_json(self) -> dict[str, Any]:
        """As `wizloop leaks TRAIN MEASURE --json` prints it."""
        return asdict(self)


def plain(text: str) -> str:
    """The text stripped, in lower case, with single spaces."""
    return " ".join(text.lower().split())


def common(train: Path, measure: Path, fmt: str | None = None) -> Common:
    """Count two files and what they have in common. Raises ImportRefused."""
    (one, ours), (other, theirs) = _read(train, fmt), _read(measure, fmt)
    words = {normalise(text) for text in ours} & {normalise(text) for text in theirs}
    leaks = all_overlaps(lambda: ((text, text) for text in ours), ((text, text) for text in theirs), NEAR)
    near = {normalise(str(leak.train_id)) for leak in leaks.values() if leak.kind == "near"}
    return Common(one, other, len(set(map(plain, ours)) & set(map(plain, theirs))), len(words), len(near))


def count(rows: Iterable[SampleRow], format: str = "", refused: int = 0) -> Census:
    """Count rows that are at hand."""
    number, words = 0, set[str]()
    labels: dict[str, dict[str, set[str]]] = {}
    for row in rows:
        number += 1
        words.add(normalise(row.prompt))
        known = labels.setdefault(plain(row.prompt), {})
        for task, label in row.labels.items():
            known.setdefault(task, set()).add(label)
    conflicts = sum(any(len(given) > 1 for given in known.values()) for known in labels.values())
    return Census(format, number, refused, len(labels), len(words), conflicts)


def _read(path: Path, fmt: str | None) -> tuple[Census, list[str]]:
    """The file counted, and its different prompts."""
    reading = stream_samples(path, split="pool", fmt=fmt)
    read = list(reading.rows)
    rows = [row for row in read if isinstance(row, SampleRow)]
    return count(rows, reading.format, len(read) - len(rows)), list(dict.fromkeys(row.prompt for row in rows))
