"""Query parts for long tables on a screen: pages by key in both directions, truncated texts, and filter conditions."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Dialect, LargeBinary, Select, cast, func, or_, select, type_coerce
from sqlalchemy.types import TypeDecorator


@dataclass(frozen=True, slots=True)
class Page:
    """`limit` rows after `key`, or with `back` the last ones before it; None starts from that end of the table."""

    limit: int
    key: int | None = None
    back: bool = False


def paged(db: Connection, query: Select[Any], column: Any, page: Page) -> list[tuple[Any, ...]]:
    """Return the rows of one page, in ascending order of `column`."""
    if page.key is not None:
        query = query.where(column < page.key if page.back else column > page.key)
    found = db.execute(query.order_by(column.desc() if page.back else column).limit(page.limit)).all()
    return [tuple(row) for row in (found[::-1] if page.back else found)]


class _Head(TypeDecorator[str]):
    """UTF-8 bytes, possibly cut within a character, read as text."""

    impl = LargeBinary
    cache_ok = True

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> str | None:
        return None if value is None else bytes(value).decode("utf-8", "ignore")


def head(column: Any, size: int) -> ColumnElement[str]:
    """Select the first `size` bytes of a text, under the column's name: a row may hold megabytes.

    Cuts bytes, not characters, because SQLite ends a text at its first NUL, which could hide the rest.
    """
    return type_coerce(func.substr(cast(column, LargeBinary), 1, size), _Head).label(column.name)


def contains(columns: Iterable[Any], text: str) -> list[ColumnElement[bool]]:
    """Require `text` in one of the columns; no condition if it is empty.

    Ignores the case of ASCII letters, takes `%` and `_` literally, and searches up to a column's first NUL.
    """
    return [or_(*(column.icontains(text, autoescape=True) for column in columns))] if text else []


def equal(*pairs: tuple[Any, Any]) -> list[ColumnElement[bool]]:
    """Require each column to have its value; a value of None sets no condition."""
    return [column == value for column, value in pairs if value is not None]


def has_label(column: Any, label: str | None) -> list[ColumnElement[bool]]:
    """Require a verdict, a JSON object of labels by task, to have this label; None sets no condition."""
    if label is None:
        return []
    labels = func.json_each(column).table_valued("value", name="labels")
    return [select(labels.c.value).where(labels.c.value == label).exists()]
