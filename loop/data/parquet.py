"""Read the rows of a Parquet file one at a time. A small file can expand beyond memory, so sizes are checked first.

Class numbers become the names that the file's own metadata give them.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from wizloop.loop.data import class_names
from wizloop.loop.data.records import MAX_CELL, BadRow, ImportRefused, NumberedRecords

BATCH_ROWS = 256
"""Rows decoded together."""
MAX_GROUP = 2_000_000_000
"""Bytes that one row group may claim."""


def read_records(path: Path) -> NumberedRecords:
    """Yield the rows with their numbers, from 1. Raises ImportRefused if the file cannot be read."""
    import pyarrow

    try:
        yield from _rows(path)
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).partition("\n")[0][:200]
        raise ImportRefused(f"{path}: cannot be read as Parquet: {reason}; fetch the file again") from None


def _rows(path: Path) -> NumberedRecords:
    import pyarrow
    import pyarrow.parquet

    # As bytes: pyarrow reads no name that is not UTF-8.
    name = os.fsencode(path)
    with pyarrow.OSFile(name) as binary, pyarrow.parquet.ParquetFile(binary, pre_buffer=False) as file:
        _refuse_bombs(path, file.metadata)
        schema = file.schema_arrow
        if repeated := {name for name in schema.names if schema.names.count(name) > 1}:
            raise ImportRefused(f"{path}: the column {min(repeated)!r} occurs twice; rename one")
        named = class_names.of_metadata(schema.metadata)
        texts = [field.name for field in schema if pyarrow.types.is_string(field.type)]
    # As dictionaries: a text that a million rows repeat is in memory once.
    with (
        pyarrow.OSFile(name) as binary,
        pyarrow.parquet.ParquetFile(binary, pre_buffer=False, read_dictionary=texts) as file,
    ):
        batches = file.iter_batches(BATCH_ROWS, use_threads=False)
        yield from enumerate((row for batch in batches for row in _records(batch, named)), start=1)


def _records(batch: Any, named: Mapping[str, class_names.Named]) -> Iterator[dict[str, Any] | BadRow]:
    columns = dict(zip(batch.schema.names, batch.columns, strict=True))
    sizes = {name: size for name, column in columns.items() if (size := _sizes(column)) is not None}
    for at in range(batch.num_rows):
        long = next((name for name, size in sizes.items() if (size[at].as_py() or 0) > MAX_CELL), None)
        if long is not None:
            yield BadRow(f"the column {long!r} holds more than {MAX_CELL:,} bytes")
            continue
        try:
            row = {name: column[at].as_py() for name, column in columns.items()}
            yield class_names.applied(row, named) if named else row
        except UnicodeDecodeError:
            yield BadRow("a text that is not UTF-8")


def _sizes(column: Any) -> Any:
    """Return the bytes of each text of a column if one of them is too long, else None."""
    import pyarrow.compute
    import pyarrow.types

    dictionary = column.dictionary if pyarrow.types.is_dictionary(column.type) else None
    if dictionary is None or (pyarrow.compute.max(pyarrow.compute.binary_length(dictionary)).as_py() or 0) <= MAX_CELL:
        return None
    return pyarrow.compute.binary_length(dictionary).take(column.indices)


def _refuse_bombs(path: Path, metadata: Any) -> None:
    for number in range(metadata.num_row_groups):
        claimed = metadata.row_group(number).total_byte_size
        if claimed > MAX_GROUP:
            raise ImportRefused(f"{path}: row group {number + 1} claims {claimed:,} bytes; write smaller row groups")
