"""SQLAlchemy engines on SQLite, and two statements that bypass SQLAlchemy for speed."""

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from sqlalchemy import Connection, Engine, ExceptionContext, QueuePool, Table, create_engine, event

from wizloop.store import errors
from wizloop.store.sqlite import Mode, connect, known_error


def sqlite_engine(path: Path, mode: Mode, module: ModuleType) -> Engine:
    """Build an engine whose writes begin IMMEDIATE, so that read-then-write loses no update, and whose reads do not."""
    # An error must not print the texts of rows: its traceback may be passed on.
    engine = create_engine(
        "sqlite://",
        module=module,
        creator=lambda: connect(path, mode, module),
        poolclass=QueuePool,
        max_overflow=30,
        hide_parameters=True,
    )
    begin = "BEGIN" if mode == "ro" else "BEGIN IMMEDIATE"
    event.listen(engine, "begin", lambda db: db.exec_driver_sql(begin))
    event.listen(engine, "commit", _still_in_transaction)
    event.listen(engine, "handle_error", partial(_translate, path))
    return engine


def _still_in_transaction(db: Connection) -> None:
    # After SQLITE_FULL or SQLITE_IOERR SQLite rolls back by itself; later statements would commit one by one.
    raw = cast(Any, db.connection.driver_connection)
    if not raw.in_transaction:
        raise errors.RolledBack


def _translate(path: Path, context: ExceptionContext) -> None:
    known = known_error(context.original_exception, path)
    if known is not None:
        raise known from context.original_exception


def insert_tuples(
    db: Connection, table: Table, names: Sequence[str], rows: Sequence[tuple[Any, ...]], now: datetime
) -> int:
    """Insert the rows that no unique key excludes, and return how many. The last of `names` gets the time `now`.

    Values are passed to SQLite as they are (digests as bytes), because Core's own executemany makes dictionaries of
    them and takes twice as long.
    """
    stamp = table.c[names[-1]].type.dialect_impl(db.dialect).bind_processor(db.dialect)
    assert stamp is not None
    places = ", ".join("?" * (len(names) - 1))
    # The time is a literal, which is safe (digits only) and saves a new tuple for each row.
    statement = (
        f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({places}, '{stamp(now)}') ON CONFLICT DO NOTHING"
    )
    return int(db.exec_driver_sql(statement, list(rows)).rowcount)


def keep_schema_in_cache(db: Connection) -> None:
    """Read the schema, so that its pages are not spilled from a full cache into the log.

    If a changed page is spilled and changed again, SQLite checksums the whole log again at the commit.
    """
    db.exec_driver_sql("SELECT count(*) FROM sqlite_master WHERE name = ''")
