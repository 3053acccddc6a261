"""Read a whole file in one call, as a recipe's [[data]] would describe it."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wizloop.loop.data import import_file
from wizloop.loop.data.import_file import ImportReport, RowsRefused
from wizloop.loop.data.sample_reader import SampleFile, read_samples, stream_samples
from wizloop.loop.words import TASKS
from wizloop.recipes.sections import Data, Split


def read_file(path: Path, *, split: Split, **settings: Any) -> SampleFile:
    """Read a file with these settings of [[data]]."""
    return read_samples(Data(path=str(path), split=split, **settings))


def label_counts(file: SampleFile) -> dict[str, dict[str, int]]:
    """Count the labels of each task; a task without labels is left out."""
    counts = {task: Counter(row.labels[task] for row in file.rows if task in row.labels) for task in TASKS}
    return {task: dict(counted) for task, counted in counts.items() if counted}


def written(folder: Path, *rows: dict[str, Any], name: str = "a.jsonl") -> Path:
    """Write rows as JSON Lines; return the file."""
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def labeled(folder: Path, *labels: Any, column: str = "label", **others: Any) -> Path:
    """Write a row with a text for each label."""
    return written(folder, *({"text": f"text {at}", column: one, **others} for at, one in enumerate(labels)))


def labels_of(path: Path, split: Any = "seed", **settings: Any) -> list[str | None]:
    """Return the request's labels of a file that is not refused."""
    got = read_file(path, split=split, **settings)
    assert got.fault is None
    return [row.labels.get("request") for row in got.rows]


def note_of(path: Path, **settings: Any) -> str:
    """Return the note about a pool's file."""
    return stream_samples(Data(path=str(path), split="pool", **settings)).note


def report_of(path: Path, split: Any, **settings: Any) -> ImportReport:
    """Return the report of a file that is not refused."""
    checked = import_file.check(Data(path=str(path), split=split, **settings), np.random.default_rng(0))
    checked.spool.close()
    return checked.report


def refusal(path: Path, split: Any = "seed", **settings: Any) -> str:
    """Return why a file is refused."""
    with pytest.raises(RowsRefused) as refused:
        import_file.check(Data(path=str(path), split=split, **settings), np.random.default_rng(0))
    return str(refused.value)
