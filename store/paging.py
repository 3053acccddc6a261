"""What long tables on a screen read: pages by key, in both directions, and the heads of long texts.

The questions are in the modules beside.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Dialect, LargeBinary, Select, cast, func, type_coerce
from sqlalchemy.types import TypeDecorator


@dataclass(frozen=True, slots=True)
class Page:
    """Which rows: `limit` of them after `key`, or the last before it where `back` is set; None is the end there."""

    limit: int
    key: int | None = None
    back: bool = False


def paged(db: Connection, query: Select[Any], column: Any, page: Page) -> list[tuple[Any, ...]]:
    """The rows of one page, always with `column` rising."""
    if page.key is not None:
        query = query.where(column < page.key if page.back else column > page.key)
    found = db.execute(query.order_by(column.desc() if page.back else column).limit(page.limit)).all()
    return [tuple(row) for row in (found[::-1] if page.back else found)]


class _Head(TypeDecorator[str]):
    """UTF-8, perhaps cut within a character, as text."""

    impl = LargeBinary
    cache_ok = True

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> str | None:
        return None if value is None else bytes(value).decode("utf-8", "ignore")


def head(column: Any, most: int) -> ColumnElement[str]:
    """The first so many bytes of a text, under the column's name: a row may hold megabytes.

    As bytes, because SQLite ends a text at its first NUL, behind which something could hide.
    """
    return type_coerce(func.substr(cast(column, LargeBinary), 1, most), _Head).label(column.name)


def contains(column: Any, text: str) -> Any:
    """That a column holds the text, capitals or not (of ASCII), before its first NUL; `%` and `_` mean themselves."""
    return column.icontains(text, autoescape=True)
