"""Files of rows, opened: JSON Lines, JSON, CSV, each also gzipped. What their columns mean is the matter of `formats`.

Bytes that are not UTF-8 come through as lone surrogates, so that the row which holds them is refused and not the file.
"""

import csv
import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import Any, Never, TextIO

MAX_LINE = 16_000_000
"""Characters of one line, or one CSV field. A sample's text is far shorter."""

MAX_JSON = 1_000_000_000
"""Characters of a JSON file, which is read whole; gzip can hide far more than its size on disk says."""

Record = Mapping[str, Any]


class ImportRefused(ValueError):
    """A file, or what was asked of it, cannot be imported; the message names it and says what to do."""


class RowRefused(ValueError):
    """One row cannot be imported; the message is the reason."""


def records(path: Path) -> Iterator[tuple[int, Record | RowRefused]]:
    """The rows of a file with their numbers, from 1: the line in JSON Lines, the row below the header in CSV.

    A row that is no object of columns comes as a RowRefused. Raises ImportRefused for a file that cannot be read.
    """
    readers = {".jsonl": _json_lines, ".ndjson": _json_lines, ".json": _json, ".csv": _csv}
    kind = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    if kind not in readers:
        raise ImportRefused(
            f"{path}: not a kind of file that is known; name it .jsonl, .json or .csv, with .gz if zipped"
        )
    with _opened(path) as stream:
        yield from readers[kind](path, stream)


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    """The file as text. Whatever keeps it from being read becomes an ImportRefused."""
    try:
        # csv wants the line ends as they are, and JSON does not mind.
        newline = "" if ".csv" in path.suffixes[-2:] else None
        with (
            gzip.open(path) if path.suffix == ".gz" else path.open("rb") as binary,
            TextIOWrapper(binary, "utf-8-sig", "surrogateescape", newline) as stream,
        ):
            yield stream
    except FileNotFoundError:
        raise ImportRefused(f"{path}: no such file; check the name") from None
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise ImportRefused(f"{path}: the gzip data are damaged or cut short; fetch the file again") from None
    except OSError as error:
        raise ImportRefused(f"{path}: cannot be read: {error.strerror or error}") from None


def _json_lines(path: Path, stream: TextIO) -> Iterator[tuple[int, Record | RowRefused]]:
    number = 0
    while line := stream.readline(MAX_LINE):
        number += 1
        if len(line) == MAX_LINE:
            raise ImportRefused(
                f"{path}: line {number} is longer than {MAX_LINE:,} characters; give one object per line"
            )
        if not line.strip():
            continue
        try:
            yield number, _record(_parsed(line))
        except RowRefused as refused:
            yield number, refused


def _json(path: Path, stream: TextIO) -> Iterator[tuple[int, Record | RowRefused]]:
    text = stream.read(MAX_JSON + 1)
    if len(text) > MAX_JSON:
        raise ImportRefused(
            f"{path}: more than {MAX_JSON:,} characters of JSON; make it JSON Lines (.jsonl), which streams"
        )
    try:
        document = _parsed(text)
    except RowRefused as refused:
        raise ImportRefused(f"{path}: {refused}; if each line is an object of its own, name it .jsonl") from None
    if isinstance(document, dict):
        document = _rows_of(path, document)
    if not isinstance(document, list):
        raise ImportRefused(f"{path}: holds a {type(document).__name__}; give a list of objects")
    for number, row in enumerate(document, start=1):
        try:
            yield number, _record(row)
        except RowRefused as refused:
            yield number, refused


def _rows_of(path: Path, document: Record) -> list[Any]:
    """The list in an object that holds the rows: the one named `instances`, or else the only one."""
    lists = {name: value for name, value in document.items() if isinstance(value, list)}
    if "instances" in lists:
        return lists["instances"]
    if len(lists) != 1:
        raise ImportRefused(
            f"{path}: an object with {len(lists)} lists in it; give a list of objects, or just one list"
        )
    return next(iter(lists.values()))


def _csv(path: Path, stream: TextIO) -> Iterator[tuple[int, Record | RowRefused]]:
    # The limit is the module's own setting; every reader here wants the same.
    csv.field_size_limit(MAX_LINE)
    reader = csv.reader(stream, strict=True)
    try:
        header = next(reader, [])
        if doubled := {name for name in header if header.count(name) > 1}:
            raise ImportRefused(f"{path}: the column {min(doubled)!r} is there twice; rename one")
        for number, cells in enumerate((cells for cells in reader if cells), start=1):
            if len(cells) == len(header):
                yield number, dict(zip(header, cells, strict=True))
            else:
                yield number, RowRefused(f"{len(cells)} cells under {len(header)} columns")
    except csv.Error as error:
        raise ImportRefused(f"{path}: not CSV near line {reader.line_num}: {error}; check the quotes there") from None


def _record(value: Any) -> Record:
    """An object as it is, a bare text as a prompt."""
    if isinstance(value, str):
        return {"prompt": value}
    if not isinstance(value, dict):
        raise RowRefused(f"a {type(value).__name__} where an object with columns should be")
    return value


def _parsed(text: str) -> Any:
    """JSON by the letter: no NaN, no key twice in one object, no depth that exhausts the stack."""
    try:
        return json.loads(text, object_pairs_hook=_no_key_twice, parse_constant=_no_constant)
    except RowRefused:
        raise
    except json.JSONDecodeError as error:
        raise RowRefused(f"not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise RowRefused("not usable JSON: nested too deeply") from None
    except ValueError as error:
        # Python refuses to read integers of thousands of digits.
        raise RowRefused(f"not usable JSON: {error}") from None


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise RowRefused(f"the key {next(name for name in names if names.count(name) > 1)!r} is there twice")
    return found


def _no_constant(name: str) -> Never:
    raise RowRefused(f"not JSON: {name} is no number")
