"""Read the records of a file: JSON Lines, JSON, CSV and TSV (each also gzipped) and Parquet.

Bytes that are not UTF-8 become lone surrogates, so that only the row that holds them is refused. At most one block of
a file is in memory; only a JSON object around the rows is read whole. What columns mean is up to `formats`.
"""

import gzip
import stat
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any, TextIO

from wizloop.loop.data import parquet, spreadsheets
from wizloop.loop.data.records import MAX_CELL, BadRow, ImportRefused, NumberedRecords, Record, RowRefused
from wizloop.loop.data.strict_json import Malformed, NotAList, Parser, elements

MAX_JSON = 100_000_000
"""Characters of a JSON object around the rows, which is read whole; gzip hides far more than the file's size shows."""

ROW_LISTS = ("instances", "instructions", "prompts")
"""Names of the list of rows in an object that has several lists."""

SIGNATURES = {
    b"\x1f\x8b": "it is gzipped once more than its name says: unzip it",
    b"PAR1": "it is Parquet: name it .parquet",
    b"PK\x03\x04": "it is a zip file, as spreadsheets are: unzip it, or save it as CSV",
    b"\x28\xb5\x2f\xfd": "it is compressed with zstd: decompress it",
    b"\xff\xfe": "it is UTF-16: save it as UTF-8",
    b"\xfe\xff": "it is UTF-16: save it as UTF-8",
}
"""First bytes of a file that is not UTF-8 text, and what to do about it."""


def read_records(path: Path) -> NumberedRecords:
    """Yield the records of a file with their row numbers, from 1: the line in JSON Lines, the row below a CSV's header.

    A row that is not an object of columns is yielded as a RowRefused. Raises ImportRefused if the file cannot be read.
    """
    before = _size_and_time(path)
    ending = path.suffix.lower()
    kind = path.with_suffix("").suffix.lower() if ending == ".gz" else ending
    if ending == ".parquet":
        yield from parquet.read_records(path)
    elif kind in _READERS:
        yield from _text_records(path, _READERS[kind])
    else:
        raise ImportRefused(
            f"{path}: unknown file type; name it .jsonl, .json, .csv or .tsv (.gz if gzipped), or .parquet"
        )
    if _size_and_time(path) != before:
        raise ImportRefused(f"{path}: the file changed while it was read; import it once it is complete")


def read_lines(lines: bytes, first: int) -> NumberedRecords:
    """Yield the records of whole lines of JSON Lines, as `read_records` does; `first` is the first line's number."""
    with TextIOWrapper(BytesIO(lines), "utf-8-sig", "surrogateescape") as stream:
        for number, record in _json_lines(Path(), stream):
            yield first + number - 1, record


def _size_and_time(path: Path) -> tuple[int, int]:
    """Return size and time of a file. Raises ImportRefused for anything else: reading a pipe would block."""
    try:
        status = path.stat()
    except FileNotFoundError:
        raise ImportRefused(f"{path}: no such file; check the name") from None
    except (OSError, ValueError) as error:
        raise ImportRefused(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if stat.S_ISDIR(status.st_mode):
        raise ImportRefused(f"{path}: cannot be read: it is a folder; give a file in it")
    if not stat.S_ISREG(status.st_mode):
        raise ImportRefused(f"{path}: cannot be read: it is not a regular file; write the rows into one first")
    return status.st_size, status.st_mtime_ns


def _text_records(path: Path, reader: Callable[[Path, TextIO], NumberedRecords]) -> NumberedRecords:
    """Yield the records of a text file; every I/O error becomes an ImportRefused."""
    number = 0
    try:
        with _open_text(path) as stream:
            for number, record in reader(path, stream):
                yield number, record
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise ImportRefused(
            f"{path}: row {number + 1}: the gzip data are damaged or truncated there; fetch the file again"
        ) from None
    except OSError as error:
        raise ImportRefused(f"{path}: cannot be read: {error.strerror or error}") from None


@contextmanager
def _open_text(path: Path) -> Iterator[TextIO]:
    # csv needs line ends unchanged; JSON does not care.
    newline = "" if {".csv", ".tsv"} & {ending.lower() for ending in path.suffixes[-2:]} else None
    with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as binary:
        begins = binary.peek(4)
        for signature, advice in SIGNATURES.items():
            if begins.startswith(signature):
                raise ImportRefused(f"{path}: {advice}")
        with TextIOWrapper(binary, "utf-8-sig", "surrogateescape", newline) as stream:
            yield stream


def _json_lines(path: Path, stream: TextIO) -> NumberedRecords:
    parser = Parser(with_nan=True)
    number = 0
    while line := stream.readline(MAX_CELL):
        number += 1
        if len(line) == MAX_CELL and not line.endswith("\n"):
            _skip_line(stream)
            yield number, BadRow(f"the line is longer than {MAX_CELL:,} characters")
        elif text := line.strip(" \t\r\n"):
            try:
                yield number, _record(parser.whole(text))
            except Malformed as error:
                yield number, BadRow(str(error))


def _skip_line(stream: TextIO) -> None:
    while (rest := stream.readline(MAX_CELL)) and not rest.endswith("\n"):
        pass


def _json(path: Path, stream: TextIO) -> NumberedRecords:
    try:
        for number, value in enumerate(elements(stream, MAX_CELL), start=1):
            yield number, _record(value)
    except NotAList:
        yield from enumerate(map(_record, _json_object(path, stream)), start=1)
    except Malformed as error:
        raise _not_json(path, error) from None


def _json_object(path: Path, stream: TextIO) -> list[Any]:
    """Return the rows of a document that is not a list: an object around the list."""
    stream.seek(0)
    text = stream.read(MAX_JSON + 1)
    if not text.strip():
        raise ImportRefused(f"{path}: it has no rows")
    if len(text) > MAX_JSON:
        raise ImportRefused(f"{path}: more than {MAX_JSON:,} characters in one object; make it JSON Lines (.jsonl)")
    try:
        document = Parser(with_nan=True).whole(text.strip(" \t\r\n"))
    except Malformed as error:
        raise _not_json(path, error) from None
    if not isinstance(document, dict):
        raise ImportRefused(f"{path}: it holds a {type(document).__name__}; give a list of objects")
    return _rows_of(path, document)


def _not_json(path: Path, error: Malformed) -> ImportRefused:
    return ImportRefused(f"{path}: {error}; if each line is an object of its own, name it .jsonl")


def _rows_of(path: Path, document: Record) -> list[Any]:
    """Return the list of rows in an object: by its name, or else the only list that is not empty."""
    if (nested := _by_category(document)) is not None:
        return nested
    lists = {name: value for name, value in document.items() if isinstance(value, list)}
    if name := next((name for name in ROW_LISTS if name in lists), None):
        return lists[name]
    filled = {name: value for name, value in lists.items() if value} or lists
    if len(filled) != 1:
        raise ImportRefused(f"{path}: an object with {len(filled)} lists; give a list of objects, or only one list")
    return next(iter(filled.values()))


def _by_category(document: Record) -> list[Any] | None:
    """Return the rows of an object {category: {subcategory: [text, ...]}}; None for any other object."""
    if not document or not all(isinstance(inner, dict) for inner in document.values()):
        return None
    kinds = [(category, name, texts) for category, inner in document.items() for name, texts in inner.items()]
    if not all(isinstance(texts, list) for _, _, texts in kinds):
        return None
    return [
        {"prompt": text, "category": category, "subcategory": name} for category, name, texts in kinds for text in texts
    ]


def _record(value: Any) -> Record | RowRefused:
    """Return an object as it is, and a bare text as a prompt."""
    if isinstance(value, dict):
        return value
    if isinstance(value, str):
        return {"prompt": value}
    if isinstance(value, Malformed):
        return BadRow(str(value))
    return BadRow(f"a {type(value).__name__} instead of an object with columns")


_READERS = {
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json,
    ".csv": spreadsheets.read_csv,
    ".tsv": spreadsheets.read_tsv,
}
