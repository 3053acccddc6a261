"""Many rows of one file are written with the index of digests made anew: nothing but the time tells it."""

import json
import random
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wizloop.loop.data import import_file
from wizloop.loop.data.import_file import ImportReport
from wizloop.recipes.sections import Data
from wizloop.store import bulk_import, samples
from wizloop.store.db import Connection, Store
from wizloop.store.samples import Added, NewSample

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TABLES = ("samples", "sample_counts", "label_counts")


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten rows are many, and seven are read together."""
    monkeypatch.setattr(bulk_import, "LEAST", 10)
    monkeypatch.setattr(bulk_import, "MOST", 200)
    monkeypatch.setattr(import_file, "BATCH_ROWS", 7)


def _file(path: Path, rows: Sequence[dict[str, str]]) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def _checked(path: Path, split: Any = "pool", sample: int | None = None) -> import_file.Checked:
    return import_file.check(Data(path=str(path), split=split, sample=sample), np.random.default_rng(0))


def _whole(db: Connection) -> dict[str, list[tuple[Any, ...]]]:
    """The schema, and every row that an import can touch."""
    assert db.exec_driver_sql("PRAGMA integrity_check").scalar_one() == "ok"
    queries = {"schema": "SELECT name, sql FROM sqlite_master ORDER BY name"}
    queries |= {table: f"SELECT * FROM {table} ORDER BY 1, 2, 3" for table in TABLES}
    queries["leaks"] = "SELECT split, source, row_ref, sample_id, held_id FROM leaks ORDER BY held_id, split"
    return {name: [tuple(row) for row in db.exec_driver_sql(query)] for name, query in queries.items()}


def _has_index(db: Connection) -> bool:
    return db.exec_driver_sql("SELECT 1 FROM sqlite_master WHERE name = 'ix_samples_hash'").first() is not None


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("split", ["pool", "test"])
def test_the_outcome_is_that_of_one_row_after_the_other(tmp_path: Path, few: None, seed: int, split: str) -> None:
    rng = random.Random(seed)
    labels = ["safe", "safe", "harmful"]
    path = _file(
        tmp_path / "a.jsonl",
        [{"prompt": f"text {rng.randrange(60)}", "label": rng.choice(labels)} for _ in range(100)],
    )
    there = [NewSample(other, f"text {n}", None, "made", "row", "unharmful") for n, other in enumerate(samples.SPLITS)]
    found: list[tuple[ImportReport, dict[str, list[tuple[Any, ...]]]]] = []
    for way in ("together", "each"):
        checked = _checked(path, split)
        with checked.spool, Store.create(tmp_path / way) as store:
            with store.write() as db:
                samples.add(db, there, NOW)
            if way == "together":
                import_file.write(store, checked, NOW)
            else:
                with store.write() as db:
                    checked.report.count(import_file.add(db, checked.batches(), NOW))
            with store.read() as db:
                found.append((checked.report, _whole(db)))
    assert found[0][0] == found[1][0]
    for name, wanted in found[1][1].items():
        assert found[0][1][name] == wanted, name
    assert found[0][0].duplicates > 10
    assert found[0][0].conflicts > 10


def test_what_repeats_is_counted_and_ids_are_in_the_order_of_the_file(tmp_path: Path, few: None) -> None:
    rows = [{"prompt": f"text {n % 20}", "label": "safe" if n < 30 else "harmful"} for n in range(40)]
    checked = _checked(_file(tmp_path / "a.jsonl", rows))
    told: list[int] = []
    dropped: list[bool] = []
    with checked.spool, Store.create(tmp_path) as store:
        with store.write() as db:
            samples.add(db, [NewSample("dev", f"text {n}", None, "made", "row", "unharmful") for n in (3, 4)], NOW)
            heads = checked.heads_to_write()

            def watched() -> Iterator[Sequence[samples.Kept]]:
                for piece in checked.batches():
                    dropped.append(not _has_index(db))
                    yield piece

            assert bulk_import.add_kept(db, watched(), heads, NOW, lambda _: set()) == Added(18, 12, 10, 4)
        assert dropped == [True] * 6
        with store.read() as db:
            assert [one.prompt for one in samples.page(db, "pool", 0, 5)] == [f"text {n}" for n in (0, 1, 2, 5, 6)]
            assert samples.ids(db, "pool") == list(range(3, 21))
            assert samples.label_counts(db)["pool"] == {"request": {"unharmful": 18}}
        import_file.write(store, checked, NOW, progress=told.append)
        assert told == [7, 14, 21, 28, 35, 40]


def test_rows_whose_digests_begin_alike_all_come_in(tmp_path: Path, few: None) -> None:
    rows = [samples.kept("pool", f"text {n}", None, "made", "row", None, None, None, None) for n in range(30)]
    heads = np.arange(30, dtype=np.uint64)
    heads[5], heads[20] = 4, 0
    with Store.create(tmp_path) as store:
        with store.write() as db:
            assert bulk_import.add_kept(db, [rows[:15], rows[15:]], heads, NOW, lambda _: set()) == Added(30, 0, 0, 0)
        with store.read() as db:
            assert {one.prompt for one in samples.page(db, "pool", 0, 99)} == {f"text {n}" for n in range(30)}


@pytest.mark.parametrize(
    ("there", "new", "dropped"),
    [(12, 12, True), (12, 11, False), (0, 9, False), (0, 10, True), (0, 200, True), (0, 201, False)],
)
def test_the_index_stays_where_little_is_new_beside_the_store_or_too_much(
    tmp_path: Path, few: None, there: int, new: int, dropped: bool
) -> None:
    made = [samples.kept("pool", f"text {n}", None, "made", "row", None, None, None, None) for n in range(there + new)]
    seen: list[bool] = []
    with Store.create(tmp_path) as store, store.write() as db:
        samples.add_kept(db, [made[:there]] if there else [], NOW)
        heads = bulk_import.as_heads(bulk_import.heads_of(made))

        def watched() -> Iterator[Sequence[samples.Kept]]:
            seen.append(not _has_index(db))
            yield made

        assert bulk_import.add_kept(db, watched(), heads, NOW, lambda _: set()).added == new
        assert seen == [dropped]


def test_some_of_a_file_by_chance_come_in_as_they_were_drawn(tmp_path: Path, few: None) -> None:
    rows = [{"prompt": f"text {n % 40}"} for n in range(60)]
    checked = _checked(_file(tmp_path / "a.jsonl", rows), sample=25)
    with checked.spool, Store.create(tmp_path) as store:
        import_file.write(store, checked, NOW)
        with store.read() as db:
            wanted = [row[1] for piece in checked.batches() for row in piece]
            assert [one.prompt for one in samples.page(db, "pool", 0, 99)] == wanted
            assert len(set(wanted)) == 25 == checked.report.accepted


def test_readers_see_the_database_of_before_until_the_end(tmp_path: Path, few: None) -> None:
    checked = _checked(_file(tmp_path / "a.jsonl", [{"prompt": f"text {n}"} for n in range(50)]))
    with checked.spool, Store.create(tmp_path) as store:
        with store.write() as db:
            samples.add(db, [NewSample("dev", "text 3", None, "made", "row")], NOW)
            wanted = _whole(db)
        import_file.write(store, checked, NOW, keep=False)
        with store.read() as before:
            assert _whole(before) == wanted
            seen: list[int] = []

            def look(_: int) -> None:
                with store.read() as now:
                    assert _has_index(now)
                    seen.append(len(_whole(now)["samples"]))

            import_file.write(store, checked, NOW, progress=look)
            assert seen == [1] * 8
            assert samples.ids(before, "pool") == []
        with store.read() as after:
            assert samples.counts(after)["pool"] == 49


KILLED = """
import sys, time
from datetime import UTC, datetime
from pathlib import Path
from wizloop.store import bulk_import, samples
from wizloop.store.db import Store

NOW = datetime(2026, 1, 1, tzinfo=UTC)
bulk_import.LEAST = 1000
words = "p" * 500
rows = [samples.kept("pool", f"{words} {n}", None, "made", "row", None, None, None, None) for n in range(1, 8001)]

def pieces():
    for at in range(0, 8000, 1000):
        if at == 6000 and sys.argv[2] == "before":
            there()
        yield rows[at : at + 1000]
    yield rows[8000:]

def there(*_):
    print("there", flush=True)
    time.sleep(60)

with Store.open(Path(sys.argv[1])) as store, store.write() as db:
    # Most pages go to the log before the end.
    db.exec_driver_sql("PRAGMA cache_size=-500")
    rows.append(samples.kept("pool", "held out", None, "made", "row", None, None, None, None))
    bulk_import.add_kept(db, pieces(), bulk_import.as_heads(bulk_import.heads_of(rows)), NOW, there)
"""


@pytest.mark.parametrize("point", ["before", "after"])
def test_a_kill_before_or_after_the_index_is_made_leaves_all_as_it_was(tmp_path: Path, point: str) -> None:
    with Store.create(tmp_path) as store, store.write() as db:
        samples.add(db, [NewSample("dev", "held out", None, "made", "row")], NOW)
        wanted = _whole(db)
    with subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path), point], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"there\n"
        assert (tmp_path / "wizloop.db-wal").stat().st_size > 3_000_000
        writer.send_signal(signal.SIGKILL)
    with Store.open(tmp_path) as store, store.write() as db:
        assert _whole(db) == wanted
        assert samples.add(db, [NewSample("pool", "held out", None, "made", "row")], NOW) == Added(0, 1, 0, 1)
