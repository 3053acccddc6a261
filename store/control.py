"""The run of a workspace, and the controller that executes it."""

from dataclasses import dataclass
from datetime import datetime
from types import EllipsisType

from sqlalchemy import Connection, select, update

from wizloop.store import errors, rows, tables


@dataclass(frozen=True, slots=True)
class Run:
    """The run: its settings and state."""

    name: str
    recipe_json: str
    recipe_hash: str
    seed: int
    state: str
    """created, running, paused, stopped, done or failed."""
    reason: str
    """Why it is in that state, as a sentence; empty at first."""
    wanted: str
    """The user's request: run, pause, stop (after this phase) or stop_now."""
    cap_micro: int | None
    until: datetime | None
    rounds_wanted: int
    champion_id: int | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class Controller:
    """The process that executes the run."""

    generation: int
    pid: int
    host: str
    boot_id: str
    heartbeat_at: datetime
    doing: str
    waiting: str | None


_ENDED = ("stopped", "done", "failed")


def create_run(
    db: Connection,
    *,
    name: str,
    recipe_json: str,
    recipe_hash: str,
    seed: int,
    cap_micro: int | None,
    until: datetime | None,
    rounds_wanted: int,
    now: datetime,
) -> None:
    """Create the workspace's run. Raises errors.RunExists."""
    existing = get_run(db)
    if existing is not None:
        raise errors.RunExists(f"the workspace already has the run {existing.name}: use another folder for another run")
    settings = (name, recipe_json, recipe_hash, seed, "created", "", "run", cap_micro, until, rounds_wanted)
    run = Run(*settings, champion_id=None, created_at=now, started_at=None, ended_at=None)
    db.execute(tables.run.insert().values(id=1, **rows.values(run)))


def get_run(db: Connection) -> Run | None:
    """Return the run, or None if it is not created yet."""
    return rows.first(db, Run, select(*rows.columns(tables.run, Run)))


def set_state(db: Connection, state: str, reason: str, now: datetime, *, ended: bool = False) -> None:
    """Set the run's state, and the times at which it first ran and ended. Raises errors.NoRun.

    With `ended` no process waits for the end of a pause.
    """
    run = get_run(db)
    if run is None:
        raise errors.NoRun
    started = run.started_at or (now if state == "running" else None)
    over = now if ended or state in _ENDED else None
    _change_run(db, state=state, reason=reason, started_at=started, ended_at=over)


def want(db: Connection, wanted: str) -> None:
    """Request run, pause, stop or stop_now. Raises errors.NoRun."""
    _change_run(db, wanted=wanted)


def set_limits(
    db: Connection,
    *,
    cap_micro: int | EllipsisType | None = ...,
    until: datetime | EllipsisType | None = ...,
    rounds_wanted: int | EllipsisType = ...,
) -> None:
    """Change the given limits; None removes one. Raises errors.NoRun."""
    limits = {"cap_micro": cap_micro, "until": until, "rounds_wanted": rounds_wanted}
    given = {name: value for name, value in limits.items() if value is not ...}
    if given:
        _change_run(db, **given)


def set_recipe(db: Connection, name: str, recipe_json: str, recipe_hash: str, seed: int) -> None:
    """Replace the recipe of a run that has not started. Raises errors.NoRun."""
    _change_run(db, name=name, recipe_json=recipe_json, recipe_hash=recipe_hash, seed=seed)


def set_champion(db: Connection, model_id: int | None) -> None:
    """Set the champion; None leaves the base. Raises errors.NoRun."""
    _change_run(db, champion_id=model_id)


def _change_run(db: Connection, **values: object) -> None:
    if db.execute(update(tables.run).values(**values)).rowcount == 0:
        raise errors.NoRun


def claim_controller(db: Connection, *, pid: int, host: str, boot_id: str, now: datetime) -> int:
    """Register a new controller and return its generation, which fences off every earlier one."""
    last = controller(db)
    generation = 1 if last is None else last.generation + 1
    claim = Controller(generation, pid, host, boot_id, now, "", None)
    rows.put(db, tables.controller, {"id": 1}, rows.values(claim))
    return generation


def beat(db: Connection, generation: int, *, now: datetime, doing: str, waiting: str | None) -> None:
    """Record that this controller is alive, what it does, and what it waits for. Raises errors.Fenced."""
    table = tables.controller
    alive = update(table).where(table.c.generation == generation)
    if db.execute(alive.values(heartbeat_at=now, doing=doing, waiting=waiting)).rowcount == 0:
        raise errors.Fenced


def controller(db: Connection) -> Controller | None:
    """Return the last controller, alive or not, or None."""
    return rows.first(db, Controller, select(*rows.columns(tables.controller, Controller)))
