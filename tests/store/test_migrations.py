"""The migrations lead to the tables, on every database, and never backwards."""

from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine
from sqlalchemy.dialects.postgresql.base import PGDialect
from sqlalchemy.schema import CreateTable

from wizloop.store import engine, errors, migrate, tables
from wizloop.store.db import Store

MIGRATIONS = Path(migrate.__file__).parent / "migrations"


def _schema(db: Connection) -> dict[str, str]:
    found = db.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'")
    return {name: sql for name, sql in found if name != "alembic_version"}


def test_the_migrations_make_exactly_the_tables(store: Store) -> None:
    plain = create_engine("sqlite://")
    with plain.begin() as db:
        tables.metadata.create_all(db)
        wanted = _schema(db)
    plain.dispose()
    with store.read() as db:
        assert _schema(db) == wanted
    assert "predictions" in wanted


def test_head_is_the_last_migration() -> None:
    assert ScriptDirectory(str(MIGRATIONS), version_locations=[str(MIGRATIONS)]).get_heads() == [migrate.HEAD]


def _set_revision(folder: Path, revision: str) -> None:
    with Store.create(folder) as store, store.write() as db:
        db.exec_driver_sql("UPDATE alembic_version SET version_num = ?", (revision,))


def test_a_newer_workspace_is_left_alone(tmp_path: Path) -> None:
    _set_revision(tmp_path, "9999")
    for opened in (Store.open, Store.create):
        with pytest.raises(errors.SchemaTooNew, match="schema 9999"):
            opened(tmp_path)


def test_an_older_workspace_is_not_read_as_if_it_were_new(tmp_path: Path) -> None:
    _set_revision(tmp_path, "0000")
    with pytest.raises(errors.SchemaTooOld, match="wizloop start"):
        Store.open(tmp_path, readonly=True)


def test_a_migration_that_fails_halfway_leaves_nothing_behind(tmp_path: Path) -> None:
    maker = engine.sqlite_engine(tmp_path / engine.DB_NAME, "rwc", engine.driver())
    with pytest.raises(LookupError), maker.begin() as db:
        _upgrade_and_fail(db)
    with maker.begin() as db:
        assert _schema(db) == {}
        assert migrate.revision(db) is None
    maker.dispose()


def _upgrade_and_fail(db: Connection) -> None:
    migrate.upgrade(db)
    raise LookupError


def test_the_tables_build_on_postgresql() -> None:
    postgres = PGDialect()  # type: ignore[no-untyped-call]
    made = "\n".join(str(CreateTable(table).compile(dialect=postgres)) for table in tables.metadata.sorted_tables)
    assert made.count("CREATE TABLE") == len(tables.metadata.tables)
    assert "hash BYTEA NOT NULL" in made
    assert "ROWID" not in made
