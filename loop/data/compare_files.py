"""Compare two files before either is imported: rows, texts, texts with two labels, overlaps. Uses no store.

Texts are compared in two ways, because published counts use both: `plain` (without case and white space) and `words`
(without case, white space, punctuation and Unicode's forms).
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from wizloop.loop.data.files import read_records
from wizloop.loop.data.formats_columns import column_of
from wizloop.loop.data.leaks import NEAR
from wizloop.loop.data.records import RowRefused
from wizloop.loop.data.sample_reader import AS_IT_IS, read_samples
from wizloop.loop.data.sample_rows import SampleRow
from wizloop.loop.data.similarity import all_overlaps, normalize
from wizloop.recipes.sections import Data


@dataclass(frozen=True)
class FileCounts:
    """Counts of one file."""

    format: str
    rows: int
    refused: int
    plain: int
    """Distinct prompts, without case and white space."""
    words: int
    """Distinct prompts, without punctuation as well."""
    conflicts: int
    """Plain prompts with two labels for one task."""


@dataclass(frozen=True)
class Comparison:
    """Counts of two files and of what they share."""

    train: FileCounts
    measure: FileCounts
    plain: int
    """Distinct prompts in both, without case and white space."""
    words: int
    """The same, without punctuation as well."""
    near: int
    """Distinct prompts of the first that nearly repeat one of the second without being in it."""

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as `wizloop leaks TRAIN MEASURE --json` prints it."""
        return asdict(self)


def plain(text: str) -> str:
    """Return the text stripped, in lower case, with single spaces."""
    return " ".join(text.lower().split())


def compare(train: Path, measure: Path, how: Mapping[str, Any] = AS_IT_IS) -> Comparison:
    """Count two files and what they share; `how` they are read is settings of [[data]]. Raises ImportRefused.

    A column of the mapping may be in one of the files only.
    """
    (train_counts, ours), (measure_counts, theirs) = _read(train, measure, how), _read(measure, train, how)
    words = {normalize(text) for text in ours} & {normalize(text) for text in theirs}
    overlaps = all_overlaps(lambda: enumerate(ours), enumerate(theirs), NEAR)
    near = {normalize(ours[one.train_id]) for one in overlaps.values() if not one.exact}
    both = len(set(map(plain, ours)) & set(map(plain, theirs)))
    return Comparison(train_counts, measure_counts, both, len(words), len(near))


def count(rows: Iterable[SampleRow], format: str = "", refused: int = 0) -> FileCounts:
    """Count the rows of one file."""
    number, words = 0, set[str]()
    labels: dict[str, dict[str, set[str]]] = {}
    for row in rows:
        number += 1
        words.add(normalize(row.prompt))
        known = labels.setdefault(plain(row.prompt), {})
        for task, label in row.labels.items():
            known.setdefault(task, set()).add(label)
    conflicts = sum(any(len(given) > 1 for given in known.values()) for known in labels.values())
    return FileCounts(format, number, refused, len(labels), len(words), conflicts)


def _read(path: Path, other: Path, how: Mapping[str, Any]) -> tuple[FileCounts, list[str]]:
    """Return the counts of a file and its distinct prompts."""
    theirs = _columns(other) - _columns(path)
    mapping = how.get("map", {}).items()
    ours = {field: column for field, column in mapping if column_of(column, theirs)[0] not in theirs}
    file = read_samples(Data(path=str(path), split="pool", **{**how, "map": ours}))
    return count(file.rows, file.format, len(file.refused)), list(dict.fromkeys(row.prompt for row in file.rows))


def _columns(path: Path) -> set[str]:
    """Return the columns of a file's first readable row."""
    return next((set(record) for _, record in read_records(path) if not isinstance(record, RowRefused)), set())
