"""Rounds and the phases in them: what has begun, how far it is, what it came to. The order of phases is the loop's."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select, update

from wizloop.store import errors, rows, tables
from wizloop.store.engine import upsert


@dataclass(frozen=True, slots=True)
class Round:
    """One turn of the loop; models by id. `passed` is the gate's decision, None before it."""

    number: int
    champion_before: int | None
    champion_after: int | None
    challenger: int | None
    passed: bool | None
    gate_reason: str | None
    record: dict[str, Any]
    """What the round measured and was made with: thresholds, shares, hashes, counts."""
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
    """When the latest attempt began."""
    ended_at: datetime | None


def begin_round(db: Connection, number: int, champion_before: int | None, now: datetime) -> None:
    """Begin a round; one that has begun stays as it is."""
    new = upsert(db, tables.rounds).values(number=number, champion_before=champion_before, record={}, started_at=now)
    db.execute(new.on_conflict_do_nothing())


def get_round(db: Connection, number: int) -> Round | None:
    """One round, or None when it has not begun."""
    query = select(*rows.columns(tables.rounds, Round)).where(tables.rounds.c.number == number)
    return rows.first(db, Round, query)


def rounds(db: Connection) -> list[Round]:
    """All rounds that have begun, in order."""
    return rows.every(db, Round, select(*rows.columns(tables.rounds, Round)).order_by(tables.rounds.c.number))


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
    """Note the gate's decision; `record_json`, an object, is merged into the record. Raises errors.NotFound."""
    merge_record(db, number, json.loads(record_json))
    outcome = {"champion_after": champion_after, "challenger": challenger, "passed": passed, "gate_reason": gate_reason}
    table = tables.rounds
    db.execute(update(table).where(table.c.number == number).values(**outcome, ended_at=now))


def merge_record(db: Connection, number: int, record: Mapping[str, Any]) -> None:
    """Add to a round's record, key by key; a key that is there is replaced. Raises errors.NotFound."""
    there = get_round(db, number)
    if there is None:
        raise errors.NotFound(f"round {number} has not begun")
    table = tables.rounds
    db.execute(update(table).where(table.c.number == number).values(record={**there.record, **record}))


def step(db: Connection, round: int, phase: str) -> Step | None:
    """One phase of one round, or None when it has not begun."""
    return rows.first(db, Step, select(*rows.columns(tables.steps, Step)).where(*_is(round, phase)))


def steps(db: Connection, round: int) -> list[Step]:
    """The phases of a round that have begun, in the order in which they last began."""
    table = tables.steps
    query = select(*rows.columns(table, Step)).where(table.c.round == round).order_by(table.c.started_at)
    return rows.every(db, Step, query)


def begin_step(db: Connection, round: int, phase: str, now: datetime) -> None:
    """Begin a phase, or begin it again: one more attempt, before any of its work."""
    fresh = {"state": "running", "note": "", "started_at": now, "ended_at": None}
    new = upsert(db, tables.steps).values(round=round, phase=phase, attempts=1, done=0, total=0, **fresh)
    again = {**fresh, "attempts": tables.steps.c.attempts + 1}
    db.execute(new.on_conflict_do_update(index_elements=["round", "phase"], set_=again))


def progress(db: Connection, round: int, phase: str, done: int, total: int, waiting: str = "") -> None:
    """Say how far a phase is, and what it waits for, if anything, as its note. Raises errors.NotFound."""
    _change_step(db, round, phase, done=done, total=total, note=waiting)


def finish_step(db: Connection, round: int, phase: str, note: str, now: datetime) -> None:
    """End a phase: all of its work is in the store. Raises errors.NotFound."""
    _change_step(db, round, phase, state="done", note=note, ended_at=now)


def fail_step(db: Connection, round: int, phase: str, note: str, now: datetime) -> None:
    """End a phase that could not do its work; `note` says why. Raises errors.NotFound."""
    _change_step(db, round, phase, state="failed", note=note, ended_at=now)


def _is(round: int, phase: str) -> tuple[Any, Any]:
    return tables.steps.c.round == round, tables.steps.c.phase == phase


def _change_step(db: Connection, round: int, phase: str, **values: object) -> None:
    if db.execute(update(tables.steps).where(*_is(round, phase)).values(**values)).rowcount == 0:
        raise errors.NotFound(f"phase {phase} of round {round} has not begun")
