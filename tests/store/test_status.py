"""What SQLite is asked directly, held against the same questions through SQLAlchemy."""

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from wizloop.store import control, errors, spending, sqlite, steps
from wizloop.store.db import Connection, Store
from wizloop.store.overview import overview
from wizloop.store.status import RunStatus, run_status


def of(row: object | None, name: str) -> Any:
    return None if row is None else getattr(row, name)


def as_screens_see_it(folder: Path) -> RunStatus:
    """The same from `overview`."""
    with Store.open(folder, readonly=True) as store, store.read() as db:
        seen = overview(db)
    run, step, who, money = seen.run, seen.step, seen.controller, seen.budget
    return RunStatus(
        run=run.name,
        state=run.state,
        reason=run.reason,
        rounds_wanted=run.rounds_wanted,
        until=run.until,
        round=seen.round,
        phase=of(step, "phase"),
        phase_state=of(step, "state"),
        done=of(step, "done"),
        total=of(step, "total"),
        cap_micro=money.cap_micro,
        settled_micro=money.settled_micro,
        reserved_micro=money.reserved_micro,
        to_review=seen.to_review,
        pid=of(who, "pid"),
        host=of(who, "host"),
        doing=of(who, "doing"),
        waiting=of(who, "waiting"),
        heartbeat_at=of(who, "heartbeat_at"),
    )


def begin(db: Connection, now: datetime) -> None:
    asked = {"name": "mine", "recipe_json": "{}", "recipe_hash": "ab", "seed": 7, "rounds_wanted": 3}
    control.create_run(db, cap_micro=2_000_000, until=now + timedelta(hours=8), now=now, **asked)  # type: ignore[arg-type]


def test_a_run_that_has_not_begun(store: Store, now: datetime) -> None:
    with store.write() as db:
        begin(db, now)
    seen = run_status(store.folder)
    assert seen == as_screens_see_it(store.folder)
    assert (seen.run, seen.state, seen.round, seen.pid) == ("mine", "created", None, None)
    assert seen.until == now + timedelta(hours=8)


def test_a_round_of_which_no_phase_has_begun(store: Store, now: datetime) -> None:
    with store.write() as db:
        begin(db, now)
        steps.begin_round(db, 0, None, now)
        steps.begin_step(db, 0, "gate", now)
        steps.begin_round(db, 1, None, now)
    seen = run_status(store.folder)
    assert seen == as_screens_see_it(store.folder)
    assert (seen.round, seen.phase, seen.done) == (1, None, None)


def test_a_night_at_work(after_a_night: Path, now: datetime) -> None:
    with Store.open(after_a_night) as store, store.write() as db:
        held = control.claim_controller(db, pid=4711, host="mac", boot_id="b", now=now)
        control.set_state(db, "running", "", now)
        control.beat(db, held, now=now, doing="round 2: teach", waiting="the day's quota, until 07:00")
        steps.begin_round(db, 2, 1, now)
        # In the order in which they began, which is not that of their names.
        for at, phase in enumerate(("select", "classify")):
            steps.begin_step(db, 2, phase, now + timedelta(minutes=at))
        steps.progress(db, 2, "classify", 7, 9)
        spending.add(db, settled=20_000, reserved=300)
    seen = run_status(after_a_night)
    assert seen == as_screens_see_it(after_a_night)
    assert (seen.round, seen.phase, seen.done, seen.total) == (2, "classify", 7, 9)
    assert (seen.pid, seen.waiting, seen.heartbeat_at) == (4711, "the day's quota, until 07:00", now)
    assert (seen.settled_micro, seen.reserved_micro, seen.to_review) == (520_000, 300, 2)


def test_a_night_that_is_over(after_a_night: Path) -> None:
    seen = run_status(after_a_night)
    assert seen == as_screens_see_it(after_a_night)
    assert (seen.phase, seen.done, seen.settled_micro, seen.to_review) == ("evaluate", 80, 500_000, 2)


@pytest.mark.parametrize("ask", [run_status, Store.open])
class TestBothRefuse:
    """What `Store.open` refuses is refused here in the same words."""

    def test_a_folder_without_a_workspace(self, ask: Callable[[Path], object], tmp_path: Path) -> None:
        with pytest.raises(errors.NoWorkspace, match=r"there is no workspace in .*create one with `wizloop start`"):
            ask(tmp_path)
        (tmp_path / sqlite.DB_NAME).touch()
        with pytest.raises(errors.NoWorkspace, match="is incomplete"):
            ask(tmp_path)

    def test_a_file_that_is_no_database(self, ask: Callable[[Path], object], tmp_path: Path) -> None:
        (tmp_path / sqlite.DB_NAME).write_bytes(b"not a database, but long enough to look like a header" * 9)
        with pytest.raises(errors.Damaged, match=r"wizloop\.db cannot be read"):
            ask(tmp_path)

    @pytest.mark.parametrize(
        ("revision", "said"),
        [("0001", errors.SchemaTooOld), ("9999", errors.SchemaTooNew)],
    )
    def test_a_schema_of_another_version(
        self, ask: Callable[[Path], object], store: Store, revision: str, said: type[Exception]
    ) -> None:
        with store.write() as db:
            db.exec_driver_sql("UPDATE alembic_version SET version_num = ?", (revision,))
        with pytest.raises(said, match=revision):
            ask(store.folder)


def test_a_workspace_without_a_run(store: Store) -> None:
    with pytest.raises(errors.NoRun):
        run_status(store.folder)


def test_it_reads_while_a_writer_is_at_work(after_a_night: Path, now: datetime) -> None:
    with Store.open(after_a_night) as store, store.write() as db:
        control.set_state(db, "running", "", now)
        assert run_status(after_a_night).state == "done"
    assert run_status(after_a_night).state == "running"
