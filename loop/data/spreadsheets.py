"""Read the records of CSV and TSV as spreadsheets write them: empty columns, blank first lines, semicolons.

No more than one row is in memory, however far a compressed file unfolds.
"""

import csv
import re
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TextIO

from wizloop.loop.data.records import MAX_CELL, BadRow, ImportRefused, NumberedRecords, Record

SIGNS = (",", "\t", ";")
"""What may separate the columns, whatever the file's name says."""
_SEP = re.compile(r'"?sep=([,;\t])"?\s*', re.IGNORECASE)
"""First line by which Excel is told what separates the columns."""
_BLANK = ' \t\r\n,;"'


def read_csv(path: Path, stream: TextIO) -> NumberedRecords:
    """Yield the rows below the header, from 1. Raises ImportRefused."""
    return _read(path, stream, ",")


def read_tsv(path: Path, stream: TextIO) -> NumberedRecords:
    """Yield the rows below the header, from 1. Raises ImportRefused."""
    return _read(path, stream, "\t")


def _read(path: Path, stream: TextIO, usual: str) -> NumberedRecords:
    # A setting of the csv module, not of the reader; every reader here needs the same.
    csv.field_size_limit(MAX_CELL)
    lines = _Lines(stream)
    try:
        first = lines.first()
        if said := _SEP.fullmatch(first):
            first, sign = lines.first(), said[1]
        else:
            sign = _sign(first, usual)
        yield from _rows(path, csv.reader(chain([first], lines), strict=True, delimiter=sign), lines)
    except csv.Error as error:
        raise ImportRefused(f"{path}: not CSV near line {lines.number}: {error}; check the quotes there") from None


class _Lines:
    """Lines of a stream. One row may have many, but not more characters than `MAX_CELL`: then they raise csv.Error."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.number = 0
        self.row = 0
        """Characters of the row so far."""

    def first(self) -> str:
        """Return the next line that is not blank; an empty text if there is none."""
        return next((line for line in self if line.strip(_BLANK)), "")

    def __iter__(self) -> Iterator[str]:
        while line := self._stream.readline(MAX_CELL):
            self.number += 1
            self.row += len(line)
            if self.row >= MAX_CELL:
                raise csv.Error(f"a row of more than {MAX_CELL:,} characters")
            yield line


def _sign(header: str, usual: str) -> str:
    """Return what separates the columns: the usual sign, or the only other one that divides the header."""
    dividing = [sign for sign in SIGNS if len(next(csv.reader([header], delimiter=sign), [])) > 1]
    return dividing[0] if len(dividing) == 1 else usual


def _rows(path: Path, reader: Iterator[list[str]], lines: _Lines) -> NumberedRecords:
    header = _header(path, next(reader, []))
    unnamed = [at for at, name in enumerate(header) if not name.strip()]
    number = 0
    for cells in reader:
        lines.row = 0
        if len(cells) != len(header):
            _fit(cells, header)
        if not cells:
            continue
        number += 1
        if len(cells) != len(header):
            yield number, BadRow(f"{len(cells)} cell{'s' if len(cells) > 1 else ''} under {len(header)} columns")
        elif unnamed:
            yield number, _without_unnamed(header, cells, unnamed)
        else:
            yield number, dict(zip(header, cells, strict=True))


def _header(path: Path, header: list[str]) -> list[str]:
    """Return the columns' names, without several empty ones at the end. Raises ImportRefused if one is repeated."""
    names = [name for name in header if name.strip()]
    if repeated := {name for name in names if names.count(name) > 1}:
        raise ImportRefused(f"{path}: the column {min(repeated)!r} occurs twice; rename one")
    several = len(header) - len(names) > 1
    while several and not header[-1].strip():
        header = header[:-1]
    return header


def _fit(cells: list[str], header: Sequence[str]) -> None:
    """Drop empty cells beyond the header, and add those that are missing below an empty name; a blank line has none."""
    if len(cells) == 1 and not cells[0].strip():
        cells.clear()
        return
    while len(cells) > len(header) and not cells[-1].strip():
        cells.pop()
    while len(cells) < len(header) and not header[len(cells)].strip():
        cells.append("")


def _without_unnamed(header: Sequence[str], cells: Sequence[str], unnamed: Sequence[int]) -> Record | BadRow:
    """Return the record without empty columns; a single one with content, such as a row's number, is called ''."""
    filled = [at for at in unnamed if cells[at].strip()]
    if filled and len(unnamed) > 1:
        return BadRow(f"the cell {cells[filled[0]][:40]!r} stands in column {filled[0] + 1}, which has no name")
    return {
        header[at].strip() and header[at]: cells[at] for at in range(len(cells)) if at not in unnamed or at in filled
    }
