"""Rounds and their phases: what has begun, its progress and results. Does not order the phases."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select, update
from sqlalchemy.dialects.sqlite import insert

from wizloop.store import errors, rows, samples, tables

LAST_SAMPLE = "last_sample"
"""Key of a round's record: the newest sample when it began. Later ones join the next round."""


@dataclass(frozen=True, slots=True)
class Round:
    """One round of the loop; models by id. `passed` is the gate's decision, None before it."""

    number: int
    champion_before: int | None
    champion_after: int | None
    challenger: int | None
    passed: bool | None
    gate_reason: str | None
    record: dict[str, Any]
    """Measurements and settings of the round: thresholds, shares, hashes, counts."""
    started_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class Step:
    """One phase of one round."""

    round: int
    phase: str
    state: str
    """running, done or failed."""
    attempts: int
    done: int
    total: int
    note: str
    started_at: datetime
    """Start of the latest attempt."""
    ended_at: datetime | None


_ROUNDS = select(*rows.columns(tables.rounds, Round))
_STEPS = select(*rows.columns(tables.steps, Step))


def begin_round(db: Connection, number: int, champion_before: int | None, now: datetime) -> None:
    """Begin a round, and keep which samples are there; one that has begun stays as it is."""
    # Round 0 imports its samples itself.
    record = {} if number == 0 else {LAST_SAMPLE: samples.newest(db)}
    new: dict[str, Any] = {"number": number, "champion_before": champion_before, "record": record, "started_at": now}
    rows.add_missing(db, tables.rounds, [new])


def get_round(db: Connection, number: int) -> Round | None:
    """Return a round, or None if it has not begun."""
    return rows.first(db, Round, _ROUNDS.where(tables.rounds.c.number == number))


def rounds(db: Connection) -> list[Round]:
    """Return all rounds that have begun, in order."""
    return rows.every(db, Round, _ROUNDS.order_by(tables.rounds.c.number))


def end_round(
    db: Connection,
    number: int,
    *,
    champion_after: int | None,
    challenger: int | None,
    passed: bool | None,
    gate_reason: str,
    record_json: str,
    now: datetime,
) -> None:
    """Record the gate's decision; `record_json`, an object, is merged into the record. Raises errors.NotFound."""
    merge_record(db, number, json.loads(record_json))
    outcome = {"champion_after": champion_after, "challenger": challenger, "passed": passed, "gate_reason": gate_reason}
    table = tables.rounds
    db.execute(update(table).where(table.c.number == number).values(**outcome, ended_at=now))


def choose_champion(db: Connection, number: int, champion_after: int | None) -> None:
    """Set the champion after a round, which a person chose; the gate's decision stays. Raises errors.NotFound."""
    table = tables.rounds
    chosen = update(table).where(table.c.number == number).values(champion_after=champion_after)
    if db.execute(chosen).rowcount == 0:
        raise errors.NotFound(f"round {number} has not begun")


def merge_record(db: Connection, number: int, record: Mapping[str, Any]) -> None:
    """Merge keys into a round's record; existing keys are replaced. Raises errors.NotFound."""
    existing = get_round(db, number)
    if existing is None:
        raise errors.NotFound(f"round {number} has not begun")
    table = tables.rounds
    db.execute(update(table).where(table.c.number == number).values(record={**existing.record, **record}))


def step(db: Connection, round: int, phase: str) -> Step | None:
    """Return a phase of a round, or None if it has not begun."""
    return rows.first(db, Step, _STEPS.where(*_is(round, phase)))


def steps(db: Connection, round: int) -> list[Step]:
    """Return the phases of a round that have begun, by the start of their latest attempt."""
    return rows.every(db, Step, _STEPS.where(tables.steps.c.round == round).order_by(tables.steps.c.started_at))


def begin_step(db: Connection, round: int, phase: str, now: datetime) -> None:
    """Begin a phase, or another attempt at it, before any of its work."""
    fresh = {"state": "running", "note": "", "started_at": now, "ended_at": None}
    new = insert(tables.steps).values(round=round, phase=phase, attempts=1, done=0, total=0, **fresh)
    again = {**fresh, "attempts": tables.steps.c.attempts + 1}
    db.execute(new.on_conflict_do_update(index_elements=["round", "phase"], set_=again))


def progress(db: Connection, round: int, phase: str, done: int, total: int, waiting: str = "") -> None:
    """Record a phase's progress, and what it waits for, if anything, as its note. Raises errors.NotFound."""
    _change_step(db, round, phase, done=done, total=total, note=waiting)


def finish_step(db: Connection, round: int, phase: str, note: str, now: datetime) -> None:
    """End a phase whose work is all in the store. Raises errors.NotFound."""
    _change_step(db, round, phase, state="done", note=note, ended_at=now)


def fail_step(db: Connection, round: int, phase: str, note: str, now: datetime) -> None:
    """End a phase that failed; `note` says why. Raises errors.NotFound."""
    _change_step(db, round, phase, state="failed", note=note, ended_at=now)


def _is(round: int, phase: str) -> tuple[Any, Any]:
    return tables.steps.c.round == round, tables.steps.c.phase == phase


def _change_step(db: Connection, round: int, phase: str, **values: object) -> None:
    if db.execute(update(tables.steps).where(*_is(round, phase)).values(**values)).rowcount == 0:
        raise errors.NotFound(f"phase {phase} of round {round} has not begun")
