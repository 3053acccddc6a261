"""A file of vectors by sample id: a cache beside the database, which may be lost and is then made again.

Each row has a checksum of its sample's digest and its numbers. A row that was never written, that a crash tore, or that
belongs to another text counts as missing, so that nothing has to be flushed or locked. Rows stand at their id's place,
and the file is sparse where ids are missing.
"""

import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from wizloop import regular_file

SUFFIX = ".vectors"
PIECE = 4096
"""Rows in memory besides those that are returned."""
_HEAD = struct.Struct("<16sIIQd24x")
"""Magic, width and their checksum; how many rows were read with the model, and in how many seconds."""
_MAGIC = b"wizloop vectors1"


@dataclass(frozen=True, slots=True)
class VectorFile:
    """An open file; `width` numbers a row, 0 if the model has no vectors."""

    path: Path
    width: int
    read_rows: int = 0
    """Rows that were read with the model when the file was opened, and in how many seconds, for an estimate."""
    read_seconds: float = 0.0

    @classmethod
    def find(cls, path: Path) -> "VectorFile | None":
        """Open the file; None where it is missing or its head is damaged. Raises OSError."""
        try:
            with regular_file.opened(path) as file:
                head = file.read(_HEAD.size)
        except FileNotFoundError:
            return None
        if len(head) < _HEAD.size:
            return None
        magic, width, check, *read = _HEAD.unpack(head)
        return cls(path, width, *read) if magic == _MAGIC and check == _check_of_head(width) else None

    @classmethod
    def create(cls, path: Path, width: int) -> "VectorFile":
        """Make an empty file in place of any other of its folder, whose vectors no run of it reads. Raises OSError."""
        path.parent.mkdir(parents=True, exist_ok=True)
        for other in path.parent.glob(f"*{SUFFIX}*"):
            other.unlink(missing_ok=True)
        new = path.with_name(f"{path.name}.{os.getpid()}")
        new.write_bytes(_HEAD.pack(_MAGIC, width, _check_of_head(width), 0, 0.0))
        new.replace(path)
        return cls(path, width)

    def read(self, ids: Sequence[int], digests: Sequence[str]) -> tuple[NDArray[np.float16], NDArray[np.bool_]]:
        """Return the vectors [ids, width] of samples with these digests, and which of them are there; others are 0."""
        vectors, there = np.zeros((len(ids), self.width), np.float16), np.zeros(len(ids), np.bool_)
        for at in range(0, len(ids), PIECE):
            some = slice(at, at + PIECE)
            rows = self._rows(np.asarray(ids[some], np.int64))
            vectors[some] = rows["vector"]
            there[some] = rows["check"] == _checks(vectors[some], digests[some])
            vectors[some][~there[some]] = 0
        return vectors, there

    def write(
        self, ids: Sequence[int], digests: Sequence[str], vectors: NDArray[np.float16], seconds: float = 0.0
    ) -> None:
        """Write the vectors of samples, which took so many seconds to read. Raises OSError."""
        rows = np.zeros(len(ids), self._row)
        rows["vector"] = vectors
        rows["check"] = _checks(np.ascontiguousarray(vectors), digests)
        with self.path.open("r+b") as file:
            for id, row in zip(ids, rows, strict=True):
                file.seek(_HEAD.size + id * self._row.itemsize)
                file.write(row.tobytes())
            if seconds:
                file.seek(0)
                *kept, rows_before, before = _HEAD.unpack(file.read(_HEAD.size))
                file.seek(0)
                file.write(_HEAD.pack(*kept, rows_before + len(ids), before + seconds))

    @property
    def _row(self) -> np.dtype[np.void]:
        return _row_of(self.width)

    def _rows(self, ids: NDArray[np.int64]) -> NDArray[np.void]:
        """Return copies of the rows, zero beyond the end of the file. A map of it would stay in memory."""
        whole = (self.path.stat().st_size - _HEAD.size) // self._row.itemsize
        inside = ids < whole
        if not inside.any():
            return np.zeros(len(ids), self._row)
        mapped = np.memmap(self.path, self._row, "r", offset=_HEAD.size, shape=(whole,))
        if inside.all():
            return np.asarray(mapped[ids])
        rows = np.zeros(len(ids), self._row)
        rows[inside] = mapped[ids[inside]]
        return rows


def kept_in(folder: Path) -> VectorFile | None:
    """Return the folder's file, or None. Raises OSError."""
    found = (VectorFile.find(path) for path in folder.glob(f"*{SUFFIX}"))
    return next((file for file in found if file is not None), None)


def row_bytes(width: int) -> int:
    """Return the bytes of a vector of so many numbers on the disk."""
    return _row_of(width).itemsize


def _row_of(width: int) -> np.dtype[np.void]:
    return np.dtype([("check", "<u4"), ("vector", "<f2", (width,))])


def _check_of_head(width: int) -> int:
    return crc32(_MAGIC + width.to_bytes(4, "little"))


def _checks(vectors: NDArray[np.float16], digests: Sequence[str]) -> NDArray[np.uint32]:
    """Return the checksum of each row, never 0, which a row has that was never written."""
    size = vectors.shape[1] * vectors.itemsize
    numbers = vectors.reshape(-1).view(np.uint8).data
    found = (crc32(numbers[at * size : (at + 1) * size], crc32(digest.encode())) for at, digest in enumerate(digests))
    return np.fromiter((each or 1 for each in found), np.uint32, len(digests))
