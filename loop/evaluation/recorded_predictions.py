"""Recorded model outputs as rows to score: JSON Lines with `prompt`, `label` and `predict`, as the published files are.

The verdict is read as the published evaluator reads it, or as we do; how many of the two readings differ is told.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from wizloop.loop.data.containers import ImportRefused, Record, RowRefused, records
from wizloop.loop.evaluation import answer_readers, published
from wizloop.loop.evaluation.scoring import Judged
from wizloop.loop.words import LABELS, TASKS, Task

Reader = Literal["published", "block"]
"""The first hit in the last 300 characters, or the answer block at the end."""


@dataclass
class Recorded:
    """The labelled rows of a file, and what is to be known of it."""

    rows: list[Judged] = field(default_factory=list)
    skipped: int = 0
    """Rows whose label says nothing of the task."""
    differing: int = 0
    """Labelled rows on which the other way of reading comes to another verdict."""


def read(path: Path, task: Task, reader: Reader = "published", group: str | None = None) -> Recorded:
    """The rows of a file for one task; `group` names the column that they are reported by.

    Raises ImportRefused, which names the file and the row, for a file that cannot be read or holds something else.
    """
    found, grouped = Recorded(), group is None
    for number, record in _records(path):
        grouped = grouped or group in record
        label, predict = _text(path, number, record, "label", null=True), _text(path, number, record, "predict")
        known = None if label is None else published.truth(label, task)
        if label is not None and known is None and label not in ("", "None") and ":" not in label:
            raise ImportRefused(
                f"{path}, row {number}: the label {label[:40]!r} is not one of the task {task}: give --task "
                f"({', '.join(TASKS)}), or write {' or '.join(LABELS[task])}"
            )
        if known is None:
            found.skipped += 1
            continue
        theirs, ours = published.verdict(predict or "", task), answer_readers.read(predict or "").get(task)
        found.differing += theirs != ours
        prompt = _text(path, number, record, "prompt") or ""
        named = None if group is None else str(record.get(group))
        found.rows.append(Judged(prompt, known, theirs if reader == "published" else ours, group=named))
    if not grouped:
        raise ImportRefused(f"{path}: no row has a column {group!r} to report by: there are {', '.join(record)}")
    return found


def benchmark_of(path: Path) -> str:
    """The benchmark that a file is of, where nobody says: its folder's name, as the released files lie."""
    return path.absolute().parent.name if path.name.startswith("generated_predictions") else path.name.split(".")[0]


def _records(path: Path) -> Iterator[tuple[int, Record]]:
    empty = True
    for number, record in records(path):
        if isinstance(record, RowRefused):
            raise ImportRefused(f"{path}, row {number}: {record}")
        empty = False
        yield number, record
    if empty:
        raise ImportRefused(f"{path}: there is no row in it")


def _text(path: Path, number: int, record: Record, column: str, *, null: bool = False) -> str | None:
    if column not in record:
        raise ImportRefused(
            f"{path}, row {number}: no column {column!r}: recorded outputs have prompt, label and predict"
        )
    value = record[column]
    if not isinstance(value, str) and not (null and value is None):
        raise ImportRefused(f"{path}, row {number}: {column} is a {type(value).__name__}, not a text")
    return value
