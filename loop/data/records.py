"""Raw records of a file, and the errors that refuse one record or the whole file."""

from collections.abc import Iterator, Mapping
from typing import Any

MAX_CELL = 16_000_000
"""Characters in one line or one cell. A sample's text is far shorter."""

Record = Mapping[str, Any]
"""One row of a file, by column."""
NumberedRecords = Iterator[tuple[int, "Record | RowRefused"]]
"""Row numbers from 1, each with its record or the reason to refuse it."""


class ImportRefused(ValueError):
    """A file or an import option cannot be used; the message names it and says what to do."""


class RowRefused(ValueError):
    """One row cannot be imported; the message is the reason."""

    bad = False
    """True if the row is malformed, False if it is merely unusable."""


class BadRow(RowRefused):
    """One row is malformed: bytes, syntax, columns or size."""

    bad = True
