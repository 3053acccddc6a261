"""What comes in: a row that was accepted, one that was refused, which rows are wanted. Nothing is read here."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from wizloop.loop.data.similarity import normalise
from wizloop.loop.words import TASKS, Task

Split = Literal["pool", "seed", "dev", "test"]


class SampleRow(NamedTuple):
    """One accepted row."""

    prompt: str
    response: str | None
    labels: Mapping[Task, str]
    """The labels that are known; none for hidden ones."""
    source: str
    """What the row says of where it came from, or else the file's name."""
    row_ref: str
    """File name and row number."""
    policy: str | None


class Refused(NamedTuple):
    """One row that was not imported. Row numbers begin with 1."""

    row: int
    reason: str
    bad: bool = False
    """Whether the row is broken, and not just of no use."""


@dataclass(frozen=True)
class Where:
    """Which rows are wanted; the others are left out, which is no fault of theirs."""

    max_chars: int | None = None
    """The longest prompt and response together, in characters."""
    half: Literal["dev", "test"] | None = None
    """By the prompt's place: below one half is dev (its SHA-256 begins with 0 to 7), the rest is test."""
    part: tuple[float, float] | None = None
    """Prompts whose place is at least the first number and below the second."""

    def wants(self, row: SampleRow) -> bool:
        if self.max_chars is not None and len(row.prompt) + len(row.response or "") > self.max_chars:
            return False
        if self.half is None and self.part is None:
            return True
        place = place_of(row.prompt)
        if self.half is not None and (place < 0.5) != (self.half == "dev"):
            return False
        return self.part is None or self.part[0] <= place < self.part[1]


@dataclass(frozen=True)
class Reading:
    """A file being read, piece by piece: its format, and its rows as they come."""

    format: str
    note: str
    """What is to be known of such a file; empty for nothing."""
    rows: Iterator[SampleRow | Refused]


@dataclass(frozen=True)
class Imported:
    """A file read whole."""

    rows: list[SampleRow]
    refused: list[Refused]
    format: str

    def label_counts(self) -> dict[Task, dict[str, int]]:
        """How often each label of each task was given; a task without one is left out."""
        counts = {task: Counter(row.labels[task] for row in self.rows if task in row.labels) for task in TASKS}
        return {task: dict(counted) for task, counted in counts.items() if counted}


def place_of(prompt: str) -> float:
    """Where a prompt falls in [0, 1), whatever its case, spacing and punctuation.

    The first 8 hex digits of the SHA-256 of the normalised prompt, over 16^8.
    """
    return int(hashlib.sha256(normalise(prompt).encode()).hexdigest()[:8], 16) / 16**8
