"""The writes of `wizloop.store.call_writes` for one call at a time, for tests that set a ledger up by hand."""

from datetime import datetime
from typing import Any

from sqlalchemy import select

from wizloop.store import call_writes, rows, tables
from wizloop.store.call_writes import Ended, NewCall, NewTrace, Received
from wizloop.store.db import Connection
from wizloop.store.teacher_calls import Call


class OverBudget(Exception):
    """The cap does not allow the reservation."""


def call(db: Connection, call_id: int) -> Call:
    table = tables.teacher_calls
    (found,) = rows.every(db, Call, select(*rows.columns(table, Call)).where(table.c.id == call_id))
    return found


def sending(db: Connection, call_id: int) -> Any:
    """The row on how a call was sent, or None."""
    return db.execute(select(tables.sendings).where(tables.sendings.c.call_id == call_id)).first()


def plan(
    db: Connection,
    *,
    key: str,
    sample_id: int,
    round: int,
    teacher: str,
    model: str,
    attempt: int,
    request_json: str,
    now: datetime,
) -> int:
    new = NewCall(key, sample_id, round, teacher, model, attempt, request_json)
    return call_writes.plan(db, [new], now)[key].id


def reserve(db: Connection, call_id: int, worst_micro: int) -> None:
    if not call_writes.reserve(db, call_writes.states(db, [call_id]), {call_id: worst_micro}):
        raise OverBudget(call_id)


def receive(
    db: Connection,
    call_id: int,
    *,
    raw: str,
    usage_json: str | None,
    request_id: str | None,
    stop_reason: str | None,
    cost_micro: int,
    now: datetime,
) -> None:
    answer = Received(call_id, raw, usage_json, request_id, stop_reason, cost_micro)
    call_writes.receive(db, call_writes.states(db, [call_id]), [answer], now)


def finish(db: Connection, call_id: int, state: str, outcome: str, category: str | None = None) -> None:
    call_writes.finish(db, call_writes.states(db, [call_id]), [Ended(call_id, state, outcome, category)])


def add_trace(
    db: Connection,
    *,
    call_id: int,
    verdict: dict[str, str | None],
    confidence_word: str,
    trace_json: str,
    explanation: str,
    steps_json: str,
    now: datetime,
) -> int:
    new = NewTrace(call_id, verdict, confidence_word, trace_json, explanation, steps_json)
    call_writes.add_traces(db, call_writes.states(db, [call_id]), [new], now)
    table = tables.teacher_traces
    return int(db.scalars(select(table.c.id).where(table.c.call_id == call_id)).one())
