"""Writes to teacher calls: a call is a row before it is sent, and is never deleted. Queries are in `teacher_calls`.

planned -> reserved -> sent -> received -> parsed | refused | failed
                         `---> ambiguous (in flight at a kill: its reservation stays charged)

Each step changes a group of calls with one statement, however many there are.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Update, bindparam, func, or_, select, update
from sqlalchemy.dialects.sqlite import insert

from wizloop.store import errors, rows, spending, tables

ENDS = ("parsed", "refused", "failed")
_OPEN = ("planned", "reserved", "sent", "received")
_IN_FLIGHT = ("sent", "ambiguous")
"""An ambiguous call may still be answered."""
_NOT_SENT: dict[str, Any] = {"state": "planned", "reserved_micro": 0, "sent_at": None}


@dataclass(frozen=True, slots=True)
class NewCall:
    """One question before it is sent."""

    key: str
    """SHA-256, hexadecimal, of everything that decides the answer, including the attempt number."""
    sample_id: int
    round: int
    teacher: str
    model: str
    attempt: int
    request_json: str


@dataclass(frozen=True, slots=True)
class CallState:
    """A call's state, its reservation and its cost so far, in micro-dollars."""

    id: int
    key: str
    state: str
    reserved_micro: int
    cost_micro: int | None
    sample_id: int
    round: int
    teacher: str


@dataclass(frozen=True, slots=True)
class Received:
    """An answer as received, its cost in micro-dollars and its outcome."""

    call_id: int
    raw: str
    usage_json: str | None
    request_id: str | None
    stop_reason: str | None
    cost_micro: int
    outcome: str | None = None
    """The outcome to end the call with; the call is still open."""
    category: str | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """A call's final state (parsed, refused or failed), the teacher's outcome and its category."""

    call_id: int
    state: str
    outcome: str
    category: str | None = None


@dataclass(frozen=True, slots=True)
class NewTrace:
    """The trace in a call's answer."""

    call_id: int
    verdict: dict[str, str | None]
    confidence_word: str
    trace_json: str
    explanation: str
    steps_json: str


_CALLS = tables.teacher_calls
_STATES = select(*rows.columns(_CALLS, CallState)).order_by(_CALLS.c.id)
_BY_ID = _STATES.where(_CALLS.c.id.in_(bindparam("wanted", expanding=True)))
_BY_KEY = _STATES.where(_CALLS.c.key.in_(bindparam("wanted", expanding=True)))


_NEW_STATES = rows.columns(_CALLS, CallState)
_INSERT_CALLS = insert(_CALLS).on_conflict_do_nothing(index_elements=["key"]).returning(*_NEW_STATES)
_INSERT_TRACES = insert(tables.teacher_traces).on_conflict_do_nothing(index_elements=["call_id"])


def _set(*changed: str, of: Sequence[str]) -> Update:
    """Build the update of one call, whose id is `at`, if it is in one of the states `of`."""
    # Not `in_`: SQLAlchemy would expand it again for each call.
    one = update(_CALLS).where(_CALLS.c.id == bindparam("at"), or_(*(_CALLS.c.state == state for state in of)))
    return one.values({name: bindparam(name) for name in changed})


_MONEY = ("state", "reserved_micro", "cost_micro")
_ANSWER = ("raw", "usage_json", "request_id", "stop_reason", "outcome", "category")
_RESERVE = _set("state", "reserved_micro", of=("planned",))
_SEND = _set("state", "sent_at", of=("reserved",))
_RECEIVE = _set(*_MONEY, *_ANSWER, "received_at", of=_IN_FLIGHT)
_END = _set(*_MONEY, "outcome", "category", of=_OPEN)
_DOUBT = _set("state", "outcome", "category", "raw", of=("sent",))
_REPLAN = _set(*_MONEY, "sent_at", "outcome", "category", "raw", "round", of=_IN_FLIGHT)


def states(db: Connection, call_ids: Collection[int]) -> dict[int, CallState]:
    """Return the states of calls, by id. Raises errors.NotFound."""
    found = {call.id: call for call in _select(db, _BY_ID, list(call_ids))}
    missing = next((call_id for call_id in call_ids if call_id not in found), None)
    if missing is not None:
        raise errors.NotFound(f"there is no teacher call with the id {missing}")
    return found


def plan(db: Connection, new: Sequence[NewCall], now: datetime) -> dict[str, CallState]:
    """Record calls before anything is sent, and return their states by key. The same key is the same call."""
    fresh = {"state": "planned", "reserved_micro": 0, "created_at": now}
    made = _add(db, [{**rows.values(call), **fresh} for call in new])
    return made | _existing(db, new, made)


def send(
    db: Connection, new: Sequence[NewCall], worst_micro: Mapping[str, int], now: datetime
) -> tuple[dict[str, CallState], dict[str, CallState]]:
    """Record calls that are sent when this is committed, and reserve the most that each can cost.

    Money is reserved in the order of `new`, as far as the cap allows; the other calls are only planned. Returns the
    states of the new calls and those of calls that existed, unchanged, each by key. Raises ValueError for a negative
    cost.
    """
    money, reserved, fresh = spending.budget(db), 0, []
    for call in new:
        worst = _not_negative(worst_micro[call.key])
        fits = money.allows(reserved + worst) or worst == 0
        reserved += worst if fits else 0
        state = {"state": "sent", "reserved_micro": worst, "sent_at": now} if fits else _NOT_SENT
        fresh.append({**rows.values(call), **state, "created_at": now})
    made = _add(db, fresh)
    spending.add(db, reserved=sum(call.reserved_micro for call in made.values()))
    return made, _existing(db, new, made)


def reserve(db: Connection, before: Mapping[int, CallState], worst_micro: Mapping[int, int]) -> set[int]:
    """Reserve the most that planned calls can cost, in their order, as far as the cap allows; return the paid ids.

    Raises errors.WrongState, and ValueError for a negative cost.
    """
    money, reserved, paid = spending.budget(db), 0, {}
    for call_id, worst in worst_micro.items():
        _demand(before[call_id], "planned")
        if money.allows(reserved + _not_negative(worst)) or worst == 0:
            paid[call_id] = worst
            reserved += worst
    changes = [{"at": call_id, "state": "reserved", "reserved_micro": worst} for call_id, worst in paid.items()]
    _execute(db, _RESERVE, changes)
    spending.add(db, reserved=reserved)
    return set(paid)


def mark_sent(db: Connection, call_ids: Collection[int], now: datetime) -> None:
    """Mark calls as sent, before the requests leave. Raises errors.WrongState unless all are reserved."""
    for call in states(db, call_ids).values():
        _demand(call, "reserved")
    _execute(db, _SEND, [{"at": call_id, "state": "sent", "sent_at": now} for call_id in call_ids])


def receive(
    db: Connection, before: Mapping[int, CallState], answers: Sequence[Received], now: datetime
) -> dict[int, CallState]:
    """Store answers as received and settle their costs; return the new states by id.

    Raises errors.WrongState, also if a call has changed since `before` was read.
    """
    changes, after = [], {}
    for answer in answers:
        call = _demand(before[answer.call_id], *_IN_FLIGHT)
        cost = (call.cost_micro or 0) + answer.cost_micro
        after[call.id] = replace(call, state="received", reserved_micro=0, cost_micro=cost)
        kept = {name: getattr(answer, name) for name in _ANSWER}
        changes.append({"at": call.id, **_settled("received", cost), **kept, "received_at": now})
    _execute(db, _RECEIVE, changes)
    released = sum(before[answer.call_id].reserved_micro for answer in answers)
    spending.add(db, settled=sum(answer.cost_micro for answer in answers), reserved=-released)
    return after


def finish(db: Connection, before: Mapping[int, CallState], ended: Sequence[Ended]) -> None:
    """End calls as parsed, refused or failed, and release what is still reserved for them.

    Also ends a call that was sent and was certainly not billed. Raises errors.WrongState, also if a call has changed
    since `before` was read.
    """
    changes = []
    for end in ended:
        if end.state not in ENDS:
            raise errors.WrongState(f"a teacher call ends as one of {', '.join(ENDS)}, not as {end.state}")
        call = _demand(before[end.call_id], *(("received",) if end.state == "parsed" else _OPEN))
        money = _settled(end.state, call.cost_micro or 0)
        changes.append({"at": call.id, **money, "outcome": end.outcome, "category": end.category})
    _execute(db, _END, changes)
    spending.add(db, reserved=-sum(before[end.call_id].reserved_micro for end in ended))


def note_adapted(db: Connection, call_ids: Sequence[int], adapted: Sequence[str]) -> None:
    """Note with calls what was changed in their requests because the model does not take it. Their keys stay."""
    noted = func.json_set(_CALLS.c.request_json, "$.adapted", func.json(json.dumps(list(adapted))))
    db.execute(update(_CALLS).where(_CALLS.c.id.in_(call_ids)).values(request_json=noted))


def blame_teacher(db: Connection, call_ids: Sequence[int]) -> None:
    """Let calls that ended as refused be failures of the request: they were not billed, and may be asked again."""
    blamed = update(_CALLS).where(_CALLS.c.id.in_(call_ids), _CALLS.c.state == "refused")
    db.execute(blamed.values(state="failed", outcome="parameter"))


def mark_ambiguous(
    db: Connection,
    call_ids: Collection[int],
    *,
    outcome: str | None = None,
    category: str | None = None,
    raw: str | None = None,
) -> None:
    """Mark calls that may or may not have been answered and billed: their reservations stay.

    A call in flight when a process died has no outcome; a call that was seen to break off has one, and perhaps part
    of its answer in `raw`. Raises errors.WrongState.
    """
    for call in states(db, call_ids).values():
        _demand(call, "sent")
    change = {"state": "ambiguous", "outcome": outcome, "category": category, "raw": raw}
    _execute(db, _DOUBT, [{"at": call_id, **change} for call_id in call_ids])


def replan(db: Connection, call_ids: Collection[int], round: int | None = None) -> None:
    """Let sent or ambiguous calls be sent again, in `round` or their own: the teacher is free, or a person asked.

    Their reservations count as spent, since they may have been billed. Raises errors.WrongState.
    """
    calls = [_demand(call, *_IN_FLIGHT) for call in states(db, call_ids).values()]
    fresh = {"sent_at": None, "outcome": None, "category": None, "raw": None}
    changes = []
    for call in calls:
        money = _settled("planned", (call.cost_micro or 0) + call.reserved_micro)
        changes.append({"at": call.id, **money, **fresh, "round": call.round if round is None else round})
    _execute(db, _REPLAN, changes)
    reserved = sum(call.reserved_micro for call in calls)
    spending.add(db, settled=reserved, reserved=-reserved)


def add_traces(db: Connection, before: Mapping[int, CallState], new: Sequence[NewTrace], now: datetime) -> None:
    """Store the traces in calls' answers. A call has one trace: a second one is ignored."""
    if not new:
        return
    made = []
    for trace in new:
        call = before[trace.call_id]
        about = {"sample_id": call.sample_id, "round": call.round, "teacher": call.teacher, "created_at": now}
        made.append({**rows.values(trace), **about})
    db.execute(_INSERT_TRACES, made)


def _add(db: Connection, fresh: list[dict[str, Any]]) -> dict[str, CallState]:
    """Insert calls; return the states of the new ones, by key."""
    if not fresh:
        return {}
    return {call.key: call for call in (CallState(*row) for row in db.execute(_INSERT_CALLS, fresh))}


def _existing(db: Connection, new: Sequence[NewCall], made: Mapping[str, CallState]) -> dict[str, CallState]:
    """Return the states of calls that existed before, by key."""
    return {call.key: call for call in _select(db, _BY_KEY, [one.key for one in new if one.key not in made])}


def _select(db: Connection, query: Any, wanted: Sequence[Any]) -> list[CallState]:
    return [CallState(*row) for piece in rows.pieces(wanted, 500) for row in db.execute(query, {"wanted": list(piece)})]


def _demand(call: CallState, *allowed: str) -> CallState:
    if call.state not in allowed:
        raise errors.WrongState(f"teacher call {call.id} is {call.state}: it must be {' or '.join(allowed)} for this")
    return call


def _settled(state: str, cost_micro: int) -> dict[str, Any]:
    return {"state": state, "reserved_micro": 0, "cost_micro": cost_micro}


def _not_negative(micro: int) -> int:
    if micro < 0:
        raise ValueError(f"a call cannot cost {micro} micro-dollars")
    return micro


def _execute(db: Connection, change: Update, changes: list[dict[str, Any]]) -> None:
    if not changes:
        return
    done = db.execute(change, changes)
    if done.supports_sane_multi_rowcount() and done.rowcount != len(changes):
        ids = ", ".join(str(one["at"]) for one in changes)
        raise errors.WrongState(f"another process changed one of the teacher calls {ids}: nothing was written")
