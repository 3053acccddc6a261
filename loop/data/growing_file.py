"""Read a JSON Lines file while another program writes it: new whole lines only, across truncation and rotation.

Nothing is kept open between two reads. A place in a file is known again by the file's number on the disk (inode) and by
the bytes before it, so that reading resumes where it stopped, also in a file that was renamed meanwhile.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

from wizloop import regular_file
from wizloop.loop.data.records import MAX_CELL, ImportRefused

MOST_LINES = 250
"""Lines of one part: they are written in one transaction, beside a night's."""
MOST_BYTES = 16_000_000
"""Bytes from which a part takes no further line."""
_LONGEST = 4 * MAX_CELL
"""Bytes of a line that are read; the rest of a longer one is skipped, and the line is refused."""
_MARK = 64
"""Bytes before a place by which it is known again."""


class Place(NamedTuple):
    """How far a file was read."""

    inode: int
    offset: int
    """In bytes."""
    lines: int
    """Line ends before it."""
    mark: str
    """SHA-256 of the bytes before it."""


class Part(NamedTuple):
    """New lines of a file."""

    lines: bytes
    first: int
    """Number of the first line, from 1."""
    place: Place | None
    """Where to read on; None before the file is there."""
    more: bool
    """Whether there is more to read already."""
    told: str = ""
    """What became of the file, for the user."""


def read_part(path: Path, place: Place | None) -> Part:
    """Return the next lines after a place, or from the beginning of the file. Raises ImportRefused."""
    try:
        return _next_part(path, place)
    except FileNotFoundError:
        # It was renamed this instant: it is found again by the next call.
        return Part(b"", 1, place, more=False)


def _next_part(path: Path, place: Place | None) -> Part:
    if place is None:
        return _begun(path, "")
    if _is_at(path, place):
        return _read(path, place, ended=False)
    rotated = _rotated(path)
    at = next((number for number, file in enumerate(rotated) if _is_at(file, place)), None)
    if at is None:
        return _begun(path, _lost(path, place))
    return _read_rotated(rotated[at], place, (*rotated[at + 1 :], path))


def _lost(path: Path, place: Place) -> str:
    """Return what to tell of a file in which a place is no more."""
    if not place.offset or not path.exists():
        return ""
    if path.stat().st_ino == place.inode:
        return f"{path}: it was truncated or written anew: it is read from its beginning"
    return f"{path}: it is another file now, and the one before is not beside it: rows at its end may be missing"


def _begun(path: Path, told: str) -> Part:
    """Read from the beginning of a file, if there is one."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return Part(b"", 1, None, more=False, told=told)
    except OSError as error:
        raise _unreadable(path, error) from None
    return _read(path, Place(status.st_ino, 0, 0, _digest(b"")), ended=False)._replace(told=told)


def _read_rotated(file: Path, place: Place, after: tuple[Path, ...]) -> Part:
    """Read on in a renamed file; at its end go on with the one after it, once that has something."""
    follower = next((one for one in after if one.exists() and one.stat().st_size), None)
    part = _read(file, place, ended=follower is not None)
    if part.lines or follower is None:
        return part._replace(more=part.more or follower is not None)
    # The follower may itself be an earlier file.
    return _begun(follower, "")._replace(more=True)


def _rotated(path: Path) -> list[Path]:
    """Return the earlier files of a log, named like FILE.1 or FILE-20260504, the oldest first; none compressed."""
    named = re.compile(re.escape(path.name) + r"[.-]\d[\d.:_T-]*")
    try:
        found = [one for one in path.parent.iterdir() if named.fullmatch(one.name) and one.is_file()]
        return sorted(found, key=lambda one: one.stat().st_mtime_ns)
    except OSError:
        return []


def _is_at(path: Path, place: Place) -> bool:
    """Return whether a place is in this file."""
    try:
        status = path.stat()
        if status.st_ino != place.inode or status.st_size < place.offset:
            return False
        with _opened(path) as file:
            return _mark(file, place.offset) == place.mark
    except FileNotFoundError:
        return False


def _read(path: Path, place: Place, *, ended: bool) -> Part:
    """Read the next lines of a file; `ended` takes a last line that has no end."""
    with _opened(path) as file:
        file.seek(place.offset)
        lines: list[bytes] = []
        size = ends = 0
        while len(lines) < MOST_LINES and size < MOST_BYTES and (taken := _line(file, ended=ended)) is not None:
            line, length = taken
            lines.append(line)
            size += length
            ends += line.endswith(b"\n")
        more = len(lines) == MOST_LINES or size >= MOST_BYTES
        offset = place.offset + size
        on = Place(os.fstat(file.fileno()).st_ino, offset, place.lines + ends, _mark(file, offset))
    return Part(b"".join(lines), place.lines + 1, on, more)


def _line(file: BinaryIO, *, ended: bool) -> tuple[bytes, int] | None:
    """Return the next line, at most its first 64 MB, and its length; None for one that is still being written."""
    begin = file.tell()
    line = file.readline(_LONGEST)
    if line.endswith(b"\n"):
        return line, len(line)
    if len(line) == _LONGEST:
        while rest := file.readline(_LONGEST):
            if rest.endswith(b"\n"):
                return line + b"\n", file.tell() - begin
        return None
    return (line, len(line)) if line and (ended or _is_object(line)) else None


def _is_object(line: bytes) -> bool:
    """Return whether a line without an end is whole: no part of a JSON object is one."""
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _mark(file: BinaryIO, offset: int) -> str:
    begin = max(0, offset - _MARK)
    return _digest(os.pread(file.fileno(), offset - begin, begin))


def _digest(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Open a regular file. Raises FileNotFoundError, and ImportRefused for anything else."""
    try:
        with regular_file.opened(path) as file:
            yield file
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError) -> ImportRefused:
    return ImportRefused(f"{path}: cannot be read: {error.strerror or error}")
