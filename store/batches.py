"""Batches of teacher calls, and how each call was sent. Which calls there are and what they cost is in teaching.

intent -> submitted -> collected      an intent is written before anything is sent, the provider's id after
   `--------> dropped                 the provider never had it: its calls are free to be sent again
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import Connection, func, select, update

from wizloop.store import errors, ledger, rows, tables
from wizloop.store.engine import upsert
from wizloop.store.teacher_calls import Call

_OPEN = ("intent", "submitted")


@dataclass(frozen=True, slots=True)
class Batch:
    """Calls that are handed in together."""

    id: int
    tag: str
    """Ours; given to the provider where it keeps one, so that a lost submission can be found."""
    teacher: str
    model: str
    round: int
    state: str
    """intent, submitted, collected or dropped."""
    size: int
    provider_id: str | None
    created_at: datetime
    submitted_at: datetime | None
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class Sending:
    """How a call was sent."""

    call_id: int
    batch_id: int | None
    price_json: str | None
    """The price that it was reserved at; None for a free teacher."""
    answered_by: str | None
    """The model that answered, which need not be the one that was asked."""
    retry_at: datetime | None
    """The provider's word, or ours, for when it may be tried again."""


_BATCH = rows.columns(tables.batches, Batch)
_CALL = rows.columns(tables.teacher_calls, Call)


def intend(
    db: Connection, *, tag: str, teacher: str, model: str, round: int, call_ids: Sequence[int], now: datetime
) -> int:
    """Write down that these reserved calls are about to be handed in together, and that they leave; the batch's id.

    Raises errors.WrongState, and changes nothing, unless the money of every one of them is reserved.
    """
    table, calls = tables.batches, tables.teacher_calls
    new = {"tag": tag, "teacher": teacher, "model": model, "round": round, "size": len(call_ids), "created_at": now}
    db.execute(table.insert().values(state="intent", **new))
    batch_id = int(db.scalars(select(table.c.id).where(table.c.tag == tag)).one())
    for piece in rows.pieces(call_ids, 500):
        leaving = update(calls).where(calls.c.id.in_(piece), calls.c.state == "reserved")
        if db.execute(leaving.values(state="sent", sent_at=now)).rowcount != len(piece):
            raise errors.WrongState(f"batch {tag}: a call in it is not reserved")
        noted = upsert(db, tables.sendings).values([{"call_id": call_id, "batch_id": batch_id} for call_id in piece])
        db.execute(noted.on_conflict_do_update(index_elements=["call_id"], set_={"batch_id": batch_id}))
    return batch_id


def submitted(db: Connection, batch_id: int, provider_id: str, now: datetime) -> None:
    """Note the provider's id of a batch. Raises errors.WrongState."""
    _change(db, batch_id, "intent", state="submitted", provider_id=provider_id, submitted_at=now)


def collected(db: Connection, batch_id: int, now: datetime) -> None:
    """Note that every answer of a batch is in the ledger. Raises errors.WrongState."""
    _change(db, batch_id, "submitted", state="collected", ended_at=now)


def drop(db: Connection, batch_id: int, now: datetime) -> None:
    """Note that the provider never had a batch: its calls have not left, and their money is free again.

    Raises errors.WrongState.
    """
    held, calls = calls_in(db, batch_id), tables.teacher_calls
    for piece in rows.pieces([call.id for call in held], 500):
        changed = update(calls).where(calls.c.id.in_(piece))
        db.execute(changed.values(state="planned", sent_at=None, reserved_micro=0))
    ledger.change(db, reserved=-sum(call.reserved_micro for call in held))
    _change(db, batch_id, "intent", state="dropped", ended_at=now)


def open_batches(db: Connection, teacher: str, model: str) -> list[Batch]:
    """The batches of a teacher that are not collected yet, of every round, oldest first."""
    table = tables.batches
    query = select(*_BATCH).where(table.c.teacher == teacher, table.c.model == model, table.c.state.in_(_OPEN))
    return rows.every(db, Batch, query.order_by(table.c.id))


def every(db: Connection) -> list[Batch]:
    """All batches, in order."""
    return rows.every(db, Batch, select(*_BATCH).order_by(tables.batches.c.id))


def calls_in(db: Connection, batch_id: int, state: str = "sent") -> list[Call]:
    """The calls of a batch that are in a state, in the order of their planning."""
    calls, sendings = tables.teacher_calls, tables.sendings
    query = select(*_CALL).join(sendings, sendings.c.call_id == calls.c.id)
    query = query.where(sendings.c.batch_id == batch_id, calls.c.state == state)
    return rows.every(db, Call, query.order_by(calls.c.id))


def in_a_batch(db: Connection, call_ids: Sequence[int]) -> set[int]:
    """Those of the calls that a batch which is still open answers for."""
    held: set[int] = set()
    for piece in rows.pieces(call_ids, 500):
        sendings, table = tables.sendings, tables.batches
        query = select(sendings.c.call_id).join(table, table.c.id == sendings.c.batch_id)
        held |= set(db.scalars(query.where(sendings.c.call_id.in_(piece), table.c.state.in_(_OPEN))))
    return held


def note(
    db: Connection,
    call_id: int,
    *,
    answered_by: str | None = None,
    retry_at: datetime | None = None,
) -> None:
    """Keep what is given of how a call was sent; what is None stays as it was."""
    told = {"answered_by": answered_by, "retry_at": retry_at}
    given = {name: value for name, value in told.items() if value is not None}
    new = upsert(db, tables.sendings).values(call_id=call_id, **given)
    if given:
        db.execute(new.on_conflict_do_update(index_elements=["call_id"], set_=given))
    else:
        db.execute(new.on_conflict_do_nothing())


def note_price(db: Connection, call_ids: Collection[int], price_json: str) -> None:
    """Keep the price at which calls were reserved."""
    if not call_ids:
        return
    priced = [{"call_id": call_id, "price_json": price_json} for call_id in call_ids]
    db.execute(_note_price(db.dialect.name), priced)


@cache
def _note_price(dialect: str) -> Any:
    new = upsert(dialect, tables.sendings)
    return new.on_conflict_do_update(index_elements=["call_id"], set_={"price_json": new.excluded.price_json})


def sending(db: Connection, call_id: int) -> Sending | None:
    """How a call was sent, or None where nothing was noted."""
    table = tables.sendings
    return rows.first(db, Sending, select(*rows.columns(table, Sending)).where(table.c.call_id == call_id))


def retry_at(db: Connection, teacher: str) -> datetime | None:
    """The latest moment for which a provider that limits the rate has asked for patience, past or not; or None."""
    calls, table = tables.teacher_calls, tables.sendings
    query = select(func.max(table.c.retry_at)).join(calls, calls.c.id == table.c.call_id)
    query = query.where(calls.c.teacher == teacher, calls.c.outcome == "rate_limited")
    found: datetime | None = db.scalar(query)
    return found


def _change(db: Connection, batch_id: int, before: str, **values: object) -> None:
    table = tables.batches
    if db.execute(update(table).where(table.c.id == batch_id, table.c.state == before).values(**values)).rowcount == 0:
        raise errors.WrongState(f"batch {batch_id} is not in the state {before}")
