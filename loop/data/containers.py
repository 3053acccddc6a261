"""Files of rows, opened: JSON Lines, JSON, CSV (each also gzipped) and Parquet. What columns mean is `formats`' matter.

Bytes that are not UTF-8 come through as lone surrogates, so that the row which holds them is refused and not the file.
Whatever the file, no more than a piece of it is in memory; only a JSON object around the rows is read whole.
"""

import csv
import gzip
import stat
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import Any, TextIO

from wizloop.loop.data.json_rows import Doubtful, NotAList, Parser, elements

MAX_LINE = 16_000_000
"""Characters of one line, or one cell. A sample's text is far shorter."""

MAX_JSON = 100_000_000
"""Characters of a JSON object that holds the rows, which is read whole; gzip hides far more than its size says."""

ROW_LISTS = ("instances", "instructions", "prompts")
"""What the list of rows is called in an object that has several lists."""

SIGNATURES = {
    b"\x1f\x8b": "it is gzipped once more than its name says: unzip it",
    b"PAR1": "it is Parquet: name it .parquet",
    b"PK\x03\x04": "it is a zip file, as spreadsheets are too: unzip it, or save it as CSV",
    b"\x28\xb5\x2f\xfd": "it is compressed by zstd: decompress it",
    b"\xff\xfe": "it is UTF-16: save it as UTF-8",
    b"\xfe\xff": "it is UTF-16: save it as UTF-8",
}
"""How a file begins that is no text in UTF-8, and what to do about it."""

Record = Mapping[str, Any]
Numbered = Iterator[tuple[int, "Record | RowRefused"]]


class ImportRefused(ValueError):
    """A file, or what was asked of it, cannot be imported; the message names it and says what to do."""


class RowRefused(ValueError):
    """One row cannot be imported; the message is the reason."""

    bad = False
    """Whether the row is not what such a file should hold, and not just of no use."""


class BadRow(RowRefused):
    """One row that is broken: bytes, syntax, columns, size, or an id that stood for another text."""

    bad = True


def records(path: Path) -> Numbered:
    """The rows of a file with their numbers, from 1: the line in JSON Lines, the row below the header in CSV.

    A row that is no object of columns comes as a RowRefused. Raises ImportRefused for a file that cannot be read.
    """
    readers = {".jsonl": _json_lines, ".ndjson": _json_lines, ".json": _json, ".csv": _csv}
    kind = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    before = _looked_at(path)
    if path.suffix == ".parquet":
        from wizloop.loop.data import parquet

        yield from parquet.records(path)
    elif kind in readers:
        yield from _texts(path, readers[kind])
    else:
        raise ImportRefused(
            f"{path}: not a kind of file that is known; name it .jsonl, .json or .csv (.gz if zipped) or .parquet"
        )
    if _looked_at(path) != before:
        raise ImportRefused(f"{path}: the file changed while it was read; import it once it is complete")


def _looked_at(path: Path) -> tuple[int, int]:
    """Size and time of a file. Raises ImportRefused for what is no file: a pipe would be waited for."""
    try:
        found = path.stat()
    except FileNotFoundError:
        raise ImportRefused(f"{path}: no such file; check the name") from None
    except (OSError, ValueError) as error:
        raise ImportRefused(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if stat.S_ISDIR(found.st_mode):
        raise ImportRefused(f"{path}: cannot be read: it is a folder; name a file in it")
    if not stat.S_ISREG(found.st_mode):
        raise ImportRefused(f"{path}: cannot be read: it is no plain file; write the rows into one first")
    return found.st_size, found.st_mtime_ns


def _texts(path: Path, reader: Callable[[Path, TextIO], Numbered]) -> Numbered:
    """The rows of a file of text. Whatever keeps it from being read becomes an ImportRefused."""
    number = 0
    try:
        with _opened(path) as stream:
            for number, record in reader(path, stream):
                yield number, record
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise ImportRefused(
            f"{path}: row {number + 1}: the gzip data are damaged or cut short there; fetch the file again"
        ) from None
    except OSError as error:
        raise ImportRefused(f"{path}: cannot be read: {error.strerror or error}") from None


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    # csv wants the line ends as they are, and JSON does not mind.
    newline = "" if ".csv" in path.suffixes[-2:] else None
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as binary:
        begins = binary.peek(4)
        for signature, advice in SIGNATURES.items():
            if begins.startswith(signature):
                raise ImportRefused(f"{path}: {advice}")
        with TextIOWrapper(binary, "utf-8-sig", "surrogateescape", newline) as stream:
            yield stream


def _json_lines(path: Path, stream: TextIO) -> Numbered:
    parser = Parser()
    number = 0
    while line := stream.readline(MAX_LINE):
        number += 1
        if len(line) == MAX_LINE and not line.endswith("\n"):
            _skip_line(stream)
            yield number, BadRow(f"the line is longer than {MAX_LINE:,} characters")
            continue
        text = line.strip(" \t\r\n")
        if not text:
            continue
        try:
            found = parser.whole(text)
            yield number, found if isinstance(found, dict) else _record(found)
        except Doubtful as doubtful:
            yield number, BadRow(str(doubtful))
        except RowRefused as refused:
            yield number, refused


def _skip_line(stream: TextIO) -> None:
    while (rest := stream.readline(MAX_LINE)) and not rest.endswith("\n"):
        pass


def _json(path: Path, stream: TextIO) -> Numbered:
    try:
        for number, row in enumerate(elements(stream, MAX_LINE), start=1):
            yield number, _checked(row)
    except Doubtful as doubtful:
        raise ImportRefused(f"{path}: {doubtful}; if each line is an object of its own, name it .jsonl") from None
    except NotAList:
        yield from _json_object(path, stream)


def _json_object(path: Path, stream: TextIO) -> Numbered:
    """The rows of a document that is no list: an object around the list."""
    stream.seek(0)
    text = stream.read(MAX_JSON + 1)
    if not text.strip():
        raise ImportRefused(f"{path}: there is no row in it")
    if len(text) > MAX_JSON:
        raise ImportRefused(f"{path}: more than {MAX_JSON:,} characters in one object; make it JSON Lines (.jsonl)")
    try:
        document = Parser().whole(text.strip(" \t\r\n"))
    except Doubtful as doubtful:
        raise ImportRefused(f"{path}: {doubtful}; if each line is an object of its own, name it .jsonl") from None
    if not isinstance(document, dict):
        raise ImportRefused(f"{path}: holds a {type(document).__name__}; give a list of objects")
    for number, row in enumerate(_rows_of(path, document), start=1):
        yield number, _checked(row)


def _rows_of(path: Path, document: Record) -> list[Any]:
    """The list in an object that holds the rows: by its name, or else the only one with anything in."""
    if (nested := _by_kind(document)) is not None:
        return nested
    lists = {name: value for name, value in document.items() if isinstance(value, list)}
    if name := next((name for name in ROW_LISTS if name in lists), None):
        return lists[name]
    filled = {name: value for name, value in lists.items() if value} or lists
    if len(filled) != 1:
        raise ImportRefused(
            f"{path}: an object with {len(filled)} lists in it; give a list of objects, or just one list"
        )
    return next(iter(filled.values()))


def _by_kind(document: Record) -> list[Any] | None:
    """The texts of an object category: {subcategory: [text, ...]}, each with the two names; None for another object."""
    if not document or not all(isinstance(inner, dict) for inner in document.values()):
        return None
    kinds = [(one, other, texts) for one, inner in document.items() for other, texts in inner.items()]
    if not all(isinstance(texts, list) for _, _, texts in kinds):
        return None
    return [
        {"prompt": text, "category": category, "subcategory": subcategory}
        for category, subcategory, texts in kinds
        for text in texts
    ]


def _csv(path: Path, stream: TextIO) -> Numbered:
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
                yield number, BadRow(f"{len(cells)} cells under {len(header)} columns")
    except csv.Error as error:
        raise ImportRefused(f"{path}: not CSV near line {reader.line_num}: {error}; check the quotes there") from None


def _checked(value: Any) -> Record | RowRefused:
    if isinstance(value, Doubtful):
        return BadRow(str(value))
    try:
        return _record(value)
    except RowRefused as refused:
        return refused


def _record(value: Any) -> Record:
    """An object as it is, a bare text as a prompt."""
    if isinstance(value, dict):
        return value
    if isinstance(value, str):
        return {"prompt": value}
    raise BadRow(f"a {type(value).__name__} where an object with columns should be")
