"""Samples from a file: which format it is, and its rows, accepted or refused. It writes nothing."""

from collections.abc import Iterator, Mapping
from itertools import chain, starmap
from pathlib import Path
from typing import TypedDict, Unpack

from wizloop.loop.data.containers import ImportRefused, Numbered, Record, RowRefused, records
from wizloop.loop.data.formats import TEXT_COLUMNS, Format, mapped_format, plain
from wizloop.loop.data.formats_known import all_names, named, recognised
from wizloop.loop.data.row_reader import RowReader
from wizloop.loop.data.sample_rows import Imported, Reading, Refused, SampleRow, Split, Where
from wizloop.loop.words import TASKS, Task

__all__ = ["Asked", "Where", "read_rows", "read_samples", "stream_samples"]

MAPPING_KEYS = ("prompt", "response", "label", "source", "policy", *(f"{task}_label" for task in TASKS))


class Asked(TypedDict, total=False):
    """What may be asked of a file."""

    fmt: str | None
    """The format's name, where it should not be recognised."""
    mapping: Mapping[str, str] | None
    """The columns of an unknown file; see `formats.mapped_format`."""
    task: Task
    """What a bare `label` column speaks about; the request, if nothing is said."""
    limit: int | None
    """How many rows to accept at most."""
    hide_labels: bool
    """Leaves the labels unread."""
    prompts_only: bool
    """Drops the response and what is labelled of it."""
    where: Where | None
    """Which rows are wanted."""


def read_samples(path: Path, *, split: Split, **asked: Unpack[Asked]) -> Imported:
    """Read a whole file; `stream_samples` with the rows sorted into accepted and refused."""
    reading = stream_samples(path, split=split, **asked)
    rows, refused = list[SampleRow](), list[Refused]()
    for row in reading.rows:
        if isinstance(row, SampleRow):
            rows.append(row)
        else:
            refused.append(row)
    return Imported(rows, refused, reading.format)


def stream_samples(path: Path, *, split: Split, **asked: Unpack[Asked]) -> Reading:
    """Open a file and recognise its format from its first record; rows are read as they are asked for.

    Raises ImportRefused, which names the file and what to do: here, or (for a file
    damaged further on) between rows.
    """
    return read_rows(records(path), str(path), path.name, split=split, **asked)


def read_rows(numbered: Numbered, shown: str, name: str, *, split: Split, **asked: Unpack[Asked]) -> Reading:
    """Turn numbered records into rows; `shown` is what they come from as a message names it, `name` as a row does.

    Rows of seed, dev and test need at least one label; rows of the pool need none. Raises ImportRefused.
    """
    head = list(_until_a_record(numbered))
    if not head:
        raise ImportRefused(f"{shown}: there is no row in it")
    number, sample = head[-1]
    if isinstance(sample, RowRefused):
        raise ImportRefused(f"{shown}: no row in it can be read; the last is row {number}: {sample}")
    hidden, mapping = asked.get("hide_labels", False), asked.get("mapping")
    if hidden:
        sample = {column: value for column, value in sample.items() if plain(column) != "label"}
    if hidden and mapping is not None:
        mapping = {key: column for key, column in mapping.items() if not key.endswith("label")}
    found = _format(shown, name, sample, asked.get("fmt"), mapping, asked.get("task", "request"))
    reader = RowReader(name, found, split, hidden, asked.get("prompts_only", False))
    rows: Iterator[SampleRow | Refused] = chain.from_iterable(starmap(reader.rows, chain(head, numbered)))
    where, limit = asked.get("where"), asked.get("limit")
    if where is not None:
        rows = (row for row in rows if isinstance(row, Refused) or where.wants(row))
    return Reading(found.name, found.note, rows if limit is None else _limited(rows, limit))


def _until_a_record(numbered: Numbered) -> Numbered:
    """The first rows, up to and with the first that can be read."""
    for number, record in numbered:
        yield number, record
        if not isinstance(record, RowRefused):
            return


def _format(
    shown: str, name: str, sample: Record, fmt: str | None, mapping: Mapping[str, str] | None, task: Task
) -> Format:
    """The format that was asked for, or the one that the first record shows."""
    if mapping is not None:
        return _mapped(shown, sample, mapping, task)
    if fmt is not None:
        asked = named(fmt, sample, name, task)
        if asked is None:
            raise ImportRefused(f"{shown}: there is no format {fmt!r}; choose among {', '.join(all_names())}")
        if missing := asked.columns - sample.keys():
            raise ImportRefused(f"{shown}: no column {min(missing)!r}, which the format {asked.name!r} needs")
        return asked
    found = recognised(sample, name, task)
    if found is None:
        if len(sample) == 1 and (mark := next((mark for mark in ("\t", ";") if mark in next(iter(sample))), None)):
            between = "tabs" if mark == "\t" else "semicolons"
            raise ImportRefused(f"{shown}: its columns stand between {between}: write it with commas")
        listed = ", ".join(" ".join(column.split()) for column in list(sample)[:20])
        raise ImportRefused(
            f"{shown}: unknown columns ({listed}), none of them {', '.join(TEXT_COLUMNS)}; say in a mapping which one "
            "is the prompt: --map COLUMN=prompt"
        )
    return found


def _mapped(shown: str, sample: Record, mapping: Mapping[str, str], task: Task) -> Format:
    if unknown := sorted(set(mapping) - set(MAPPING_KEYS)):
        raise ImportRefused(f"{shown}: the mapping names {unknown[0]!r}; choose among {', '.join(MAPPING_KEYS)}")
    if "prompt" not in mapping:
        raise ImportRefused(f"{shown}: the mapping does not say which column is the prompt")
    if absent := [column for column in mapping.values() if not column.startswith("=") and column not in sample]:
        raise ImportRefused(f"{shown}: no column {absent[0]!r}, which the mapping names; there are {', '.join(sample)}")
    return mapped_format(mapping, task)


def _limited(rows: Iterator[SampleRow | Refused], limit: int) -> Iterator[SampleRow | Refused]:
    """Rows until `limit` of them were accepted."""
    accepted = 0
    while accepted < limit and (row := next(rows, None)) is not None:
        accepted += isinstance(row, SampleRow)
        yield row
