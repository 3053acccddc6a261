"""The migrations lead to the tables, and never backwards."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine
from sqlalchemy.exc import IntegrityError

from wizloop.store import engine, errors, hashing, leaks, migrations, samples, selections, sqlite, tables, versions
from wizloop.store.db import Store

MIGRATIONS = Path(migrations.__file__).parent


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
    assert ScriptDirectory(str(MIGRATIONS), version_locations=[str(MIGRATIONS)]).get_heads() == [versions.HEAD]


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
    maker = engine.sqlite_engine(tmp_path / sqlite.DB_NAME, "rwc", sqlite.driver())
    with pytest.raises(LookupError), maker.begin() as db:
        _upgrade_and_fail(db)
    with maker.begin() as db:
        assert _schema(db) == {}
        assert migrations.revision(db) is None
    maker.dispose()


def _upgrade_and_fail(db: Connection) -> None:
    migrations.upgrade(db)
    raise LookupError


def test_a_filled_workspace_of_before_keeps_its_samples_and_what_refers_to_them(tmp_path: Path) -> None:
    maker = engine.sqlite_engine(tmp_path / sqlite.DB_NAME, "rwc", sqlite.driver())
    with maker.begin() as db:
        migrations.upgrade(db, "0003")
        for number, split in enumerate(("pool", "test", "pool"), start=1):
            values = (number, split, f"text {number}", hashing.content_digest(f"text {number}", None), b"n" * 32)
            db.exec_driver_sql(
                "INSERT INTO samples (id, split, prompt, source, row_ref, hash, norm_hash, added_at) "
                "VALUES (?, ?, ?, 'made', 'row', ?, ?, '2026-01-01T00:00:00.000000Z')",
                values,
            )
        db.exec_driver_sql(
            "INSERT INTO leaks (split, source, row_ref, sample_id, held_id, similarity, found_at) "
            "VALUES ('pool', 'made', 'row', 1, 2, 0.9, '2026-01-01T00:00:00.000000Z')"
        )
    maker.dispose()
    with Store.create(tmp_path / "new") as new, new.read() as db:
        wanted = _schema(db)
    with Store.create(tmp_path) as store, store.write() as db:
        assert _schema(db) == wanted
        assert [(one.id, one.prompt) for one in samples.page(db, "pool", 0, 9)] == [(1, "text 1"), (3, "text 3")]
        assert samples.get(db, [2])[0].hash == hashing.content_digest("text 2", None).hex()
        again = [samples.NewSample("pool", text, None, "made", "row") for text in ("text 3", "text 4")]
        assert samples.add(db, again, datetime(2026, 1, 2, tzinfo=UTC)) == samples.Added(1, 1, 0, 0)
        assert leaks.number(db) == 1
        assert db.exec_driver_sql("PRAGMA foreign_key_check").all() == []
        assert db.exec_driver_sql("PRAGMA integrity_check").scalar_one() == "ok"


def test_an_old_workspace_keeps_its_selections_and_takes_any_reason(tmp_path: Path) -> None:
    maker = engine.sqlite_engine(tmp_path / sqlite.DB_NAME, "rwc", sqlite.driver())
    columns = "sample_id, round, reason, score, rank, propensity, words"
    with maker.begin() as db:
        migrations.upgrade(db, "0006")
        for number in (1, 2, 3):
            db.exec_driver_sql(
                "INSERT INTO samples (id, split, prompt, source, row_ref, hash, added_at) "
                "VALUES (?, 'pool', ?, 'made', 'row', ?, '2026-01-01T00:00:00.000000Z')",
                (number, f"text {number}", hashing.content_digest(f"text {number}", None)),
            )
        old = [(1, 1, "random", 0.5, 2, 0.25, "by chance"), (2, 1, "diversity", 0.9, 1, None, "unlike")]
        for row in old:
            db.exec_driver_sql(f"INSERT INTO selections ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        with pytest.raises(IntegrityError):
            db.exec_driver_sql(f"INSERT INTO selections ({columns}) VALUES (3, 1, 'longest', 1.0, 3, NULL, 'long')")
    maker.dispose()
    with Store.create(tmp_path / "new") as new, new.read() as db:
        wanted = _schema(db)
    with Store.create(tmp_path) as store, store.write() as db:
        assert _schema(db) == wanted
        assert [tuple(row) for row in db.exec_driver_sql(f"SELECT {columns} FROM selections")] == old
        assert selections.add(db, [selections.Selection(2, 3, "longest", 1.0, 1, None, "long")]) == 1
        assert selections.by_reason(db, 2) == {"longest": 1}
        assert [one.sample_id for one in selections.of_round(db, 1)] == [2, 1]
        assert db.exec_driver_sql("PRAGMA foreign_key_check").all() == []
        assert db.exec_driver_sql("PRAGMA integrity_check").scalar_one() == "ok"
