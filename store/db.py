"""The store of one workspace: open it, read from it, write to it. The questions are functions in the modules beside."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, TracebackType

from sqlalchemy import Connection, Engine, select

from wizloop.store import engine, errors, migrate, sqlite, versions
from wizloop.store.tables import controller

__all__ = ["Connection", "Store", "make_folder"]


def make_folder(folder: Path) -> None:
    """Make a workspace's folder where there is none. Raises errors.NoPlace."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        why = "it is a file" if folder.is_file() else error.strerror
        raise errors.NoPlace(f"no workspace can be made in {folder}: {why}: name another folder") from error


class Store:
    """One workspace's database, for one process (never across a fork). Make one with `create` or `open`.

    Keep transactions short: a write holds everyone else's writes up, a read keeps the log from being emptied. What
    writes in a loop leaves a few milliseconds between transactions, since SQLite's waiting is not fair.
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
        """Open the workspace in `folder`, made and brought to the newest schema where needed.

        Raises errors.NoPlace, errors.SchemaTooNew, errors.Damaged, errors.JournalRefused, errors.DiskFull.
        """
        make_folder(folder)
        module = driver or sqlite.driver()
        maker = engine.sqlite_engine(folder / sqlite.DB_NAME, "rwc", module)
        try:
            with maker.begin() as db:
                found = migrate.revision(db)
                versions.refuse_newer(found, folder)
                if found != versions.HEAD:
                    migrate.upgrade(db)
        finally:
            maker.dispose()
        return cls(folder, True, None, module)

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        readonly: bool = False,
        generation: int | None = None,
        driver: ModuleType | None = None,
    ) -> "Store":
        """Open a workspace that is there. With `generation`, every write checks that this controller is still the one.

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
            found = migrate.revision(db)
        versions.refuse_other(found, self.folder)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One consistent view, on a connection that cannot write."""
        with self._reader.begin() as db:
            yield db

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction that holds the write lock from its start; committed at the end, undone by an exception.

        Raises errors.Fenced, errors.ReadOnly, errors.DiskFull (nothing of the transaction is kept), errors.Busy.
        """
        if self._writer is None:
            raise errors.ReadOnly(f"the store of {self.folder} was opened for reading only")
        with self._writer.begin() as db:
            self._check_generation(db)
            yield db

    def _check_generation(self, db: Connection) -> None:
        if self._generation is None:
            return
        now = db.scalar(select(controller.c.generation))
        if now != self._generation:
            raise errors.Fenced(
                f"controller {now} has taken {self.folder} over: controller {self._generation} must stop, and has "
                "written nothing"
            )

    def checkpoint(self) -> bool:
        """Empty the write-ahead log; False when a reader was in the way (try again at the next phase).

        The controller calls this between phases, and nobody else does. Raises errors.NotController, errors.Fenced.
        """
        if self._generation is None:
            raise errors.NotController(f"only the controller of {self.folder} may checkpoint")
        with self.read() as db:
            self._check_generation(db)
        return sqlite.checkpoint(self._path, self._driver)

    def backup(self, to: Path) -> None:
        """Write a complete copy of the database to the file `to`, while others go on. Raises FileExistsError."""
        if to.exists():
            raise FileExistsError(f"{to} exists already: name a new file for the backup")
        sqlite.backup(self._path, to, self._driver)

    def close(self) -> None:
        """Close every connection; the last writable one of all processes moves the log into the database."""
        self._reader.dispose()
        if self._writer is not None:
            self._writer.dispose()

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
