"""Rows that wait on disk between being checked and being written, so that neither memory nor the writer holds them.

The file is private and has no name: it is gone with its process, however that ends, and nobody else can write what is
read back. That is why marshal, which trusts its input, may be used: ten times faster than a second database.
"""

import marshal
import tempfile
from collections.abc import Iterator
from types import TracebackType
from typing import IO, Any

from wizloop.store import errors

_LENGTH = 8
"""Bytes in front of each piece that say how long it is."""


class Spool:
    """Rows in the order in which they were put. Values are text, bytes, numbers or None."""

    def __init__(self) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile(prefix="wizloop-")  # noqa: SIM115
        self.count = 0

    def put(self, rows: list[tuple[Any, ...]]) -> None:
        """Add rows at the end, which stay together as a piece. Raises errors.DiskFull."""
        try:
            kept = marshal.dumps(rows)
            self._file.write(len(kept).to_bytes(_LENGTH, "big") + kept)
        except OSError as error:
            raise errors.DiskFull(
                f"the rows that were read do not fit into {tempfile.gettempdir()} ({error.strerror}): make room there, "
                "or name another folder in TMPDIR"
            ) from error
        self.count += len(rows)

    def pieces(self) -> Iterator[list[tuple[Any, ...]]]:
        """All rows in order, as they were put; may be asked for again once it is at its end."""
        self._file.seek(0)
        while length := self._file.read(_LENGTH):
            yield marshal.loads(self._file.read(int.from_bytes(length, "big")))

    def close(self) -> None:
        """Let the rows go."""
        self._file.close()

    def __enter__(self) -> "Spool":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
