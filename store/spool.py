"""Rows kept on disk between being checked and being inserted, so that they take no memory and hold no write lock.

The file is private and unnamed: it disappears with its process, and no one else can write to it. That is why marshal,
which trusts its input, is safe here; it is ten times faster than a second database.
"""

import marshal
import tempfile
from collections.abc import Iterator
from types import TracebackType
from typing import IO, Any

from wizloop.store import errors

_LENGTH = 8
"""Bytes of the length in front of each chunk."""


class Spool:
    """A queue of rows on disk. Values are text, bytes, numbers or None."""

    def __init__(self) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile(prefix="wizloop-")  # noqa: SIM115
        self.count = 0

    def put(self, rows: list[tuple[Any, ...]]) -> None:
        """Append rows as one chunk. Raises errors.DiskFull."""
        try:
            kept = marshal.dumps(rows)
            self._file.write(len(kept).to_bytes(_LENGTH, "big") + kept)
        except OSError as error:
            raise errors.DiskFull(
                f"the rows do not fit in {tempfile.gettempdir()} ({error.strerror}): free some space there, or set "
                "TMPDIR to another folder"
            ) from error
        self.count += len(rows)

    def pieces(self) -> Iterator[list[tuple[Any, ...]]]:
        """Yield the chunks in order; may be called again after the last one."""
        self._file.seek(0)
        while length := self._file.read(_LENGTH):
            yield marshal.loads(self._file.read(int.from_bytes(length, "big")))

    def close(self) -> None:
        """Discard the rows."""
        self._file.close()

    def __enter__(self) -> "Spool":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
