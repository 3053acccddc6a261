"""Rows to dataclasses and back, for the query modules: a dataclass's fields name the columns that are read."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any, TypeVar

from sqlalchemy import Column, Connection, Select, Table
from sqlalchemy.dialects.sqlite import insert

T = TypeVar("T")


def columns(table: Table, kind: type[Any]) -> list[Column[Any]]:
    """Return the columns of `table` that are fields of the dataclass `kind`, in its order."""
    return [table.c[field.name] for field in fields(kind)]


def every(db: Connection, kind: type[T], query: Select[Any]) -> list[T]:
    """Return all rows of a query over `columns(table, kind)`."""
    return [kind(*row) for row in db.execute(query)]


def first(db: Connection, kind: type[T], query: Select[Any]) -> T | None:
    """Return the first row, or None."""
    row = db.execute(query).first()
    return None if row is None else kind(*row)


def by_ids(db: Connection, kind: type[T], query: Select[Any], column: Column[Any], ids: Sequence[int]) -> list[T]:
    """Return the rows of a query, ordered by `column`, whose `column` is one of `ids`."""
    found: list[T] = []
    for piece in pieces(sorted(set(ids))):
        found += every(db, kind, query.where(column.in_(piece)))
    return found


def counted(db: Connection, query: Select[Any]) -> dict[str, int]:
    """Return a query of names and numbers as a dictionary, in its order."""
    return {str(name): int(n) for name, n in db.execute(query)}


def values(row: Any) -> dict[str, Any]:
    """Return the fields of a dataclass instance, as an insert takes them."""
    return {field.name: getattr(row, field.name) for field in fields(row)}


def add_missing(db: Connection, table: Table, new: Sequence[Mapping[str, Any]]) -> int:
    """Insert rows, except those that a unique key excludes; return how many were inserted."""
    return int(db.execute(insert(table).on_conflict_do_nothing(), new).rowcount) if new else 0


def put(db: Connection, table: Table, key: Mapping[str, Any], changed: Mapping[str, Any]) -> None:
    """Insert a row, or change the one that has this unique key."""
    new = insert(table).values(**key, **changed)
    db.execute(new.on_conflict_do_update(index_elements=list(key), set_=changed))


def pieces(items: Sequence[T], size: int = 1000) -> Iterator[Sequence[T]]:
    """Split `items` into chunks of at most `size`: a statement takes a limited number of parameters."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
