"""The one seam to SQLite: driver, journal, pragmas, error codes. Nothing else in the project may open the database.

A process loses all its POSIX locks on a file when any descriptor of it closes (sqlite.org/howtocorrupt.html, 2.2), so
that a plain `open()` of the live database can lose a commit. Paths may be tested for being there, and no more.
"""

import os
import shutil
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from types import ModuleType, NoneType
from typing import Any, Literal, cast

from sqlalchemy import Connection, Engine, ExceptionContext, QueuePool, Table, create_engine, event
from sqlalchemy.dialects import sqlite

from wizloop.store import errors

DB_NAME = "wizloop.db"
BUSY_SECONDS = 30.0
Mode = Literal["ro", "rw", "rwc"]

_FULL, _IOERR, _BUSY, _CORRUPT, _NOTADB, _READONLY, _CANTOPEN = 13, 10, 5, 11, 26, 8, 14
_NO_SPACE_BYTES = 1 << 20
_PRAGMAS = (
    "synchronous=FULL",
    # Checkpoints are the controller's alone; see Store.checkpoint.
    "wal_autocheckpoint=0",
    "journal_size_limit=67108864",
)


def driver() -> ModuleType:
    """The SQLite driver: pysqlite3, which brings a SQLite of its own, or else the one of the Python in use.

    It is told, for the whole process, that None and bytes are bound as they are.
    """
    try:
        import pysqlite3.dbapi2 as found
    except ImportError:
        import sqlite3 as found
    # Of a type that has no adapter it makes and drops two errors at each value: two thirds of an insert's time.
    found.register_adapter(NoneType, {None: None}.get)
    found.register_adapter(bytes, bytes)
    return cast(ModuleType, found)


def wal_is_safe(version: tuple[int, int, int]) -> bool:
    """Whether this SQLite is free of the WAL-reset bug (sqlite.org/wal.html, "The WAL-reset bug")."""
    back_ported = {(3, 44): 6, (3, 50): 7}
    least = back_ported.get(version[:2])
    return version >= (3, 51, 3) or (least is not None and version[2] >= least)


def journal_for(version: tuple[int, int, int]) -> tuple[Literal["wal", "delete"], str | None]:
    """The journal mode that is safe with this SQLite, and what to tell the person where it is the slower one."""
    if wal_is_safe(version):
        return "wal", None
    number = ".".join(map(str, version))
    return "delete", (
        f"SQLite {number} has a bug that can destroy a database shared by two processes in WAL mode: "
        "wizloop uses the slower rollback journal. Install pysqlite3 0.6.1 or newer to be rid of this."
    )


def connect(path: Path, mode: Mode, module: ModuleType, timeout: float = BUSY_SECONDS) -> Any:
    """A raw connection in autocommit mode with every pragma set; references are not enforced in mode `rwc`.

    Raises errors.JournalRefused when a writer does not get the journal mode that `journal_for` names.
    """
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    if mode == "ro" and _never_changes(path):
        uri += "&immutable=1"
    raw = module.connect(uri, uri=True, timeout=timeout, isolation_level=None, check_same_thread=False)
    try:
        for pragma in _PRAGMAS:
            raw.execute(f"PRAGMA {pragma}")
        # What makes a workspace and brings it up to date may write a table anew to which others refer.
        raw.execute(f"PRAGMA foreign_keys={'OFF' if mode == 'rwc' else 'ON'}")
        if mode == "ro":
            raw.execute("PRAGMA query_only=ON")
        else:
            # Hashes arrive in random order: with the default 2 MB each insert would read its index page again.
            raw.execute("PRAGMA cache_size=-65536")
            _set_journal(raw, path, journal_for(module.sqlite_version_info)[0])
    except BaseException:
        raw.close()
        raise
    return raw


def _never_changes(path: Path) -> bool:
    """Whether this is a copy in a folder that takes no file: a reader could not make the index that a log needs."""
    return not os.access(path.parent, os.W_OK) and not path.with_name(path.name + "-wal").exists()


def _set_journal(raw: Any, path: Path, wanted: str) -> None:
    (found,) = raw.execute("PRAGMA journal_mode").fetchone()
    if found != wanted:
        # Changing the mode needs the file for oneself, and SQLite does not wait for that by itself: a write lock does.
        raw.execute("BEGIN IMMEDIATE")
        raw.execute("ROLLBACK")
        (found,) = raw.execute(f"PRAGMA journal_mode={wanted}").fetchone()
    if found != wanted:
        raise errors.JournalRefused(
            f"{path} stays in journal mode {found} where {wanted} is needed: close every other wizloop on it"
        )


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
        known = _known_error(context.original_exception, path)
        if known is not None:
            raise known from context.original_exception

    return translate


def _known_error(cause: BaseException, path: Path) -> errors.StoreError | None:
    """What an error of the driver means for `path`, where it means something that a person can act on."""
    code = getattr(cause, "sqlite_errorcode", 0) & 0xFF
    if code == _FULL or (code == _IOERR and shutil.disk_usage(path.parent).free < _NO_SPACE_BYTES):
        return errors.DiskFull(f"the disk that holds {path.parent} is full: make space there, and the run can go on")
    if code == _BUSY:
        return errors.Busy(f"another process has been using {path} for too long: try again")
    if code in (_READONLY, _CANTOPEN) and not (os.access(path.parent, os.W_OK) and os.access(path, os.W_OK)):
        return errors.ReadOnly(f"{path.parent} cannot be written to ({cause}): nothing was kept; see its permissions")
    if code in (_CORRUPT, _NOTADB):
        return errors.Damaged(f"{path} cannot be read ({cause}): put a backup in its place")
    return None


def _run_alone(raw: Any, path: Path, module: ModuleType, statement: str, *values: str) -> Any:
    """Run one statement outside any transaction, on a connection that is closed afterwards."""
    try:
        return raw.execute(statement, values).fetchone()
    except module.Error as error:
        known = _known_error(error, path)
        if known is None:
            raise
        raise known from error
    finally:
        raw.close()


def checkpoint(path: Path, module: ModuleType) -> bool:
    """Move the write-ahead log into the database and empty it; False when a reader was in the way for 2 s."""
    raw = connect(path, "rw", module, timeout=2.0)
    return not _run_alone(raw, path, module, "PRAGMA wal_checkpoint(TRUNCATE)")[0]


def backup(path: Path, to: Path, module: ModuleType) -> None:
    """Write a whole, compact copy to `to` while others read and write; `to` is there only once it is complete."""
    aside = to.with_name(to.name + ".part")
    aside.unlink(missing_ok=True)
    raw = connect(path, "ro", module)
    raw.execute("PRAGMA query_only=OFF")
    _run_alone(raw, to, module, "VACUUM INTO ?", str(aside))
    aside.replace(to)


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


def upsert(db: Connection | str, table: Table) -> sqlite.Insert:
    """An INSERT that takes an ON CONFLICT clause, in the words of the database in use, or of the one that is named."""
    if (db if isinstance(db, str) else db.dialect.name) == "postgresql":
        from sqlalchemy.dialects import postgresql

        return cast(sqlite.Insert, postgresql.insert(table))
    return sqlite.insert(table)
