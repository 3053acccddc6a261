"""Batches of teacher calls, and how each call was sent. The calls and their costs are in `teacher_calls`.

intent -> submitted -> collected      an intent is written before anything is sent, the provider's id after
   `--------> dropped                 the provider never received it: its calls may be sent again
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import Connection, func, select, update
from sqlalchemy.dialects.sqlite import insert

from wizloop.store import call_writes, errors, rows, spending
from wizloop.store.tables import batches, sendings, teacher_calls
from wizloop.store.teacher_calls import Call

_OPEN = ("intent", "submitted")


@dataclass(frozen=True, slots=True)
class Batch:
    """Calls submitted together."""

    id: int
    tag: str
    """Our name for the batch, given to a provider that keeps one, so that a lost submission can be found."""
    state: str
    """intent, submitted, collected or dropped."""
    size: int
    provider_id: str | None
    created_at: datetime


_BATCH = select(*rows.columns(batches, Batch)).order_by(batches.c.id)
_CALL = rows.columns(teacher_calls, Call)


def intend(
    db: Connection, *, tag: str, teacher: str, model: str, round: int, call_ids: Sequence[int], now: datetime
) -> Batch:
    """Record a batch before it is submitted, and mark its calls as sent.

    Raises errors.WrongState, for the caller's transaction to undo, unless all calls are reserved.
    """
    new = {"tag": tag, "teacher": teacher, "model": model, "round": round, "size": len(call_ids), "created_at": now}
    db.execute(batches.insert().values(state="intent", **new))
    batch = Batch(*db.execute(_BATCH.where(batches.c.tag == tag)).one())
    call_writes.mark_sent(db, call_ids, now)
    _note(db, [{"call_id": call_id, "batch_id": batch.id} for call_id in call_ids], "batch_id")
    return batch


def submitted(db: Connection, batch_id: int, provider_id: str, now: datetime) -> None:
    """Store the provider's id of a batch. Raises errors.WrongState."""
    _change(db, batch_id, "intent", state="submitted", provider_id=provider_id, submitted_at=now)


def collected(db: Connection, batch_id: int, now: datetime) -> None:
    """Mark a batch whose answers are all in the ledger. Raises errors.WrongState."""
    _change(db, batch_id, "submitted", state="collected", ended_at=now)


def drop(db: Connection, batch_id: int, now: datetime) -> None:
    """Mark a batch that the provider never received: its calls are planned again and their money is released.

    Raises errors.WrongState.
    """
    calls = calls_in(db, batch_id)
    for piece in rows.pieces([call.id for call in calls], 500):
        changed = update(teacher_calls).where(teacher_calls.c.id.in_(piece))
        db.execute(changed.values(state="planned", sent_at=None, reserved_micro=0))
    spending.add(db, reserved=-sum(call.reserved_micro for call in calls))
    _change(db, batch_id, "intent", state="dropped", ended_at=now)


def open_batches(db: Connection, teacher: str, model: str) -> list[Batch]:
    """Return a teacher's batches that are not collected yet, of every round, oldest first."""
    query = _BATCH.where(batches.c.teacher == teacher, batches.c.model == model, batches.c.state.in_(_OPEN))
    return rows.every(db, Batch, query)


def every(db: Connection) -> list[Batch]:
    """Return all batches, oldest first."""
    return rows.every(db, Batch, _BATCH)


def calls_in(db: Connection, batch_id: int) -> list[Call]:
    """Return the calls of a batch that are still open, in planning order."""
    query = select(*_CALL).join(sendings, sendings.c.call_id == teacher_calls.c.id)
    query = query.where(sendings.c.batch_id == batch_id, teacher_calls.c.state == "sent")
    return rows.every(db, Call, query.order_by(teacher_calls.c.id))


def in_open_batch(db: Connection, call_ids: Sequence[int]) -> set[int]:
    """Return those of the calls that belong to an open batch."""
    found: set[int] = set()
    query = select(sendings.c.call_id).join(batches, batches.c.id == sendings.c.batch_id)
    for piece in rows.pieces(call_ids, 500):
        found |= set(db.scalars(query.where(sendings.c.call_id.in_(piece), batches.c.state.in_(_OPEN))))
    return found


def note_model(db: Connection, call_id: int, answered_by: str) -> None:
    """Store the model that answered a call, which may differ from the model asked."""
    _note(db, [{"call_id": call_id, "answered_by": answered_by}], "answered_by")


def note_retry(db: Connection, call_id: int, at: datetime) -> None:
    """Store the earliest time to try a call again."""
    _note(db, [{"call_id": call_id, "retry_at": at}], "retry_at")


def note_price(db: Connection, call_ids: Collection[int], price_json: str | None) -> None:
    """Store the price at which money was reserved for calls; None for a free teacher."""
    if price_json is not None:
        _note(db, [{"call_id": call_id, "price_json": price_json} for call_id in call_ids], "price_json")


def retry_at(db: Connection, call_id: int) -> datetime | None:
    """Return the earliest time to try a call again, by the provider or by our backoff, or None."""
    found: datetime | None = db.scalar(select(sendings.c.retry_at).where(sendings.c.call_id == call_id))
    return found


def latest_retry_at(db: Connection, teacher: str) -> datetime | None:
    """Return the latest retry time of a teacher's rate-limited calls, past or not, or None."""
    query = select(func.max(sendings.c.retry_at)).join(teacher_calls, teacher_calls.c.id == sendings.c.call_id)
    query = query.where(teacher_calls.c.teacher == teacher, teacher_calls.c.outcome == "rate_limited")
    found: datetime | None = db.scalar(query)
    return found


def _note(db: Connection, values: list[dict[str, Any]], column: str) -> None:
    if values:
        db.execute(_upsert(column), values)


@cache
def _upsert(column: str) -> Any:
    new = insert(sendings)
    return new.on_conflict_do_update(index_elements=["call_id"], set_={column: new.excluded[column]})


def _change(db: Connection, batch_id: int, before: str, **values: object) -> None:
    changed = update(batches).where(batches.c.id == batch_id, batches.c.state == before).values(**values)
    if db.execute(changed).rowcount == 0:
        raise errors.WrongState(f"batch {batch_id} is not in the state {before}")
