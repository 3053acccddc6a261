"""What happened in the night, in sentences; append only. For people: no part of the program reads them to decide."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, or_, select

from wizloop.store import paging, rows, tables
from wizloop.store.paging import Page


@dataclass(frozen=True, slots=True)
class Event:
    """One sentence of the log."""

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
    """Which events; None and "" let everything pass."""

    text: str = ""
    level: str | None = None
    """info, warn or error."""
    phase: str | None = None
    round: int | None = None


REPORTS = 8
"""So many of the newest are listed."""
_EVENT = rows.columns(tables.events, Event)


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
    """Write one event down."""
    values = {"at": now, "level": level, "phase": phase, "round": round, "message": message, "data_json": data_json}
    db.execute(tables.events.insert().values(**values))


def page(db: Connection, after_id: int, limit: int) -> list[Event]:
    """The next events in order: pass the last id of one page for the next one, 0 at first."""
    table = tables.events
    return rows.every(db, Event, select(*_EVENT).where(table.c.id > after_id).order_by(table.c.id).limit(limit))


def last(db: Connection, n: int) -> list[Event]:
    """The last n events, oldest first."""
    newest = rows.every(db, Event, select(*_EVENT).order_by(tables.events.c.id.desc()).limit(n))
    return newest[::-1]


def reports(db: Connection, round: int | None) -> list[Event]:
    """Evaluations that left a report, newest first: those of a round's model, and those of no round's.

    `data_json` holds the report's folder as `report`.
    """
    table = tables.events
    query = select(*_EVENT).where(table.c.data_json.is_not(None), table.c.phase == "evaluate")
    query = query.where(func.json_extract(table.c.data_json, "$.report").is_not(None))
    query = query.where(or_(table.c.round == round, table.c.round.is_(None)))
    return rows.every(db, Event, query.order_by(table.c.id.desc()).limit(REPORTS))


def lines(db: Connection, wanted: EventFilter, page: Page) -> list[Event]:
    """One page of the events that a filter lets pass, in order."""
    table = tables.events
    query = select(*_EVENT)
    if wanted.text:
        query = query.where(paging.contains(table.c.message, wanted.text))
    for column, value in ((table.c.level, wanted.level), (table.c.phase, wanted.phase), (table.c.round, wanted.round)):
        if value is not None:
            query = query.where(column == value)
    return [Event(*row) for row in paging.paged(db, query, table.c.id, page)]
