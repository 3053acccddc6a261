"""SQLite's driver, journal mode, pragmas and error codes. Nothing else in the project may open the database file.

A process loses all its POSIX locks on a file when any descriptor of it closes (sqlite.org/howtocorrupt.html, 2.2), so
a plain `open()` of the live database can lose a commit. Other code may only test whether the path exists.
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
_LOCKED, _NO_MEMORY = 6, 7
_NO_SPACE_BYTES = 1 << 20
_MOVED = _READONLY | 4 << 8
_DAMAGED = ("OperationalError", "DatabaseError", "InternalError")
"""What the drivers raise for a file that is not what was written; the others are mistakes of a statement."""
_MOST_PATH = 500
"""Maximum length of the database's path in bytes: SQLite takes 512, with the ends of its own files."""
_PRAGMAS = (
    "synchronous=FULL",
    # Only the controller checkpoints; see Store.checkpoint.
    "wal_autocheckpoint=0",
    "journal_size_limit=67108864",
)


def driver() -> ModuleType:
    """Return the SQLite driver: pysqlite3, which bundles its own SQLite, or else the module of this Python.

    Registers, for the whole process, adapters that bind None and bytes as they are.
    """
    try:
        import pysqlite3.dbapi2 as found
    except ImportError:
        import sqlite3 as found
    # For a type without an adapter the driver raises two exceptions per value: two thirds of an insert's time.
    found.register_adapter(NoneType, {None: None}.get)
    found.register_adapter(bytes, bytes)
    return cast(ModuleType, found)


def workspace_file(folder: Path) -> Path:
    """Return the path of a workspace's database. Raises errors.NoWorkspace if there is none."""
    path = folder / DB_NAME
    refuse_long(folder)
    if not path.is_file():
        raise errors.NoWorkspace(f"there is no workspace in {folder}: create one with `wizloop start`")
    return path


def refuse_long(folder: Path) -> None:
    """Raise errors.NoPlace for a workspace whose path SQLite cannot open."""
    long = len(os.fsencode((folder / DB_NAME).absolute()))
    if long > _MOST_PATH:
        raise errors.NoPlace(
            f"{folder}: the path of a workspace takes at most {_MOST_PATH - len(DB_NAME) - 1} bytes with all its "
            f"folders, and this one has {long - len(DB_NAME) - 1}: choose a shorter one"
        )


def wal_is_safe(version: tuple[int, int, int]) -> bool:
    """Return whether this SQLite is free of the WAL-reset bug (sqlite.org/wal.html, "The WAL-reset bug")."""
    back_ported = {(3, 44): 6, (3, 50): 7}
    least = back_ported.get(version[:2])
    return version >= (3, 51, 3) or (least is not None and version[2] >= least)


def journal_for(version: tuple[int, int, int]) -> tuple[Literal["wal", "delete"], str | None]:
    """Return the journal mode that is safe with this SQLite, and a warning if it is the slower one."""
    if wal_is_safe(version):
        return "wal", None
    number = ".".join(map(str, version))
    return "delete", (
        f"SQLite {number} has a bug that can destroy a database shared by two processes in WAL mode: "
        "wizloop uses the slower rollback journal. Install pysqlite3 0.6.1 or newer to avoid this."
    )


def connect(path: Path, mode: Mode, module: ModuleType, timeout: float = BUSY_SECONDS) -> Any:
    """Open a raw connection in autocommit mode with every pragma set; mode `rwc` does not enforce foreign keys.

    Raises errors.JournalRefused if a writer cannot get the journal mode of `journal_for`.
    """
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    if mode == "ro" and _never_changes(path):
        uri += "&immutable=1"
    with translated_errors(path, module):
        raw = module.connect(uri, uri=True, timeout=timeout, isolation_level=None, check_same_thread=False)
        return _set_up(raw, path, mode, module)


def _set_up(raw: Any, path: Path, mode: Mode, module: ModuleType) -> Any:
    """Set every pragma of a new connection, which is closed if that fails."""
    try:
        for pragma in _PRAGMAS:
            raw.execute(f"PRAGMA {pragma}")
        # Creating and upgrading a workspace may rewrite a table that others refer to.
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
    """Return whether this is a copy in a read-only folder, where a reader cannot create the index that a log needs."""
    return not os.access(path.parent, os.W_OK) and not path.with_name(path.name + "-wal").exists()


def _set_journal(raw: Any, path: Path, wanted: str) -> None:
    (found,) = raw.execute("PRAGMA journal_mode").fetchone()
    if found != wanted:
        # Changing the mode needs exclusive access, and SQLite does not wait for it: taking a write lock does.
        raw.execute("BEGIN IMMEDIATE")
        raw.execute("ROLLBACK")
        (found,) = raw.execute(f"PRAGMA journal_mode={wanted}").fetchone()
    if found != wanted:
        raise errors.JournalRefused(
            f"{path} stays in journal mode {found}, but {wanted} is needed: close every other wizloop on it"
        )


def known_error(cause: BaseException, path: Path) -> errors.StoreError | None:
    """Translate a driver's error on `path` into one that a user can act on, or None."""
    extended = getattr(cause, "sqlite_errorcode", 0)
    code = extended & 0xFF
    if code == _FULL or (code == _IOERR and path.parent.exists() and _is_full(path.parent)):
        return errors.DiskFull(f"the disk of {path.parent} is full: free some space, then resume the run")
    if extended == _MOVED or (code in (_CANTOPEN, _IOERR, _READONLY) and not path.exists()):
        return errors.Damaged(f"{path} was removed or replaced: put it back, or restore a backup")
    if code == _BUSY:
        return errors.Busy(f"another process has locked {path} for too long: try again")
    if code in (_READONLY, _CANTOPEN) and not (os.access(path.parent, os.W_OK) and os.access(path, os.W_OK)):
        return errors.ReadOnly(f"{path.parent} is not writable ({cause}): nothing was saved; check its permissions")
    unreadable = code not in (_READONLY, _LOCKED, _NO_MEMORY) and type(cause).__name__ in _DAMAGED
    if code in (_CORRUPT, _NOTADB) or unreadable or isinstance(cause, UnicodeDecodeError):
        return errors.Damaged(f"{path} cannot be read ({cause}): restore a backup")
    return None


def _is_full(folder: Path) -> bool:
    return shutil.disk_usage(folder).free < _NO_SPACE_BYTES


@contextmanager
def translated_errors(path: Path, module: ModuleType) -> Iterator[None]:
    """Replace the driver's errors by those of `known_error`."""
    try:
        yield
    except (module.Error, UnicodeDecodeError) as error:
        known = known_error(error, path)
        if known is None:
            raise
        raise known from error


def _run_alone(raw: Any, path: Path, module: ModuleType, statement: str, *values: str) -> Any:
    """Run one statement outside any transaction, and close the connection."""
    with closing(raw), translated_errors(path, module):
        return raw.execute(statement, values).fetchone()


def checkpoint(path: Path, module: ModuleType) -> bool:
    """Merge the write-ahead log into the database and empty it; return False if a reader prevented it for 2 s."""
    raw = connect(path, "rw", module, timeout=2.0)
    return not _run_alone(raw, path, module, "PRAGMA wal_checkpoint(TRUNCATE)")[0]


def backup(path: Path, to: Path, module: ModuleType) -> None:
    """Write a complete, compact copy to `to` while others read and write; `to` appears only once it is complete."""
    aside = to.with_name(to.name + ".part")
    aside.unlink(missing_ok=True)
    raw = connect(path, "ro", module)
    raw.execute("PRAGMA query_only=OFF")
    _run_alone(raw, to, module, "VACUUM INTO ?", str(aside))
    aside.replace(to)
