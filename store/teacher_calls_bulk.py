"""The ledger's steps for a group of calls: one statement each, however many calls there are.

What the states mean, and a call by itself, is in teaching. A group is small: what leaves or comes back together.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import Connection, Table, Update, bindparam, or_, select, update

from wizloop.store import errors, ledger, rows, tables
from wizloop.store.engine import upsert

ENDS = ("parsed", "refused", "failed")
_OPEN = ("planned", "reserved", "sent", "received")
_NOT_SENT: dict[str, Any] = {"state": "planned", "reserved_micro": 0, "sent_at": None}
_UNDER_WAY = ("sent", "ambiguous")
"""An ambiguous call may still be answered."""


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
    """An answer as it came, what it costs in micro-dollars, and what it was judged to be."""

    call_id: int
    raw: str
    usage_json: str | None
    request_id: str | None
    stop_reason: str | None
    cost_micro: int
    outcome: str | None = None
    """What the call is to end with; it has not ended by that."""
    category: str | None = None


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


def _set(*changed: str, of: Sequence[str]) -> Update:
    """An update of one call, for as many calls as it is given, that are in one of the states `of`; `at` is its id."""
    # Not `in_`, whose length would be looked at for each call.
    one = update(_CALLS).where(_CALLS.c.id == bindparam("at"), or_(*(_CALLS.c.state == state for state in of)))
    return one.values({name: bindparam(name) for name in changed})


_RESERVE = _set("state", "reserved_micro", of=("planned",))
_RECEIVE = _set(
    "state",
    "reserved_micro",
    "cost_micro",
    "raw",
    "usage_json",
    "request_id",
    "stop_reason",
    "outcome",
    "category",
    "received_at",
    of=_UNDER_WAY,
)
_END = _set("state", "reserved_micro", "cost_micro", "outcome", "category", of=_OPEN)


def held(db: Connection, call_ids: Collection[int]) -> dict[int, Held]:
    """Where these calls stand, by id. Raises errors.NotFound."""
    found = {one.id: one for one in _found(db, _BY_ID, list(call_ids))}
    missing = next((call_id for call_id in call_ids if call_id not in found), None)
    if missing is not None:
        raise errors.NotFound(f"there is no teacher call with the id {missing}")
    return found


def plan(db: Connection, new: Sequence[NewCall], now: datetime) -> dict[str, Held]:
    """Write calls down before anything is sent; where they stand, by key. The same key is the same call."""
    fresh = {"state": "planned", "reserved_micro": 0, "created_at": now}
    made = _made(db, [{**rows.values(one), **fresh} for one in new])
    return made | _there(db, new, made)


def send(
    db: Connection, new: Sequence[NewCall], worst_micro: Mapping[str, int], now: datetime
) -> tuple[dict[str, Held], dict[str, Held]]:
    """Write calls down that leave when this is committed, and hold the most that they can cost, in their order, for as
    many as the cap allows: the others are planned.

    Returns where the new calls stand, by key, and where those stand that were there before, which are left alone.
    Raises ValueError for a cost below zero.
    """
    money, holding, fresh = ledger.budget(db), 0, []
    for one in new:
        worst = _cost(worst_micro[one.key])
        fits = money.allows(holding + worst) or worst == 0
        holding += worst if fits else 0
        told = {"state": "sent", "reserved_micro": worst, "sent_at": now} if fits else _NOT_SENT
        fresh.append({**rows.values(one), **told, "created_at": now})
    made = _made(db, fresh)
    ledger.change(db, reserved=sum(one.reserved_micro for one in made.values()))
    return made, _there(db, new, made)


def reserve(db: Connection, standing: Mapping[int, Held], worst_micro: Mapping[int, int]) -> set[int]:
    """Hold the most that planned calls can cost, in their order, for as many as the cap allows; those it was held for.

    Raises errors.WrongState, and ValueError for a cost below zero.
    """
    money, holding, affordable = ledger.budget(db), 0, {}
    for call_id, worst in worst_micro.items():
        _demand(standing[call_id], "planned")
        if money.allows(holding + _cost(worst)) or worst == 0:
            affordable[call_id] = worst
            holding += worst
    _execute(db, _RESERVE, [_of(call_id, "reserved", held=worst) for call_id, worst in affordable.items()])
    ledger.change(db, reserved=holding)
    return set(affordable)


def receive(db: Connection, standing: Mapping[int, Held], came: Sequence[Received], now: datetime) -> dict[int, Held]:
    """Keep answers as they came and settle their costs; where the calls stand now, by id.

    Raises errors.WrongState, also where a call does not stand any more where it is said to.
    """
    changes, received = [], {}
    for one in came:
        before = _demand(standing[one.call_id], *_UNDER_WAY)
        cost = _plus(before, one.cost_micro)
        received[one.call_id] = replace(before, state="received", reserved_micro=0, cost_micro=cost)
        changed = _of(one.call_id, "received", cost=cost)
        for name in ("raw", "usage_json", "request_id", "stop_reason", "outcome", "category"):
            changed[name] = getattr(one, name)
        changes.append({**changed, "received_at": now})
    _execute(db, _RECEIVE, changes)
    freed = sum(standing[one.call_id].reserved_micro for one in came)
    ledger.change(db, settled=sum(one.cost_micro for one in came), reserved=-freed)
    return received


def finish(db: Connection, standing: Mapping[int, Held], ended: Sequence[Ended]) -> None:
    """End calls as parsed, refused or failed; what was still held for them is free again.

    A call that was sent and is known not to have been billed ends so too. Raises errors.WrongState, also where a call
    does not stand any more where it is said to.
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


def _made(db: Connection, fresh: list[dict[str, Any]]) -> dict[str, Held]:
    """Insert calls; where those stand that were not there, by key."""
    if not fresh:
        return {}
    return {one.key: one for one in (Held(*row) for row in db.execute(_insert_calls(db.dialect.name), fresh))}


def _there(db: Connection, new: Sequence[NewCall], made: Mapping[str, Held]) -> dict[str, Held]:
    """Where those stand that were there before, by key."""
    return {one.key: one for one in _found(db, _BY_KEY, [one.key for one in new if one.key not in made])}


def _found(db: Connection, query: Any, wanted: Sequence[Any]) -> list[Held]:
    return [Held(*row) for piece in rows.pieces(wanted, 500) for row in db.execute(query, {"wanted": list(piece)})]


def _demand(call: Held, *allowed: str) -> Held:
    if call.state not in allowed:
        raise errors.WrongState(f"teacher call {call.id} is {call.state}: it must be {' or '.join(allowed)} for this")
    return call


def _of(call_id: int, state: str, **money: int) -> dict[str, Any]:
    """The parameters of a change; what is not held any more is 0."""
    changed: dict[str, Any] = {"at": call_id, "state": state, "reserved_micro": money.get("held", 0)}
    return changed | ({"cost_micro": money["cost"]} if "cost" in money else {})


def _plus(before: Held, cost_micro: int) -> int:
    return (before.cost_micro or 0) + cost_micro


def _cost(micro: int) -> int:
    if micro < 0:
        raise ValueError(f"a call cannot cost {micro} micro-dollars")
    return micro


def _execute(db: Connection, change: Update, rows_: list[dict[str, Any]]) -> None:
    if not rows_:
        return
    done = db.execute(change, rows_)
    if done.supports_sane_multi_rowcount() and done.rowcount != len(rows_):
        ids = ", ".join(str(one["at"]) for one in rows_)
        raise errors.WrongState(f"somebody else has changed one of the teacher calls {ids}: nothing was written")
