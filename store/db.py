"""The store of one workspace: opening it, read and write transactions. Queries are in the other modules."""

from collections.abc import Iterator
from contextlib import contextmanager
from json import JSONDecodeError
from pathlib import Path
from types import ModuleType, TracebackType

from sqlalchemy import Connection, Engine, select

from wizloop.store import engine, errors, migrations, sqlite, versions
from wizloop.store.tables import controller

__all__ = ["Connection", "Store", "make_folder"]


def make_folder(folder: Path) -> None:
    """Create a workspace's folder if it does not exist. Raises errors.NoPlace."""
    sqlite.refuse_long(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        why = "it is a file" if folder.is_file() else error.strerror
        raise errors.NoPlace(f"cannot create a workspace in {folder} ({why}): choose another folder") from error


class Store:
    """One workspace's database, for one process (never across a fork). Construct it with `create` or `open`.

    Keep transactions short: a write blocks other writers, and a read keeps the log from being truncated. A loop of
    writes leaves a few milliseconds between transactions, because SQLite does not queue writers fairly.
    """

    def __init__(self, folder: Path, writable: bool, generation: int | None, driver: ModuleType) -> None:
        self.folder = folder
        self._path = folder / sqlite.DB_NAME
        self._driver = driver
        self._generation = generation
        self._reader = engine.sqlite_engine(self._path, "ro", driver)
        self._writer: Engine | None = engine.sqlite_engine(self._path, "rw", driver) if writable else None
        self.warning: str | None = sqlite.journal_for(driver.sqlite_version_info)[1]

    @classmethod
    def create(cls, folder: Path, *, driver: ModuleType | None = None) -> "Store":
        """Open the workspace in `folder`; create it or upgrade its schema if needed.

        Raises errors.NoPlace, errors.SchemaTooNew, errors.Damaged, errors.JournalRefused, errors.DiskFull.
        """
        make_folder(folder)
        module = driver or sqlite.driver()
        maker = engine.sqlite_engine(folder / sqlite.DB_NAME, "rwc", module)
        try:
            with maker.begin() as db:
                found = migrations.revision(db)
                versions.refuse_newer(found, folder)
                if found != versions.HEAD:
                    migrations.upgrade(db)
        finally:
            maker.dispose()
        return cls(folder, True, None, module)

    @classmethod
    def open(
        cls, folder: Path, *, readonly: bool = False, generation: int | None = None, driver: ModuleType | None = None
    ) -> "Store":
        """Open an existing workspace. With `generation`, every write checks that no newer controller has taken over.

        Raises errors.NoWorkspace, errors.SchemaTooNew, errors.SchemaTooOld, errors.Damaged.
        """
        sqlite.workspace_file(folder)
        store = cls(folder, not readonly, generation, driver or sqlite.driver())
        try:
            store._check_schema()
        except BaseException:
            store.close()
            raise
        return store

    def _check_schema(self) -> None:
        with self.read() as db:
            found = migrations.revision(db)
        versions.refuse_other(found, self.folder)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open a consistent view, on a connection that cannot write."""
        with self._readable(), self._reader.begin() as db:
            yield db

    @contextmanager
    def _readable(self) -> Iterator[None]:
        """Raise errors.Damaged where a stored text is not what was written: all that is stored is UTF-8, or JSON."""
        try:
            yield
        except (UnicodeDecodeError, JSONDecodeError) as error:
            raise errors.Damaged(f"{self._path} holds a row that cannot be read ({error}): restore a backup") from error

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Open a transaction that holds the write lock from its start; commit at the end, roll back on an exception.

        Raises errors.Fenced, errors.ReadOnly, errors.DiskFull (nothing of the transaction is kept), errors.Busy.
        """
        if self._writer is None:
            raise errors.ReadOnly(f"the store of {self.folder} was opened read-only")
        with self._readable(), self._writer.begin() as db:
            self._check_generation(db)
            yield db

    def _check_generation(self, db: Connection) -> None:
        if self._generation is None:
            return
        now = db.scalar(select(controller.c.generation))
        if now != self._generation:
            raise errors.Fenced(
                f"controller {now} has taken over {self.folder}: controller {self._generation} must stop; it has "
                "written nothing"
            )

    def checkpoint(self) -> bool:
        """Empty the write-ahead log; return False if a reader prevented it (retry at the next phase).

        Only the controller calls this, between phases. Raises errors.NotController, errors.Fenced.
        """
        if self._generation is None:
            raise errors.NotController(f"only the controller of {self.folder} may checkpoint")
        with self.read() as db:
            self._check_generation(db)
        return sqlite.checkpoint(self._path, self._driver)

    def backup(self, to: Path) -> None:
        """Write a complete copy of the database to the file `to`, without blocking others. Raises FileExistsError."""
        if to.exists():
            raise FileExistsError(f"{to} already exists: choose a new file for the backup")
        sqlite.backup(self._path, to, self._driver)

    def close(self) -> None:
        """Close every connection; the last writable one of all processes merges the log into the database."""
        self._reader.dispose()
        if self._writer is not None:
            self._writer.dispose()

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
