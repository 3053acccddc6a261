"""Read a whole file in one call, as a recipe's [[data]] would describe it."""

from collections import Counter
from pathlib import Path
from typing import Any

from wizloop.loop.data.sample_reader import SampleFile, read_samples
from wizloop.loop.words import TASKS
from wizloop.recipes.sections import Data, Split


def read_file(path: Path, *, split: Split, **settings: Any) -> SampleFile:
    """Read a file with these settings of [[data]]."""
    return read_samples(Data(path=str(path), split=split, **settings))


def label_counts(file: SampleFile) -> dict[str, dict[str, int]]:
    """Count the labels of each task; a task without labels is left out."""
    counts = {task: Counter(row.labels[task] for row in file.rows if task in row.labels) for task in TASKS}
    return {task: dict(counted) for task, counted in counts.items() if counted}
