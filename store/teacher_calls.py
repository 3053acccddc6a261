"""The intent ledger: a teacher call is a row before it is sent, and is never deleted. Sends nothing, parses nothing.

planned -> reserved -> sent -> received -> parsed | refused | failed
                         `---> ambiguous (in flight at a kill: its reservation stays charged)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, func, select, update

from wizloop.store import errors, ledger, rows, tables, teacher_calls_bulk
from wizloop.store.ledger import Budget, budget
from wizloop.store.teacher_calls_bulk import Ended, NewCall, NewTrace, Received

__all__ = ["Budget", "Call", "TeacherTrace", "budget"]


@dataclass(frozen=True, slots=True)
class Call:
    """One question to a teacher, and what became of it. Money in micro-dollars."""

    id: int
    key: str
    """SHA-256, hexadecimal, of everything that decides the answer, the attempt with it."""
    sample_id: int
    round: int
    teacher: str
    model: str
    attempt: int
    state: str
    outcome: str | None
    """The teacher's; a call that is received has one, and has not ended."""
    category: str | None
    reserved_micro: int
    """What is held back for it now: the most it can cost, until it is settled."""
    cost_micro: int | None
    request_json: str
    raw: str | None
    """The answer as it came, stored before anyone parses it."""
    usage_json: str | None
    request_id: str | None
    stop_reason: str | None
    created_at: datetime
    sent_at: datetime | None
    received_at: datetime | None


@dataclass(frozen=True, slots=True)
class TeacherTrace:
    """A teacher's rationale and the verdict that it ends in."""

    id: int
    call_id: int
    sample_id: int
    round: int
    teacher: str
    verdict: dict[str, str | None]
    confidence_word: str
    """low, medium or high, by the teacher's own word."""
    trace_json: str
    explanation: str
    steps_json: str
    created_at: datetime


_CALL = rows.columns(tables.teacher_calls, Call)
_ONE = select(*_CALL).where(tables.teacher_calls.c.id == bindparam("wanted"))
_TRACE = rows.columns(tables.teacher_traces, TeacherTrace)


def came_to(state: str, outcome: str | None) -> str:
    """What a call came to in one word: its outcome, or its state where it has none, or has one and has not ended."""
    return state if state == "received" else outcome or state


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
    """Write a call down before anything is sent; its id. The same key is the same call, whatever became of it."""
    new = NewCall(key, sample_id, round, teacher, model, attempt, request_json)
    return teacher_calls_bulk.plan(db, [new], now)[key].id


def call(db: Connection, call_id: int) -> Call:
    """One call. Raises errors.NotFound."""
    row = db.execute(_ONE, {"wanted": call_id}).first()
    if row is None:
        raise errors.NotFound(f"there is no teacher call with the id {call_id}")
    return Call(*row)


def calls(db: Connection, round: int, states: Sequence[str] = ()) -> list[Call]:
    """The calls of a round, in the order of their planning; those in `states` only, where any are given."""
    table = tables.teacher_calls
    query = select(*_CALL).where(table.c.round == round).order_by(table.c.id)
    return rows.every(db, Call, query.where(table.c.state.in_(states)) if states else query)


def calls_for(db: Connection, sample_id: int) -> list[Call]:
    """Every call about one sample, in the order of their planning."""
    table = tables.teacher_calls
    return rows.every(db, Call, select(*_CALL).where(table.c.sample_id == sample_id).order_by(table.c.id))


def calls_about(db: Connection, sample_ids: Sequence[int]) -> dict[int, list[Call]]:
    """The calls about each of these samples, in the order of their planning; a sample without one is left out."""
    table, found = tables.teacher_calls, dict[int, list[Call]]()
    for piece in rows.pieces(sample_ids, 500):
        query = select(*_CALL).where(table.c.sample_id.in_(piece)).order_by(table.c.id)
        for one in rows.every(db, Call, query):
            found.setdefault(one.sample_id, []).append(one)
    return found


def reserve(db: Connection, call_id: int, worst_micro: int) -> None:
    """Hold the most that a planned call can cost. Raises errors.OverBudget (nothing is held), errors.WrongState."""
    if teacher_calls_bulk.reserve(db, teacher_calls_bulk.held(db, [call_id]), {call_id: worst_micro}):
        return
    money = budget(db)
    raise errors.OverBudget(
        f"call {call_id} can cost {_usd(worst_micro)}, but of {_usd(money.cap_micro or 0)} there is "
        f"{_usd(money.settled_micro)} spent and {_usd(money.reserved_micro)} reserved"
    )


def mark_sent(db: Connection, call_ids: Sequence[int], now: datetime) -> None:
    """Note, before the requests leave, that they do. Raises errors.WrongState unless the money of all is reserved."""
    table = tables.teacher_calls
    for piece in rows.pieces(call_ids, 500):
        left = update(table).where(table.c.id.in_(piece), table.c.state == "reserved")
        if db.execute(left.values(state="sent", sent_at=now)).rowcount != len(piece):
            now_there = [call(db, one) for one in piece]
            wrong = next((one for one in now_there if one.state != "sent"), now_there[0])
            raise errors.WrongState(f"teacher call {wrong.id} is {wrong.state}: it must be reserved for this")


def mark_received(
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
    """Keep the answer as it came and settle its cost; an ambiguous call may still be answered.

    Raises errors.WrongState.
    """
    came = Received(call_id, raw, usage_json, request_id, stop_reason, cost_micro)
    teacher_calls_bulk.receive(db, teacher_calls_bulk.held(db, [call_id]), [came], now)


def finish(db: Connection, call_id: int, state: str, outcome: str, category: str | None = None) -> None:
    """End a call as parsed, refused or failed; what was still held for it is free again.

    A call that was sent and is known not to have been billed ends so too. Raises errors.WrongState.
    """
    teacher_calls_bulk.finish(db, teacher_calls_bulk.held(db, [call_id]), [Ended(call_id, state, outcome, category)])


def in_flight(db: Connection) -> list[Call]:
    """The calls that were sent and not received."""
    return _in(db, "sent")


def received(db: Connection) -> list[Call]:
    """The calls whose answers were stored and have not been read."""
    return _in(db, "received")


def answered(db: Connection, teacher: str, model: str, limit: int) -> list[Call]:
    """The newest calls that a teacher's model answered with a trace."""
    table = tables.teacher_calls
    query = select(*_CALL).where(table.c.state == "parsed", table.c.teacher == teacher, table.c.model == model)
    return rows.every(db, Call, query.order_by(table.c.id.desc()).limit(limit))


def ambiguous(db: Connection) -> list[Call]:
    """The calls of which nobody knows whether they were answered."""
    return _in(db, "ambiguous")


def mark_ambiguous(
    db: Connection,
    call_ids: Sequence[int],
    *,
    outcome: str | None = None,
    category: str | None = None,
    raw: str | None = None,
) -> None:
    """Note that nobody knows whether these calls were answered and billed: their reservations stay.

    What was in flight when a process died has no outcome; a call that was seen to break off has one, and perhaps a
    part of its answer in `raw`. Raises errors.WrongState.
    """
    for call_id in call_ids:
        held = _in_state(db, call_id, "sent")
        _change(db, held, state="ambiguous", outcome=outcome, category=category, raw=raw)


def replan(db: Connection, call_ids: Sequence[int], round: int | None = None) -> None:
    """Let sent or ambiguous calls be asked again, in `round` or their own: a free teacher, or a person said so.

    What was held for them counts as spent, since they may have been billed. Raises errors.WrongState.
    """
    for call_id in call_ids:
        held = _in_state(db, call_id, "sent", "ambiguous")
        fresh: dict[str, Any] = {"state": "planned", "sent_at": None, "outcome": None, "category": None, "raw": None}
        if round is not None:
            fresh["round"] = round
        _change(db, held, **fresh, **_settle(db, held, held.reserved_micro))


def call_counts(db: Connection, round: int) -> dict[str, int]:
    """How many calls of a round are in which state."""
    table = tables.teacher_calls
    query = select(table.c.state, func.count()).where(table.c.round == round).group_by(table.c.state)
    return rows.counted(db, query.order_by(table.c.state))


def spent_micro(db: Connection, round: int) -> int:
    """What the calls of a round have cost so far, without what is reserved."""
    table = tables.teacher_calls
    return int(db.scalar(select(func.sum(table.c.cost_micro)).where(table.c.round == round)) or 0)


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
    """Keep the trace that a call's answer holds; its id. A call has one trace: a second one is not taken."""
    new = NewTrace(call_id, verdict, confidence_word, trace_json, explanation, steps_json)
    teacher_calls_bulk.add_traces(db, teacher_calls_bulk.held(db, [call_id]), [new], now)
    return int(db.scalars(select(tables.teacher_traces.c.id).where(tables.teacher_traces.c.call_id == call_id)).one())


def traces(db: Connection, round: int) -> list[TeacherTrace]:
    """The teachers' traces of a round, in the order in which they came."""
    table = tables.teacher_traces
    return rows.every(db, TeacherTrace, select(*_TRACE).where(table.c.round == round).order_by(table.c.id))


def traces_for(db: Connection, sample_id: int) -> list[TeacherTrace]:
    """Every teacher's trace of one sample."""
    table = tables.teacher_traces
    return rows.every(db, TeacherTrace, select(*_TRACE).where(table.c.sample_id == sample_id).order_by(table.c.id))


def trace(db: Connection, trace_id: int) -> TeacherTrace:
    """One trace. Raises errors.NotFound."""
    found = rows.first(db, TeacherTrace, select(*_TRACE).where(tables.teacher_traces.c.id == trace_id))
    if found is None:
        raise errors.NotFound(f"there is no teacher's trace with the id {trace_id}")
    return found


def _in(db: Connection, state: str) -> list[Call]:
    table = tables.teacher_calls
    return rows.every(db, Call, select(*_CALL).where(table.c.state == state).order_by(table.c.id))


def _in_state(db: Connection, call_id: int, *allowed: str) -> Call:
    found = call(db, call_id)
    if found.state not in allowed:
        raise errors.WrongState(f"teacher call {call_id} is {found.state}: it must be {' or '.join(allowed)} for this")
    return found


def _settle(db: Connection, held: Call, cost_micro: int) -> dict[str, Any]:
    """Free what is held for a call and charge its cost, on top of what it has cost before."""
    ledger.change(db, settled=cost_micro, reserved=-held.reserved_micro)
    return {"reserved_micro": 0, "cost_micro": (held.cost_micro or 0) + cost_micro}


def _change(db: Connection, held: Call, **values: object) -> None:
    db.execute(update(tables.teacher_calls).where(tables.teacher_calls.c.id == held.id).values(**values))


def _usd(micro: int) -> str:
    return f"${micro / 1_000_000:.4f}"
