"""The state of the run for `wizloop status`, read with SQLite directly in one statement.

The command is polled and used over slow lines, and importing SQLAlchemy takes three times as long as all the rest of
it. `overview` gives screens the same through SQLAlchemy.
"""

from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import Any

from wizloop.store import errors, sqlite, versions


@dataclass(frozen=True, slots=True)
class RunStatus:
    """The state of the run. Fields of a round, phase or controller are None before the first one."""

    run: str
    state: str
    reason: str
    rounds_wanted: int
    until: datetime | None
    round: int | None
    """The latest round that began."""
    phase: str | None
    """The latest phase of that round, with its state and progress."""
    phase_state: str | None
    done: int | None
    total: int | None
    cap_micro: int | None
    settled_micro: int
    reserved_micro: int
    to_review: int
    """Traces that wait for a reviewer."""
    pid: int | None
    """Of the last controller, alive or not."""
    host: str | None
    doing: str | None
    waiting: str | None
    heartbeat_at: datetime | None
    ended: bool = field(default=False, compare=False)
    """Whether the last controller ended by itself: a run that is paused then waits for a start."""
    out: str = field(default="{}", compare=False)
    """The teachers that the round gave up, as JSON: a name with its controller and the reason."""
    checked: str = field(default="{}", compare=False)
    """What is known of the teachers that were measured, as JSON: a name with `checked_teacher.Checked`."""


# Columns in the order of RunStatus's fields.
_QUERY = """
WITH latest AS (SELECT max(number) AS number FROM rounds),
last_phase AS (
    SELECT steps.* FROM steps JOIN latest ON steps.round = latest.number ORDER BY steps.started_at DESC LIMIT 1
)
SELECT run.name, run.state, run.reason, run.rounds_wanted, run.until,
       latest.number, last_phase.phase, last_phase.state, last_phase.done, last_phase.total,
       run.cap_micro, coalesce(budget.settled_micro, 0), coalesce(budget.reserved_micro, 0),
       (SELECT count(*) FROM standings WHERE decision = 'wait'),
       controller.pid, controller.host, controller.doing, controller.waiting, controller.heartbeat_at,
       run.ended_at IS NOT NULL, coalesce(json_extract(newest.record, '$.out'), '{}'),
       coalesce(json_extract(first.record, '$.teacher_check.teachers'), '{}')
FROM run
CROSS JOIN latest
LEFT JOIN rounds AS newest ON newest.number = latest.number
LEFT JOIN rounds AS first ON first.number = 0
LEFT JOIN last_phase ON last_phase.round = latest.number
LEFT JOIN budget ON budget.id = run.id
LEFT JOIN controller ON controller.id = run.id
"""


def run_status(folder: Path, driver: ModuleType | None = None) -> RunStatus:
    """Read the state of the run of the workspace in `folder`.

    Raises errors.NoWorkspace, errors.NoRun, errors.SchemaTooNew, errors.SchemaTooOld, errors.Damaged.
    """
    path, module = sqlite.workspace_file(folder), driver or sqlite.driver()
    with sqlite.translated_errors(path, module), closing(sqlite.connect(path, "ro", module)) as raw:
        raw.execute("BEGIN")
        versions.refuse_other(_revision(raw), folder)
        row = raw.execute(_QUERY).fetchone()
    if row is None:
        raise errors.NoRun
    found = RunStatus(*row)
    return replace(found, until=_time(row[4]), heartbeat_at=_time(row[18]), ended=bool(row[19]))


def _revision(raw: Any) -> str | None:
    if raw.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone() is None:
        return None
    row = raw.execute("SELECT version_num FROM alembic_version").fetchone()
    return None if row is None else str(row[0])


def _time(text: str | None) -> datetime | None:
    try:
        return None if text is None else datetime.fromisoformat(text)
    except ValueError:
        raise errors.Damaged(f"the database is damaged: a time in it is {text!a}; restore a backup") from None
