"""Where the run stands, asked of SQLite itself: what `wizloop status` says, and no more.

People ask for it in a loop and over a slow line, and SQLAlchemy takes three times as long to import as all the rest of
that command. The statement is standard SQL; `overview` beside gives screens the same through SQLAlchemy.
"""

from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import Any

from wizloop.store import errors, sqlite, versions


@dataclass(frozen=True, slots=True)
class Glance:
    """The run at one moment. What is of a round, a phase or a controller is None before the first of it."""

    run: str
    state: str
    reason: str
    rounds_wanted: int
    until: datetime | None
    round: int | None
    """The latest that began."""
    phase: str | None
    """The latest of that round that began, with its state and how far it is."""
    phase_state: str | None
    done: int | None
    total: int | None
    cap_micro: int | None
    settled_micro: int
    reserved_micro: int
    to_review: int
    """Traces that wait for a person."""
    pid: int | None
    """The last controller's, alive or not."""
    host: str | None
    doing: str | None
    waiting: str | None
    heartbeat_at: datetime | None


# The columns stand in the order of Glance's fields.
_QUESTION = """
WITH latest AS (SELECT max(number) AS number FROM rounds),
last_phase AS (
    SELECT steps.* FROM steps JOIN latest ON steps.round = latest.number ORDER BY steps.started_at DESC LIMIT 1
)
SELECT run.name, run.state, run.reason, run.rounds_wanted, run.until,
       latest.number, last_phase.phase, last_phase.state, last_phase.done, last_phase.total,
       run.cap_micro, coalesce(budget.settled_micro, 0), coalesce(budget.reserved_micro, 0),
       (SELECT count(*) FROM standings WHERE decision = 'wait'),
       controller.pid, controller.host, controller.doing, controller.waiting, controller.heartbeat_at
FROM run
CROSS JOIN latest
LEFT JOIN last_phase ON last_phase.round = latest.number
LEFT JOIN budget ON budget.id = run.id
LEFT JOIN controller ON controller.id = run.id
"""


def glance(folder: Path, driver: ModuleType | None = None) -> Glance:
    """Where the run of the workspace in `folder` stands.

    Raises errors.NoWorkspace, errors.NoRun, errors.SchemaTooNew, errors.SchemaTooOld, errors.Damaged.
    """
    path, module = sqlite.workspace_file(folder), driver or sqlite.driver()
    with sqlite.in_our_words(path, module), closing(sqlite.connect(path, "ro", module)) as raw:
        raw.execute("BEGIN")
        versions.refuse_other(_revision(raw), folder)
        row = raw.execute(_QUESTION).fetchone()
    if row is None:
        raise errors.NoRun
    found = Glance(*row)
    return replace(found, until=_time(row[4]), heartbeat_at=_time(row[-1]))


def _revision(raw: Any) -> str | None:
    if raw.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone() is None:
        return None
    row = raw.execute("SELECT version_num FROM alembic_version").fetchone()
    return None if row is None else str(row[0])


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
