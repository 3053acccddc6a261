"""Rows into dataclasses and back, for the question modules. A dataclass's fields are the columns that are read."""

from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Any, TypeVar

from sqlalchemy import Column, Connection, Select, Table

T = TypeVar("T")


def columns(table: Table, kind: type[Any]) -> list[Column[Any]]:
    """The columns of `table` that the dataclass `kind` names, in its order."""
    return [table.c[field.name] for field in fields(kind)]


def every(db: Connection, kind: type[T], query: Select[Any]) -> list[T]:
    """All rows of a query over `columns(table, kind)`."""
    return [kind(*row) for row in db.execute(query)]


def first(db: Connection, kind: type[T], query: Select[Any]) -> T | None:
    """The first row, or None."""
    row = db.execute(query).first()
    return None if row is None else kind(*row)


def counted(db: Connection, query: Select[Any]) -> dict[str, int]:
    """A query of names and numbers as a dictionary, in its order."""
    return {str(name): int(n) for name, n in db.execute(query)}


def values(row: Any) -> dict[str, Any]:
    """The fields of one dataclass instance, as an insert takes them."""
    return {field.name: getattr(row, field.name) for field in fields(row)}


def pieces(items: Sequence[T], size: int = 1000) -> Iterator[Sequence[T]]:
    """`items` in runs of at most `size`: a statement takes only so many parameters."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
