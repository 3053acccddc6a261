"""Pages by key, in both directions: what a long table on a screen reads. The questions are in the modules beside."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select


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


def contains(column: Any, text: str) -> Any:
    """That a column holds the text, capitals or not (of ASCII); `%` and `_` stand for themselves."""
    return column.icontains(text, autoescape=True)
