"""The one seam to SQLite: driver, journal, pragmas, error codes. Nothing else in the project may open the database.

A process loses all its POSIX locks on a file when any descriptor of it closes (sqlite.org/howtocorrupt.html, 2.2), so
that a plain `open()` of the live database can lose a commit. Paths may be tested for being there, and no more.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import ModuleType, NoneType
from typing import Any, Literal, cast

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


def workspace_file(folder: Path) -> Path:
    """The database of the workspace in `folder`. Raises errors.NoWorkspace where there is none."""
    path = folder / DB_NAME
    if not path.is_file():
        raise errors.NoWorkspace(f"there is no workspace in {folder}: `wizloop start` makes one")
    return path


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


def known_error(cause: BaseException, path: Path) -> errors.StoreError | None:
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


@contextmanager
def in_our_words(path: Path, module: ModuleType) -> Iterator[None]:
    """Raise what `known_error` knows in the place of the driver's errors."""
    try:
        yield
    except module.Error as error:
        known = known_error(error, path)
        if known is None:
            raise
        raise known from error


def _run_alone(raw: Any, path: Path, module: ModuleType, statement: str, *values: str) -> Any:
    """Run one statement outside any transaction, on a connection that is closed afterwards."""
    with closing(raw), in_our_words(path, module):
        return raw.execute(statement, values).fetchone()


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
