"""SQLAlchemy over the seam to SQLite: engines, and the statements that are worded for one database."""

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from sqlalchemy import Connection, Engine, ExceptionContext, QueuePool, Table, create_engine, event
from sqlalchemy.dialects.sqlite import Insert, insert

from wizloop.store import errors
from wizloop.store.sqlite import Mode, connect, known_error


def sqlite_engine(path: Path, mode: Mode, module: ModuleType) -> Engine:
    """An engine that begins IMMEDIATE, so that read-then-write loses no update, or deferred for a reader."""
    engine = create_engine(
        "sqlite://", module=module, creator=lambda: connect(path, mode, module), poolclass=QueuePool, max_overflow=30
    )
    begin = "BEGIN" if mode == "ro" else "BEGIN IMMEDIATE"
    event.listen(engine, "begin", lambda db: db.exec_driver_sql(begin))
    event.listen(engine, "commit", _still_in_transaction)
    event.listen(engine, "handle_error", _translator(path))
    return engine


def _still_in_transaction(db: Connection) -> None:
    # After SQLITE_FULL or SQLITE_IOERR SQLite has rolled back by itself; statements after it would commit one by one.
    raw = cast(Any, db.connection.driver_connection)
    if not raw.in_transaction:
        raise errors.RolledBack


def _translator(path: Path) -> Callable[[ExceptionContext], None]:
    def translate(context: ExceptionContext) -> None:
        known = known_error(context.original_exception, path)
        if known is not None:
            raise known from context.original_exception

    return translate


def insert_new(
    db: Connection, table: Table, names: Sequence[str], rows: Sequence[tuple[Any, ...]], now: datetime
) -> int:
    """Insert the rows that no unique constraint keeps out; how many. The last of `names` is the time, which is `now`.

    Values stand as SQLite keeps them: digests are bytes. SQLite is handed the tuples as they are, since Core's own
    executemany makes dictionaries of them and takes twice as long.
    """
    if db.dialect.name != "sqlite":
        made = [dict(zip(names, (*row, now), strict=True)) for row in rows]
        return int(db.execute(upsert(db, table).on_conflict_do_nothing(), made).rowcount)
    stamp = table.c[names[-1]].type.dialect_impl(db.dialect).bind_processor(db.dialect)
    assert stamp is not None
    places = ", ".join("?" * (len(names) - 1))
    # The time stands in the statement: digits and no text from outside, and no new tuple for each row.
    statement = (
        f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({places}, '{stamp(now)}') ON CONFLICT DO NOTHING"
    )
    return int(db.exec_driver_sql(statement, list(rows)).rowcount)


def reads_past_ddl(db: Connection) -> bool:
    """Whether others go on reading a table while an index of it is dropped and made anew in an open transaction."""
    return db.dialect.name == "sqlite"


def keep_schema_in_cache(db: Connection) -> None:
    """Look at the schema, so that its pages are not among those that leave a full cache for the log.

    One that was changed, has left and is changed again makes SQLite sum the whole log up once more when it commits.
    """
    db.exec_driver_sql("SELECT count(*) FROM sqlite_master WHERE name = ''")


def upsert(db: Connection | str, table: Table) -> Insert:
    """An INSERT that takes an ON CONFLICT clause, in the words of the database in use, or of the one that is named."""
    if (db if isinstance(db, str) else db.dialect.name) == "postgresql":
        from sqlalchemy.dialects import postgresql

        return cast(Insert, postgresql.insert(table))
    return insert(table)
