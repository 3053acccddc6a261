"""The event log, in sentences, append only. For people: the program never reads it to decide."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, or_, select

from wizloop.store import paging, rows, tables
from wizloop.store.paging import Page


@dataclass(frozen=True, slots=True)
class Event:
    """One entry of the log."""

    id: int
    at: datetime
    level: str
    """info, warn or error."""
    phase: str | None
    round: int | None
    message: str
    data_json: str | None


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Filter of events; None and "" match everything."""

    text: str = ""
    level: str | None = None
    """info, warn or error."""
    phase: str | None = None
    round: int | None = None


MAX_REPORTS = 8
"""Limit of `reports`."""
_EVENTS = select(*rows.columns(tables.events, Event))


def add(
    db: Connection,
    *,
    level: str,
    message: str,
    now: datetime,
    phase: str | None = None,
    round: int | None = None,
    data_json: str | None = None,
) -> None:
    """Append an event."""
    values = {"at": now, "level": level, "phase": phase, "round": round, "message": message, "data_json": data_json}
    db.execute(tables.events.insert().values(**values))


def page(db: Connection, after_id: int, limit: int) -> list[Event]:
    """Return the next events after an id (0 at first), in order."""
    return lines(db, EventFilter(), Page(limit, after_id))


def last(db: Connection, n: int) -> list[Event]:
    """Return the last n events, oldest first."""
    return lines(db, EventFilter(), Page(n, back=True))


def lines(db: Connection, wanted: EventFilter, page: Page) -> list[Event]:
    """Return one page of the events that match a filter, oldest first."""
    table = tables.events
    columns = ((table.c.level, wanted.level), (table.c.phase, wanted.phase), (table.c.round, wanted.round))
    query = _EVENTS.where(*paging.contains([table.c.message], wanted.text), *paging.equal(*columns))
    return [Event(*row) for row in paging.paged(db, query, table.c.id, page)]


def reports(db: Connection, round: int | None) -> list[Event]:
    """Return the evaluations that wrote a report on a round's model or on a model of no round, newest first.

    `data_json` holds the report's folder as `report`.
    """
    table = tables.events
    query = _EVENTS.where(table.c.data_json.is_not(None), table.c.phase == "evaluate")
    query = query.where(func.json_extract(table.c.data_json, "$.report").is_not(None))
    query = query.where(or_(table.c.round == round, table.c.round.is_(None)))
    return rows.every(db, Event, query.order_by(table.c.id.desc()).limit(MAX_REPORTS))


def speeds(db: Connection, round: int) -> dict[str, Any]:
    """Return what phase evaluate of a round measured last by a clock: `speed` and `linear_speed`, as far as it did."""
    table, found = tables.events, dict[str, Any]()
    query = select(table.c.data_json).where(table.c.round == round, table.c.phase == "evaluate")
    for text in db.scalars(query.where(table.c.data_json.contains('speed"')).order_by(table.c.id)):
        data = json.loads(text)
        found |= {name: data[name] for name in ("speed", "linear_speed") if name in data}
    return found
