"""Opening, reading, writing, closing: what a workspace's database promises, on real files."""

import ast
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, OperationalError

from tests import disks
from tests.where import ROOT
from wizloop.store import control, errors, events, samples, sqlite
from wizloop.store.db import Connection, Store

NEW_SQLITE = sqlite.wal_is_safe(sqlite.driver().sqlite_version_info)


def _say(store: Store, message: str, now: datetime) -> None:
    with store.write() as db:
        events.add(db, level="info", message=message, now=now)


def _messages(store: Store) -> list[str]:
    with store.read() as db:
        return [event.message for event in events.last(db, 1000)]


@pytest.mark.parametrize(
    ("version", "journal"),
    [
        ((3, 40, 1), "delete"),
        ((3, 44, 5), "delete"),
        ((3, 44, 6), "wal"),
        ((3, 45, 9), "delete"),
        ((3, 50, 4), "delete"),
        ((3, 50, 7), "wal"),
        ((3, 51, 2), "delete"),
        ((3, 51, 3), "wal"),
        ((3, 53, 4), "wal"),
    ],
)
def test_wal_is_used_only_where_it_cannot_destroy_the_database(version: tuple[int, int, int], journal: str) -> None:
    mode, warning = sqlite.journal_for(version)
    assert mode == journal
    assert (warning is None) == (journal == "wal")


def _pragma(store: Store, name: str, *, write: bool) -> object:
    with store.write() if write else store.read() as db:
        return db.exec_driver_sql(f"PRAGMA {name}").scalar()


@pytest.mark.parametrize("write", [True, False])
@pytest.mark.parametrize(
    ("pragma", "value"), [("foreign_keys", 1), ("synchronous", 2), ("wal_autocheckpoint", 0), ("busy_timeout", 30000)]
)
def test_every_connection_is_set_up(store: Store, pragma: str, value: int, write: bool) -> None:
    assert _pragma(store, pragma, write=write) == value


@pytest.mark.skipif(not NEW_SQLITE, reason="only an affected SQLite here")
def test_a_good_sqlite_uses_the_write_ahead_log_and_warns_of_nothing(store: Store) -> None:
    assert _pragma(store, "journal_mode", write=True) == "wal"
    assert store.warning is None


@pytest.mark.skipif(sqlite.wal_is_safe(sqlite3.sqlite_version_info), reason="Python's own SQLite is not affected here")
def test_an_affected_sqlite_uses_the_rollback_journal_and_says_so(tmp_path: Path, now: datetime) -> None:
    with Store.create(tmp_path, driver=sqlite3) as store:
        assert _pragma(store, "journal_mode", write=True) == "delete"
        assert store.warning is not None
        assert sqlite3.sqlite_version in store.warning
        _say(store, "kept", now)
        assert _messages(store) == ["kept"]


JOIN = """
import sqlite3, sys
from pathlib import Path
from wizloop.store import errors, sqlite
try:
    sqlite.connect(Path(sys.argv[1]), "rw", sqlite3, timeout=0.2).close()
except (errors.JournalRefused, errors.Busy) as error:
    print(type(error).__name__, error)
"""


@pytest.mark.skipif(
    sqlite.wal_is_safe(sqlite3.sqlite_version_info) or not NEW_SQLITE, reason="needs an affected and a good SQLite"
)
def test_an_affected_sqlite_does_not_join_a_log_in_use(store: Store, now: datetime) -> None:
    _say(store, "held open", now)
    command = [sys.executable, "-c", JOIN, str(store.folder / sqlite.DB_NAME)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "locked" in said or "JournalRefused" in said
    assert _pragma(store, "journal_mode", write=True) == "wal"


def test_what_is_written_is_read_and_survives_closing(tmp_path: Path, now: datetime) -> None:
    with Store.create(tmp_path / "a" / "b") as store:
        _say(store, "first", now)
    with Store.create(tmp_path / "a" / "b") as store:
        _say(store, "second", now)
    with Store.open(tmp_path / "a" / "b", readonly=True) as store:
        assert _messages(store) == ["first", "second"]


def test_no_workspace_is_made_over_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / sqlite.DB_NAME).write_bytes(b"not a database, but long enough to look like a header" * 9)
    with pytest.raises(errors.Damaged, match=r"wizloop\.db"):
        Store.create(tmp_path)


def test_an_odd_folder_name_is_no_part_of_the_uri(tmp_path: Path, now: datetime) -> None:
    folder = tmp_path / "what? 100% #1 &mode=memory"
    with Store.create(folder) as store:
        _say(store, "here", now)
    assert (folder / sqlite.DB_NAME).is_file()


def test_a_reader_cannot_write(store: Store, now: datetime) -> None:
    with (
        Store.open(store.folder, readonly=True) as reader,
        pytest.raises(errors.ReadOnly),
        reader.write(),
    ):
        pass
    with pytest.raises(OperationalError, match="readonly"), store.read() as db:
        events.add(db, level="info", message="no", now=now)


def test_an_exception_undoes_the_transaction(store: Store, now: datetime) -> None:
    with pytest.raises(LookupError), store.write() as db:
        _add_and_fail(db, now)
    assert _messages(store) == []


def _add_and_fail(db: Connection, now: datetime) -> None:
    events.add(db, level="info", message="lost", now=now)
    raise LookupError


def test_a_reader_sees_one_view_while_a_writer_writes(store: Store, now: datetime) -> None:
    if not NEW_SQLITE:
        pytest.skip("a rollback journal makes readers wait for writers")
    _say(store, "before", now)
    with Store.open(store.folder, readonly=True) as reader, reader.read() as view:
        assert len(events.last(view, 10)) == 1
        _say(store, "meanwhile", now)
        assert len(events.last(view, 10)) == 1
    assert _messages(store) == ["before", "meanwhile"]


def test_an_older_controller_is_fenced_off(store: Store, now: datetime) -> None:
    with store.write() as db:
        first = control.claim_controller(db, pid=1, host="h", boot_id="b", now=now)
    with Store.open(store.folder, generation=first) as old:
        _say(old, "by the first", now)
        with store.write() as db:
            control.claim_controller(db, pid=2, host="h", boot_id="b", now=now)
        with pytest.raises(errors.Fenced, match="controller 2 has taken"):
            _say(old, "too late", now)
        with pytest.raises(errors.Fenced):
            old.checkpoint()
    assert _messages(store) == ["by the first"]


@pytest.mark.skipif(not NEW_SQLITE, reason="there is no log to empty")
def test_only_the_controller_empties_the_log(store: Store, now: datetime) -> None:
    with store.write() as db:
        generation = control.claim_controller(db, pid=1, host="h", boot_id="b", now=now)
    log = store.folder / f"{sqlite.DB_NAME}-wal"
    with pytest.raises(errors.NotController):
        store.checkpoint()
    assert log.stat().st_size > 0
    with Store.open(store.folder, generation=generation) as holder:
        assert holder.checkpoint()
    assert log.stat().st_size == 0


def test_a_backup_is_whole_and_never_overwrites(store: Store, tmp_path: Path, now: datetime) -> None:
    _say(store, "saved", now)
    copy = tmp_path / "copy" / sqlite.DB_NAME
    copy.parent.mkdir()
    (copy.parent / f"{sqlite.DB_NAME}.part").write_bytes(b"left by a kill")
    store.backup(copy)
    _say(store, "after", now)
    with Store.open(copy.parent, readonly=True) as restored:
        assert _messages(restored) == ["saved"]
    assert [path.name for path in copy.parent.iterdir() if path.suffix == ".part"] == []
    with pytest.raises(FileExistsError):
        store.backup(copy)


def _fill(db: Connection, now: datetime) -> None:
    pages = db.exec_driver_sql("PRAGMA page_count").scalar()
    db.exec_driver_sql(f"PRAGMA max_page_count={pages}")
    events.add(db, level="info", message="x" * 1_000_000, now=now)


def test_a_full_disk_costs_one_transaction_and_no_more(store: Store, now: datetime) -> None:
    _say(store, "acknowledged", now)
    with pytest.raises(errors.DiskFull, match=str(store.folder)), store.write() as db:
        _fill(db, now)
    assert _messages(store) == ["acknowledged"]
    with store.write() as db:
        db.exec_driver_sql("PRAGMA max_page_count=1000000")
        events.add(db, level="info", message="space was made", now=now)
    assert _messages(store) == ["acknowledged", "space was made"]


def _fill_and_go_on(db: Connection, now: datetime) -> None:
    events.add(db, level="info", message="half", now=now)
    with suppress(errors.DiskFull):
        _fill(db, now)


def test_a_full_disk_that_is_caught_inside_commits_nothing(store: Store, now: datetime) -> None:
    with pytest.raises(errors.RolledBack), store.write() as db:
        _fill_and_go_on(db, now)
    assert _messages(store) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with disks.small(tmp_path / "disk", 4) as folder:
        yield folder


def _say_until_full(store: Store, acknowledged: list[str], now: datetime) -> None:
    for n in range(1000):
        _say(store, f"{n} " + "x" * 20_000, now)
        acknowledged.append(str(n))


def test_a_really_full_disk_loses_nothing_that_was_acknowledged(small_disk: Path, now: datetime) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(1 << 20))
    acknowledged: list[str] = []
    with Store.create(small_disk / "runs") as store:
        with pytest.raises(errors.DiskFull, match="free some space"):
            _say_until_full(store, acknowledged, now)
        assert [message.split()[0] for message in _messages(store)] == acknowledged
        ballast.unlink()
        with pytest.raises(errors.DiskFull, match="disk"):
            store.backup(small_disk / "copy.db")
        _say(store, "on again", now)
        assert _messages(store)[-1] == "on again"
    assert len(acknowledged) > 10


COUNT_UP = """
import sys
from pathlib import Path
from sqlalchemy import select, update
from wizloop.store.db import Store
from wizloop.store.tables import controller
with Store.open(Path(sys.argv[1])) as store:
    for _ in range(int(sys.argv[2])):
        with store.write() as db:
            seen = db.scalar(select(controller.c.pid))
            db.execute(update(controller).values(pid=seen + 1))
"""


def test_two_processes_that_read_then_write_lose_no_update(store: Store, now: datetime) -> None:
    with store.write() as db:
        control.claim_controller(db, pid=0, host="h", boot_id="b", now=now)
    command = [sys.executable, "-c", COUNT_UP, str(store.folder), "150"]
    running = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait(timeout=120) for process in running] == [0, 0]
    with store.read() as db:
        held = control.controller(db)
    assert held is not None
    assert held.pid == 300


CREATE = (
    "import sys; from pathlib import Path; from wizloop.store.db import Store; Store.create(Path(sys.argv[1])).close()"
)


def test_processes_that_create_one_workspace_at_once_all_succeed(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", CREATE, str(tmp_path / "runs")]
    running = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait(timeout=120) for process in running] == [0, 0, 0]


OPEN = """
import sys
from pathlib import Path
from wizloop.store.db import Store
Store.open(Path(sys.argv[1]), readonly=True).close()
print([name for name in ("alembic", "sqlalchemy.orm", "numpy", "mlx") if name in sys.modules])
"""


def test_opening_a_current_workspace_loads_nothing_heavy(store: Store) -> None:
    command = [sys.executable, "-c", OPEN, str(store.folder)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_an_error_of_a_statement_holds_no_value(store: Store) -> None:
    with store.write() as db, pytest.raises(DBAPIError) as raised:
        db.execute(text("INSERT INTO samples (prompt) VALUES (:prompt)"), {"prompt": "a text of the pool"})
    assert "a text of the pool" not in str(raised.value)


def test_text_that_is_not_unicode_is_refused_by_its_row(store: Store, now: datetime) -> None:
    new = samples.NewSample("pool", "half a \ud800 pair", None, "file.jsonl", "line 7")
    with pytest.raises(errors.BadText, match=r"file\.jsonl line 7"), store.write() as db:
        samples.add(db, [new], now)


OPENERS = {"open", "read_text", "read_bytes", "write_text", "write_bytes", "copy", "copy2", "copyfile", "copytree"}
OPENERS |= {"move", "unlink", "rename", "replace", "remove", "connect"}
ALLOWED = {("store/sqlite.py", "connect")}


def test_nothing_but_sqlite_opens_the_database() -> None:
    """A descriptor of the file that closes takes all of the process's locks with it, and a commit can be lost."""
    found: list[tuple[str, str]] = []
    for room in ("backends", "loop", "recipes", "store", "tui"):
        for path in sorted((ROOT / room).rglob("*.py")):
            found += [(str(path.relative_to(ROOT)), name) for name in _opens(path.read_text())]
    assert set(found) <= ALLOWED


def _opens(source: str) -> list[str]:
    named = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and any(
            word in ast.unparse(node) for word in ("wizloop.db", "DB_NAME", "uri=True")
        ):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            named += [name] if name in OPENERS else []
    return named


@pytest.mark.parametrize(
    ("source", "seen"),
    [
        ("open(folder / 'wizloop.db', 'rb').read()", ["open"]),
        ("(folder / DB_NAME).read_bytes()", ["read_bytes"]),
        ("shutil.copy(f'{folder}/wizloop.db', to)", ["copy"]),
        ("(folder / 'wizloop.db').is_file()", []),
    ],
)
def test_the_search_for_openers_finds_them(source: str, seen: list[str]) -> None:
    assert _opens(source) == seen
