"""Import the rows of a growing file into the pool, part by part, and keep how far it was read.

Rows are committed before the place is kept: after a kill between the two they are read again, and duplicates.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import chain
from pathlib import Path

import numpy as np

from wizloop.loop.data import growing_file, import_file
from wizloop.loop.data.files import read_lines
from wizloop.loop.data.growing_file import Part, Place
from wizloop.loop.data.import_file import ImportReport, RowsRefused
from wizloop.loop.data.label_words import LabelWords
from wizloop.loop.data.records import NumberedRecords, Record, RowRefused
from wizloop.loop.data.sample_reader import SampleStream, stream_samples
from wizloop.loop.data.sample_rows import Refused, SampleRow
from wizloop.loop.words import DEFAULT, Declaration
from wizloop.recipes.sections import Data
from wizloop.store.db import Store

FOLDER = "followed"
"""Folder of the workspace with one small file for each log that is followed."""


@dataclass
class Followed:
    """A log that is read into the pool. `open` resumes one."""

    store: Store
    data: Data
    kept: Path
    """Where its place is kept."""
    place: Place | None = None
    totals: Counter[str] = field(default_factory=Counter)
    """Rows so far, by what became of them."""
    declared: Declaration = DEFAULT
    """The labels that its words stand for."""
    _sample: Record | None = None
    """The first readable row of the file. It shows the format, which so is the same for every part."""

    @classmethod
    def open(cls, store: Store, workspace: Path, data: Data, declared: Declaration = DEFAULT) -> "Followed":
        """Resume a log where it was left, or begin it. Raises ImportRefused."""
        path = Path(data.path).absolute()
        name = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
        followed = cls(store, data, workspace / FOLDER / f"{name}.json", declared=declared)
        followed.place = _kept_place(followed.kept)
        if followed.place is not None:
            followed._look_at(growing_file.read_part(path, None))
        return followed

    def read_on(self, now: datetime) -> tuple[Part, ImportReport | None]:
        """Import the next lines, and return them with their report, if there are any. Raises ImportRefused."""
        part = growing_file.read_part(Path(self.data.path), self.place)
        report = self._import(part, now) if part.lines else None
        if part.place != self.place:
            self.place = part.place
            self._keep()
        return part, report

    def _import(self, part: Part, now: datetime) -> ImportReport:
        self._look_at(part)
        try:
            checked = import_file.check(self.data, np.random.default_rng(0), stream=self._stream(part))
            with checked.spool:
                import_file.write(self.store, checked, now)
            report = checked.report
        except RowsRefused as refused:
            # None of these rows is usable: the next ones may be.
            report = refused.report
        counted = ("rows", "accepted", "duplicates", "conflicts")
        self.totals.update({name: getattr(report, name) for name in counted} | {"refused": len(report.refused)})
        return report

    def _look_at(self, part: Part) -> None:
        if self._sample is None:
            rows = (row for _, row in read_lines(part.lines, part.first))
            self._sample = next((row for row in rows if not isinstance(row, RowRefused)), None)

    def _stream(self, part: Part) -> SampleStream:
        """Return the rows of a part, in the format that the file's first row shows."""
        records = read_lines(part.lines, part.first)
        if self._sample is None:
            return SampleStream("", "", _refused(records), LabelWords())
        stream = stream_samples(self.data, chain([(0, self._sample)], records), self.declared)
        return replace(stream, rows=(row for row in stream.rows if not _is_sample(row)))

    def _keep(self) -> None:
        """Keep the place, whole or not at all."""
        self.kept.parent.mkdir(exist_ok=True)
        written = self.kept.with_suffix(f".{os.getpid()}")
        said = {"file": str(Path(self.data.path).absolute())} | ({} if self.place is None else self.place._asdict())
        written.write_text(json.dumps(said))
        written.replace(self.kept)


def _kept_place(file: Path) -> Place | None:
    """Return a place that was kept; None for none, and for what is not one: rows that are read again are duplicates."""
    try:
        said = json.loads(file.read_text())
        return Place(int(said["inode"]), max(0, int(said["offset"])), max(0, int(said["lines"])), str(said["mark"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _refused(records: NumberedRecords) -> Iterator[Refused]:
    """Yield the reasons to refuse records of which none is readable."""
    for number, record in records:
        yield Refused(number, str(record), bad=True)


def _is_sample(row: SampleRow | Refused) -> bool:
    """Return whether a row is the one with number 0 that shows the format."""
    return row.row == 0 if isinstance(row, Refused) else row.row_ref.rpartition(":")[2].partition(".")[0] == "0"
