"""Read recorded model outputs to score: JSON Lines with `prompt`, `label` and `predict`, like the published files.

The verdict is parsed as the published evaluator does, or as we do; the rows on which the two differ are counted.
"""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from wizloop.loop.data.files import read_records
from wizloop.loop.data.records import ImportRefused, Record, RowRefused
from wizloop.loop.evaluation import published
from wizloop.loop.evaluation.answered_rows import AnsweredRow, scored
from wizloop.loop.evaluation.scoring import ScoredRow
from wizloop.loop.evaluation.verdict_parser import parse_verdicts
from wizloop.loop.words import DEFAULT, TASKS, Declaration, Task

_RELEASED = "generated_predictions"
Reader = Literal["published", "block"]
"""published: the first hit in the last 300 characters; block: the answer block at the end."""


@dataclass
class Recorded:
    """The labeled rows of a file, and its counts."""

    task: Task
    answered: list[AnsweredRow] = field(default_factory=list)
    skipped: int = 0
    """Rows without a label for the task."""
    differing: int = 0
    """Labeled rows on which the other reader gives another verdict."""

    @property
    def rows(self) -> list[ScoredRow]:
        """The rows as `scoring` takes them."""
        return scored(self.answered, self.task)


def read(
    path: Path,
    task: Task,
    reader: Reader = "published",
    group: str | None = None,
    *,
    benchmark: str = "",
    declared: Declaration = DEFAULT,
) -> Recorded:
    """Read the rows of a file for one task; `group` is the column by which they are reported.

    Raises ImportRefused, which names the file and the row, if the file cannot be read or is something else, and for a
    task that is not judged.
    """
    if not declared[task]:
        raise ImportRefused(f"{path}: the task {task} is not judged, by tasks.{task} = []: give another --task")
    found, grouped = Recorded(task), group is None
    for number, record in _records(path):
        grouped = grouped or group in record
        label, predict = _text(path, number, record, "label", null=True), _text(path, number, record, "predict")
        known = None if label is None else published.truth(label, task, declared)
        if label is not None and known is None and label not in ("", "None") and ":" not in label:
            raise ImportRefused(
                f"{path}, row {number}: the label {label[:40]!r} is not one of the task {task}: add --task "
                f"({', '.join(TASKS)}), write {' or '.join(declared[task])}, or give the recipe that declares it with "
                "--recipe"
            )
        if known is None:
            found.skipped += 1
            continue
        theirs = published.verdict(predict or "", task, declared)
        ours = parse_verdicts(predict or "", declared).get(task)
        found.differing += theirs != ours
        prompt = _text(path, number, record, "prompt") or ""
        named = None if group is None else str(record.get(group))
        verdict: dict[str, str | None] = {task: theirs if reader == "published" else ours}
        row = f"{path.name}:{number}"
        found.answered.append(
            AnsweredRow(
                *(benchmark, row, None, prompt, None, task, {task: known}, verdict, {}, None, None, named),
                declared=declared,
            )
        )
    if not grouped:
        raise ImportRefused(f"{path}: no row has the column {group!r} to report by; there are {', '.join(record)}")
    return found


def benchmark_of(path: Path) -> str:
    """Return the default benchmark of a file: its folder's name for the released files, else its own."""
    return path.absolute().parent.name if path.name.startswith(_RELEASED) else path.name.split(".")[0]


def outputs_of(files: Sequence[Path], names: Sequence[str]) -> list[str | None]:
    """Return what tells several outputs of one benchmark apart: `8B`, `run/8B`; None for all if no name occurs twice.

    It is the path without what all have in common; of the released files, the folder that has the benchmarks' folders.
    """
    if len({name.casefold() for name in names}) == len(names):
        return [None] * len(files)
    whole = [path.absolute() for path in files]
    places = [path.parent.parent if path.name.startswith(_RELEASED) else path for path in whole]
    common = os.path.commonpath([place.parent for place in places])
    shown = [place.relative_to(common).as_posix() for place in places]
    taken = Counter[tuple[str, str]]()
    outputs: list[str | None] = []
    for name, output in zip(names, shown, strict=True):
        taken[name.casefold(), output] += 1
        again = taken[name.casefold(), output]
        outputs.append(output if again == 1 else f"{output} ({again})")
    return outputs


def _records(path: Path) -> Iterator[tuple[int, Record]]:
    empty = True
    for number, record in read_records(path):
        if isinstance(record, RowRefused):
            raise ImportRefused(f"{path}, row {number}: {record}")
        empty = False
        yield number, record
    if empty:
        raise ImportRefused(f"{path}: it has no rows")


def _text(path: Path, number: int, record: Record, column: str, *, null: bool = False) -> str | None:
    if column not in record:
        raise ImportRefused(
            f"{path}, row {number}: no column {column!r}: recorded outputs need prompt, label and predict"
        )
    value = record[column]
    if not isinstance(value, str) and not (null and value is None):
        raise ImportRefused(f"{path}, row {number}: {column} is a {type(value).__name__}, not a text")
    return value
