"""The ledger's steps for a group of calls: one statement each, however many calls there are.

What the states mean, and a call by itself, is in teaching. A group is small: what leaves or comes back together.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import Connection, Table, Update, bindparam, select, update

from wizloop.store import errors, ledger, rows, tables
from wizloop.store.engine import upsert

ENDS = ("parsed", "refused", "failed")
_OPEN = ("planned", "reserved", "sent", "received")


@dataclass(frozen=True, slots=True)
class NewCall:
    """One question before it is sent."""

    key: str
    """SHA-256, hexadecimal, of everything that decides the answer, the attempt with it."""
    sample_id: int
    round: int
    teacher: str
    model: str
    attempt: int
    request_json: str


@dataclass(frozen=True, slots=True)
class Held:
    """Where a call stands: its state, and the money that is held for it and that it has cost, in micro-dollars."""

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
    """An answer as it came, and what it costs in micro-dollars."""

    call_id: int
    raw: str
    usage_json: str | None
    request_id: str | None
    stop_reason: str | None
    cost_micro: int


@dataclass(frozen=True, slots=True)
class Ended:
    """What a call ends as: parsed, refused or failed, the teacher's outcome, and which kind of it."""

    call_id: int
    state: str
    outcome: str
    category: str | None = None


@dataclass(frozen=True, slots=True)
class NewTrace:
    """The trace that a call's answer holds."""

    call_id: int
    verdict: dict[str, str | None]
    confidence_word: str
    trace_json: str
    explanation: str
    steps_json: str


_CALLS = tables.teacher_calls
_HELD = select(*rows.columns(_CALLS, Held)).order_by(_CALLS.c.id)
_BY_ID = _HELD.where(_CALLS.c.id.in_(bindparam("wanted", expanding=True)))
_BY_KEY = _HELD.where(_CALLS.c.key.in_(bindparam("wanted", expanding=True)))


@cache
def _insert(dialect: str, table: Table, once: str) -> Any:
    """An insert that leaves out what is there already, built once for each kind of database."""
    return upsert(dialect, table).on_conflict_do_nothing(index_elements=[once])


@cache
def _insert_calls(dialect: str) -> Any:
    """The same for calls; where those stand that are new."""
    return _insert(dialect, _CALLS, "key").returning(*rows.columns(_CALLS, Held))


def _set(*changed: str) -> Update:
    """An update of one call, for as many calls as it is given; `of` is the call's id."""
    return update(_CALLS).where(_CALLS.c.id == bindparam("of")).values({name: bindparam(name) for name in changed})


_RESERVE = _set("state", "reserved_micro")
_SEND = _set("state", "reserved_micro", "sent_at")
_RECEIVE = _set(
    "state",
    "reserved_micro",
    "cost_micro",
    "raw",
    "usage_json",
    "request_id",
    "stop_reason",
    "received_at",
)
_END = _set("state", "reserved_micro", "cost_micro", "outcome", "category")


def held(db: Connection, call_ids: Collection[int]) -> dict[int, Held]:
    """Where these calls stand, by id. Raises errors.NotFound."""
    found = {one.id: one for one in _found(db, _BY_ID, list(call_ids))}
    missing = next((call_id for call_id in call_ids if call_id not in found), None)
    if missing is not None:
        raise errors.NotFound(f"there is no teacher call with the id {missing}")
    return found


def plan(db: Connection, new: Sequence[NewCall], now: datetime) -> dict[str, Held]:
    """Write calls down before anything is sent; where they stand, by key. The same key is the same call."""
    if not new:
        return {}
    fresh = {"state": "planned", "reserved_micro": 0, "created_at": now}
    made = db.execute(_insert_calls(db.dialect.name), [{**rows.values(one), **fresh} for one in new])
    found = {one.key: one for one in (Held(*row) for row in made)}
    there = [one.key for one in new if one.key not in found]
    return found | {one.key: one for one in _found(db, _BY_KEY, there)}


def reserve(
    db: Connection, standing: Mapping[int, Held], worst_micro: Mapping[int, int], *, sent_at: datetime | None = None
) -> set[int]:
    """Hold the most that planned calls can cost, in their order, for as many as the cap allows; those it was held for.

    With `sent_at` they are noted as sent in the same step. Raises errors.WrongState, and ValueError for a cost below
    zero.
    """
    money, holding, affordable = ledger.budget(db), 0, {}
    for call_id, worst in worst_micro.items():
        if worst < 0:
            raise ValueError(f"a call cannot cost {worst} micro-dollars")
        _demand(standing[call_id], "planned")
        if money.allows(holding + worst) or worst == 0:
            affordable[call_id] = worst
            holding += worst
    if sent_at is None:
        changes = [_of(call_id, "reserved", held=worst) for call_id, worst in affordable.items()]
    else:
        leaving = {"sent_at": sent_at}
        changes = [_of(call_id, "sent", held=worst) | leaving for call_id, worst in affordable.items()]
    _execute(db, _RESERVE if sent_at is None else _SEND, changes)
    ledger.change(db, reserved=holding)
    return set(affordable)


def receive(db: Connection, standing: Mapping[int, Held], came: Sequence[Received], now: datetime) -> None:
    """Keep answers as they came and settle their costs; an ambiguous call may still be answered.

    Raises errors.WrongState.
    """
    changes = []
    for one in came:
        before = _demand(standing[one.call_id], "sent", "ambiguous")
        changed = _of(one.call_id, "received", cost=_plus(before, one.cost_micro))
        for name in ("raw", "usage_json", "request_id", "stop_reason"):
            changed[name] = getattr(one, name)
        changes.append({**changed, "received_at": now})
    _execute(db, _RECEIVE, changes)
    freed = sum(standing[one.call_id].reserved_micro for one in came)
    ledger.change(db, settled=sum(one.cost_micro for one in came), reserved=-freed)


def finish(db: Connection, standing: Mapping[int, Held], ended: Sequence[Ended]) -> None:
    """End calls as parsed, refused or failed; what was still held for them is free again.

    A call that was sent and is known not to have been billed ends so too. Raises errors.WrongState.
    """
    changes = []
    for one in ended:
        if one.state not in ENDS:
            raise errors.WrongState(f"a teacher call ends as one of {', '.join(ENDS)}, not as {one.state}")
        before = _demand(standing[one.call_id], *(("received",) if one.state == "parsed" else _OPEN))
        changed = _of(one.call_id, one.state, cost=_plus(before, 0))
        changes.append({**changed, "outcome": one.outcome, "category": one.category})
    _execute(db, _END, changes)
    ledger.change(db, reserved=-sum(standing[one.call_id].reserved_micro for one in ended))


def add_traces(db: Connection, standing: Mapping[int, Held], new: Sequence[NewTrace], now: datetime) -> None:
    """Keep the traces that calls' answers hold. A call has one trace: a second one is not taken."""
    if not new:
        return
    made = []
    for one in new:
        call = standing[one.call_id]
        about = {"sample_id": call.sample_id, "round": call.round, "teacher": call.teacher, "created_at": now}
        made.append({**rows.values(one), **about})
    db.execute(_insert(db.dialect.name, tables.teacher_traces, "call_id"), made)


def _found(db: Connection, query: Any, wanted: Sequence[Any]) -> list[Held]:
    return [Held(*row) for piece in rows.pieces(wanted, 500) for row in db.execute(query, {"wanted": list(piece)})]


def _demand(call: Held, *allowed: str) -> Held:
    if call.state not in allowed:
        raise errors.WrongState(f"teacher call {call.id} is {call.state}: it must be {' or '.join(allowed)} for this")
    return call


def _of(call_id: int, state: str, **money: int) -> dict[str, Any]:
    """The parameters of a change; what is not held any more is 0."""
    changed: dict[str, Any] = {"of": call_id, "state": state, "reserved_micro": money.get("held", 0)}
    return changed | ({"cost_micro": money["cost"]} if "cost" in money else {})


def _plus(before: Held, cost_micro: int) -> int:
    return (before.cost_micro or 0) + cost_micro


def _execute(db: Connection, change: Update, rows_: list[dict[str, Any]]) -> None:
    if rows_:
        db.execute(change, rows_)
