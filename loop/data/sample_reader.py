"""Read the samples of a file or hub dataset: find its format, then accept or refuse each row. Writes nothing."""

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice, starmap
from pathlib import Path
from types import MappingProxyType
from typing import Any

from wizloop.loop.data import category_columns, formats_guards, formats_injections
from wizloop.loop.data.annotation_exports import export_of
from wizloop.loop.data.files import read_records
from wizloop.loop.data.format_choice import choose_format, field_and_column
from wizloop.loop.data.formats import Format, plain, spelling
from wizloop.loop.data.formats_columns import MAPPING_KEYS, answer_column, column_of, contradicting, may_contradict
from wizloop.loop.data.kept_back import KeptBack
from wizloop.loop.data.label_words import LabelCounts, LabelWords, word_of
from wizloop.loop.data.records import ImportRefused, NumberedRecords, Record, RowRefused
from wizloop.loop.data.sample_rows import Refused, RowReader, SampleRow, is_wanted
from wizloop.loop.words import DEFAULT, Declaration, Task
from wizloop.recipes.sections import Data

HEAD = 2000
"""Rows that are looked at where the first leaves a file's format open."""
AS_IT_IS: Mapping[str, Any] = MappingProxyType({})
"""No settings of [[data]] beyond the file and its split."""
LOOK_AHEAD = 50
"""Rows after the first among which a label is looked for, if the first has none."""


@dataclass(frozen=True)
class SampleStream:
    """A file's format, and its rows as they are read."""

    format: str
    note: str
    """Note for the user about such a file; may be empty."""
    rows: Iterator[SampleRow | Refused]
    words: LabelWords
    """The unknown label words of the rows that were read so far."""
    kept_back: KeptBack | None = None
    """The rows so far that no teacher may see; None if `send` names no column."""

    def fault(self, data: Data, rows: int, labels: LabelCounts) -> str | None:
        """Return why the labels of a file that was read to its end refuse it, or None; a pool needs none."""
        return None if data.split == "pool" else self.words.fault(data.path, rows, labels)


@dataclass(frozen=True)
class SampleFile:
    """A file that was read whole."""

    rows: list[SampleRow]
    refused: list[Refused]
    format: str
    note: str = ""
    fault: str | None = None
    """Why its labels refuse the file, or None."""
    kept_back: KeptBack | None = None


def read_samples(data: Data, declared: Declaration = DEFAULT) -> SampleFile:
    """Read a whole file: `stream_samples`, with the rows sorted into accepted and refused."""
    stream = stream_samples(data, declared=declared)
    rows = list(stream.rows)
    accepted = [row for row in rows if isinstance(row, SampleRow)]
    labels: dict[Task, Counter[str]] = {}
    for row in accepted:
        for task, label in row.labels.items():
            labels.setdefault(task, Counter())[label] += 1
    refused = [row for row in rows if isinstance(row, Refused)]
    fault = stream.fault(data, len(rows), labels)
    return SampleFile(accepted, refused, stream.format, stream.note, fault, stream.kept_back)


def stream_samples(data: Data, records: NumberedRecords | None = None, declared: Declaration = DEFAULT) -> SampleStream:
    """Open a file as a recipe's [[data]] describes it; rows are read on demand. `sample` is left to the caller.

    `records` are those of a file that is read in parts. Labels are those of `declared`.

    Rows of seed, dev and test need at least one label, rows of the pool none. Raises ImportRefused, which names the
    file and says what to do: here, or between rows if the file is damaged further on.
    """
    refuse_hidden(data)
    if data.hub_split is None:
        found = read_records(Path(data.path)) if records is None else records
        return _stream(data, found, _storable(Path(data.path).name), declared)
    from wizloop.loop.data import hub

    return _stream(data, hub.read_records(data.path, data.hub_split), hub.dataset_name(data.path), declared)


def _storable(name: str) -> str:
    """Return a file's name with each byte that is not UTF-8 written in hex."""
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")


def refuse_hidden(data: Data) -> None:
    """Raise ImportRefused if the labels of a split that measures would be hidden."""
    if data.hide_labels and data.split in ("dev", "test"):
        raise ImportRefused(
            f"{data.path}: the labels of {data.split} cannot be hidden: it is measured by them (leave out "
            "--hide-labels, in a recipe hide_labels = true)"
        )


def _stream(data: Data, records: NumberedRecords, name: str, declared: Declaration) -> SampleStream:
    words = LabelWords(data.label, declared=declared)
    if words.is_own:
        # A format then leaves each word to be read as one of the labels.
        data = data.model_copy(update={"label": {label: label for label in declared.request} | dict(words.asked)})
    kept_back = None if data.send is None else KeptBack(data.send)
    if kept_back is not None:
        records = kept_back.noting(records, data.path)
    head = list(_until_readable(records))
    if not head:
        raise ImportRefused(f"{data.path}: it has no rows")
    number, first = head[-1]
    if isinstance(first, RowRefused):
        raise ImportRefused(f"{data.path}: no row can be read; the last is row {number}: {first}")
    own, of_categories = category_columns.split_map(dict(field_and_column(*pair) for pair in data.map.items()))
    data = data.model_copy(update={"map": own} if of_categories else {})
    note = ""
    if data.format is None and (export := export_of(first)) is not None:
        head, records = list(export.records(iter(head))), export.records(records)
        first, note = export.flat(first), export.note(data.map)
        data = data.model_copy(update={"map": data.map or export.mapping(first)})
    if data.hide_labels:
        first = {column: value for column, value in first.items() if plain(column) != "label"}
        mapping = {key: column for key, column in data.map.items() if not key.endswith("label")}
        data = data.model_copy(update={"map": mapping, "label": {}})
    else:
        lacking = any(word_of(first.get(column)) is None for column in _label_columns(first, data))
        ahead = list(islice(records, LOOK_AHEAD if lacking else 0))
        first = _filled(first, ahead, data)
        head += ahead
    whole, first = first, category_columns.without(first, of_categories)
    fmt = choose_format(data, first, name)
    if kept_back is not None:
        fmt = _without_send(fmt, data, kept_back.without(first), name)
    if fmt.name == "columns" and data.format is None and not data.label:
        fmt = _settled(fmt, first, head, records)
    if fmt.name == "columns" and not data.label and (beside := may_contradict(first, data.task)):
        _refuse_contradiction(data, [first, *_looked_at(head, records)], beside)
    fmt = formats_guards.bound(fmt, first)
    read_categories = category_columns.reader_of(data, of_categories, whole)
    reader = RowReader(name, fmt, data, words, read_categories)
    rows: Iterator[SampleRow | Refused] = chain.from_iterable(starmap(reader.rows, chain(head, records)))
    if data.max_chars or data.half or data.part:
        rows = (row for row in rows if isinstance(row, Refused) or is_wanted(row.prompt, row.response, data))
    rows = rows if data.limit is None else _first_accepted(rows, data.limit)
    told = "; ".join(filter(None, (note, fmt.told)))
    return SampleStream(fmt.name, told, rows, reader.words, kept_back)


def _without_send(fmt: Format, data: Data, first: Record, name: str) -> Format:
    """Return a format whose note does not call the column of `send` ignored; `first` is a record without it."""
    try:
        other = choose_format(data, first, name)
    except ImportRefused:
        # The format reads it, too.
        return fmt
    return replace(fmt, note=other.note) if other.name == fmt.name else fmt


def _settled(
    fmt: Format, first: Record, head: list[tuple[int, Record | RowRefused]], records: NumberedRecords
) -> Format:
    """Return the format that more rows show where the first leaves it open; they are moved to the head."""
    open_to = [known for known in (formats_injections, formats_guards) if known.is_open(first)]
    if open_to:
        rows = _looked_at(head, records)
        rows[0] = first
        for known in open_to:
            fmt = known.settle(fmt, rows)
    return fmt


def _looked_at(head: list[tuple[int, Record | RowRefused]], records: NumberedRecords) -> list[Record]:
    """Return the first readable rows of a file; they are moved to the head."""
    head += islice(records, max(0, HEAD - len(head)))
    return [row for _, row in head if not isinstance(row, RowRefused)]


def _refuse_contradiction(data: Data, rows: Sequence[Record], columns: Sequence[str]) -> None:
    """Raise ImportRefused if a column says the opposite of the label: one of them is turned."""
    label = spelling("label", rows[0])
    if column := contradicting(rows, data.task, columns):
        raise ImportRefused(
            f"{data.path}: {column} says the opposite of what {label} is read as; say which holds: "
            f"--map {shlex.quote(column)}=label, or what the words of {label} mean (--label 1=unharmful --label "
            "0=harmful)"
        )


def _until_readable(records: NumberedRecords) -> NumberedRecords:
    """Yield rows up to and including the first that is readable."""
    for number, record in records:
        yield number, record
        if not isinstance(record, RowRefused):
            return


def _filled(first: Record, ahead: Sequence[tuple[int, Record | RowRefused]], data: Data) -> Record:
    """Return the first record with a label from the rows after it where it has none."""
    sample = dict(first)
    for column in _label_columns(first, data):
        for _, record in ahead:
            if word_of(sample.get(column)) is None and not isinstance(record, RowRefused) and column in record:
                sample[column] = record[column]
    return sample


def _label_columns(first: Record, data: Data) -> list[str]:
    named = [column_of(name, first)[0] for pair in data.map.items() for name in pair if name not in MAPPING_KEYS]
    judged = [name for name in first if name == answer_column(first) or formats_guards.is_called_after_one(name)]
    return [spelling("label", first) or "label", *judged, *named]


def _first_accepted(rows: Iterator[SampleRow | Refused], limit: int) -> Iterator[SampleRow | Refused]:
    """Yield rows until `limit` of them were accepted."""
    accepted = 0
    while accepted < limit and (row := next(rows, None)) is not None:
        accepted += isinstance(row, SampleRow)
        yield row
