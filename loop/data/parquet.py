"""The rows of a Parquet file, one at a time. A small file can unfold to more than memory holds: sizes come first."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wizloop.loop.data.containers import MAX_LINE, BadRow, ImportRefused, Numbered

ROWS = 256
"""Rows that are decoded together."""
MAX_GROUP = 2_000_000_000
"""Bytes that one row group may say it holds."""


def records(path: Path) -> Numbered:
    """The rows with their numbers, from 1. Raises ImportRefused for a file that cannot be read."""
    import pyarrow

    try:
        yield from _rows(path)
    except (pyarrow.ArrowException, OSError) as error:
        told = str(error).partition("\n")[0][:200]
        raise ImportRefused(f"{path}: no Parquet that can be read: {told}; fetch the file again") from None


def _rows(path: Path) -> Numbered:
    import pyarrow
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path, memory_map=False, pre_buffer=False) as file:
        _refuse_bombs(path, file.metadata)
        fields = file.schema_arrow
        if doubled := {name for name in fields.names if fields.names.count(name) > 1}:
            raise ImportRefused(f"{path}: the column {min(doubled)!r} is there twice; rename one")
        texts = [field.name for field in fields if pyarrow.types.is_string(field.type)]
    # As dictionaries a text that is repeated a million times is held once.
    with pyarrow.parquet.ParquetFile(path, pre_buffer=False, read_dictionary=texts) as file:
        number = 0
        for batch in file.iter_batches(ROWS, use_threads=False):
            for row in _records(batch):
                number += 1
                yield number, row


def _records(batch: Any) -> Iterator[dict[str, Any] | BadRow]:
    columns = dict(zip(batch.schema.names, batch.columns, strict=True))
    sizes = {name: size for name, column in columns.items() if (size := _sizes(column)) is not None}
    for at in range(batch.num_rows):
        long = next((name for name, size in sizes.items() if (size[at].as_py() or 0) > MAX_LINE), None)
        if long is not None:
            yield BadRow(f"the column {long!r} holds more than {MAX_LINE:,} bytes")
            continue
        try:
            yield {name: column[at].as_py() for name, column in columns.items()}
        except UnicodeDecodeError:
            yield BadRow("a text that is not UTF-8")


def _sizes(column: Any) -> Any:
    """The bytes of each text of a column, where a text of it is too long; None else."""
    import pyarrow.compute
    import pyarrow.types

    dictionary = column.dictionary if pyarrow.types.is_dictionary(column.type) else None
    if dictionary is None or (pyarrow.compute.max(pyarrow.compute.binary_length(dictionary)).as_py() or 0) <= MAX_LINE:
        return None
    return pyarrow.compute.binary_length(dictionary).take(column.indices)


def _refuse_bombs(path: Path, metadata: Any) -> None:
    for number in range(metadata.num_row_groups):
        claimed = metadata.row_group(number).total_byte_size
        if claimed > MAX_GROUP:
            raise ImportRefused(
                f"{path}: row group {number + 1} says that it holds {claimed:,} bytes; write smaller row groups"
            )
