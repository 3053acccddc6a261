"""Rows that wait on disk between being checked and being written, so that neither memory nor the writer holds them.

The file is private, unlinked as soon as it is open, and gone with its process, however that ends.
"""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from wizloop.store import engine, errors

FETCHED = 1000


class Spool:
    """Rows of one width, in the order in which they were put. Values are text, bytes, numbers or None."""

    def __init__(self, width: int) -> None:
        module = engine.driver()
        self._errors = module.Error
        with tempfile.TemporaryDirectory(prefix="wizloop-") as folder:
            self._raw = module.connect(str(Path(folder) / "rows"), isolation_level=None)
            for pragma in ("journal_mode=OFF", "synchronous=OFF", "locking_mode=EXCLUSIVE", "page_size=16384"):
                self._raw.execute(f"PRAGMA {pragma}")
            self._raw.execute(f"CREATE TABLE rows ({', '.join(f'c{at}' for at in range(width))})")
        self._put = f"INSERT INTO rows VALUES ({', '.join('?' * width)})"
        self._raw.execute("BEGIN")
        self.count = 0

    def put(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Add rows at the end. Raises errors.DiskFull, errors.BadText."""
        try:
            self._raw.executemany(self._put, rows)
        except UnicodeEncodeError as error:
            raise errors.BadText(f"a text is not valid Unicode ({error.reason})") from error
        except self._errors as error:
            raise errors.DiskFull(
                f"the rows that were read do not fit into {tempfile.gettempdir()} ({error}): make room there, or name "
                "another folder in TMPDIR"
            ) from error
        self.count += len(rows)

    def pieces(self, size: int = FETCHED) -> Iterator[list[tuple[Any, ...]]]:
        """All rows in order, `size` at a time; may be asked for again."""
        found = self._raw.execute("SELECT * FROM rows ORDER BY rowid")
        while piece := found.fetchmany(size):
            yield piece

    def close(self) -> None:
        """Let the rows go."""
        self._raw.close()

    def __enter__(self) -> "Spool":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
