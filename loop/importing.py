"""Samples from a file: what is accepted, what is refused and why, which format it was. It writes nothing.

Every text here is hostile: it is checked for what the store cannot hold, and never interpreted.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from wizloop.loop.containers import ImportRefused, Record, RowRefused, records
from wizloop.loop.formats import KNOWN, Content, Format, columns_format, mapped_format, recognised
from wizloop.loop.similarity import normalise
from wizloop.loop.words import TASKS, Task

Split = Literal["pool", "seed", "dev", "test"]

MAX_TEXT = 1_000_000
"""Bytes of UTF-8 of one prompt or one response."""

MAPPING_KEYS = ("prompt", "response", "label", "source", "policy", *(f"{task}_label" for task in TASKS))


@dataclass(frozen=True)
class SampleRow:
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


@dataclass(frozen=True)
class Refused:
    """One row that was not imported. Row numbers begin with 1."""

    row: int
    reason: str


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


def read_samples(
    path: Path,
    *,
    split: Split,
    fmt: str | None = None,
    mapping: Mapping[str, str] | None = None,
    limit: int | None = None,
    hide_labels: bool = False,
    prompts_only: bool = False,
    task: Task = "request",
    where: Where | None = None,
) -> Imported:
    """Read a whole file; `stream_samples` with the rows sorted into accepted and refused."""
    reading = stream_samples(
        path,
        split=split,
        fmt=fmt,
        mapping=mapping,
        limit=limit,
        hide_labels=hide_labels,
        prompts_only=prompts_only,
        task=task,
        where=where,
    )
    rows, refused = list[SampleRow](), list[Refused]()
    for row in reading.rows:
        if isinstance(row, SampleRow):
            rows.append(row)
        else:
            refused.append(row)
    return Imported(rows, refused, reading.format)


def stream_samples(
    path: Path,
    *,
    split: Split,
    fmt: str | None = None,
    mapping: Mapping[str, str] | None = None,
    limit: int | None = None,
    hide_labels: bool = False,
    prompts_only: bool = False,
    task: Task = "request",
    where: Where | None = None,
) -> Reading:
    """Open a file and recognise its format from its first record; rows are read as they are asked for.

    `fmt` is a format's name, where it should not be recognised; `mapping` names the columns of an unknown file (see
    `formats.mapped_format`). `task` is what a bare `label` column speaks about. `limit` counts accepted rows. Rows of
    seed, dev and test need at least one label; rows of the pool need none. `hide_labels` leaves the labels unread;
    `prompts_only` drops the response and what is labelled of it.

    Raises ImportRefused, which names the file and what to do: here, or (for a file damaged further on) between rows.
    """
    numbered = records(path)
    head = list(_until_a_record(numbered))
    if not head:
        raise ImportRefused(f"{path}: there is no row in it")
    number, sample = head[-1]
    if isinstance(sample, RowRefused):
        raise ImportRefused(f"{path}: no row in it can be read; the last is row {number}: {sample}")
    if hide_labels and mapping is not None:
        mapping = {key: column for key, column in mapping.items() if not key.endswith("label")}
    reader = _Reader(path, _format(path, sample, fmt, mapping, task), split, hide_labels, prompts_only)
    wanted = where or Where()
    rows = (reader.row(*each) for each in chain(head, numbered))
    kept = (row for row in rows if isinstance(row, Refused) or wanted.wants(row))
    return Reading(reader.format.name, kept if limit is None else _limited(kept, limit))


@dataclass(frozen=True)
class _Reader:
    """Turns the records of one file into rows."""

    path: Path
    format: Format
    split: Split
    hide_labels: bool
    prompts_only: bool

    def row(self, number: int, record: Record | RowRefused) -> SampleRow | Refused:
        """The row, or the reason against it."""
        try:
            if isinstance(record, RowRefused):
                raise record
            return self._accepted(number, record)
        except RowRefused as refused:
            return Refused(number, str(refused))

    def _accepted(self, number: int, record: Record) -> SampleRow:
        if missing := self.format.columns - record.keys():
            raise RowRefused(f"no column {min(missing)!r}, which the format {self.format.name!r} needs")
        if self.hide_labels:
            record = {column: value for column, value in record.items() if column != "label"}
        content = self.format.read(record)
        if self.prompts_only:
            request: dict[Task, str] = {task: label for task, label in content.labels.items() if task == "request"}
            content = replace(content, response=None, labels=request)
        prompt = _text(content.prompt, "prompt")
        if not prompt.strip():
            raise RowRefused("the prompt is empty")
        response = None if content.response in (None, "") else _text(content.response, "response")
        return SampleRow(
            prompt,
            response,
            {} if self.hide_labels else self._labels(content, response),
            self.path.name if content.source is None else _text(content.source, "source"),
            f"{self.path.name}:{number}",
            None if content.policy is None else _text(content.policy, "policy"),
        )

    def _labels(self, content: Content, response: str | None) -> Mapping[Task, str]:
        """The row's labels, if they can be about what it holds and the split has what it needs."""
        about = [task for task in content.labels if task != "request"]
        if response is None and about:
            raise RowRefused(f"a {about[0]} label, and no response that it could be about")
        if self.split != "pool" and not content.labels:
            raise RowRefused(f"no label, and a sample of {self.split} needs one")
        return content.labels


def _until_a_record(numbered: Iterator[tuple[int, Record | RowRefused]]) -> Iterator[tuple[int, Record | RowRefused]]:
    """The first rows, up to and with the first that can be read."""
    for number, record in numbered:
        yield number, record
        if not isinstance(record, RowRefused):
            return


def _format(path: Path, sample: Record, fmt: str | None, mapping: Mapping[str, str] | None, task: Task) -> Format:
    """The format that was asked for, or the one that the first record shows."""
    if mapping is not None:
        return _mapped(path, sample, mapping, task)
    if fmt is not None:
        named = {known.name: known for known in (*KNOWN, columns_format(task))}
        if fmt not in named:
            raise ImportRefused(f"{path}: there is no format {fmt!r}; choose among {', '.join(named)}")
        return named[fmt]
    found = recognised(sample, task)
    if found is None:
        listed = ", ".join(list(sample)[:20])
        raise ImportRefused(f"{path}: unknown columns ({listed}); say in a mapping which one is the prompt")
    return found


def _mapped(path: Path, sample: Record, mapping: Mapping[str, str], task: Task) -> Format:
    if unknown := sorted(set(mapping) - set(MAPPING_KEYS)):
        raise ImportRefused(f"{path}: the mapping names {unknown[0]!r}; choose among {', '.join(MAPPING_KEYS)}")
    if "prompt" not in mapping:
        raise ImportRefused(f"{path}: the mapping does not say which column is the prompt")
    if absent := [column for column in mapping.values() if not column.startswith("=") and column not in sample]:
        raise ImportRefused(f"{path}: no column {absent[0]!r}, which the mapping names; there are {', '.join(sample)}")
    return mapped_format(mapping, task)


def _limited(rows: Iterator[SampleRow | Refused], limit: int) -> Iterator[SampleRow | Refused]:
    """Rows until `limit` of them were accepted."""
    accepted = 0
    while accepted < limit and (row := next(rows, None)) is not None:
        accepted += isinstance(row, SampleRow)
        yield row


def _text(value: Any, name: str) -> str:
    """The text, unchanged, if the store can hold it. Raises RowRefused."""
    if not isinstance(value, str):
        raise RowRefused(f"the {name} is a {type(value).__name__}, not a text")
    if "\0" in value:
        raise RowRefused(f"the {name} holds a NUL character")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise RowRefused(f"the {name} holds a lone surrogate, or bytes that are not UTF-8") from None
    if size > MAX_TEXT:
        raise RowRefused(f"the {name} is {size:,} bytes, more than {MAX_TEXT:,}")
    return value
