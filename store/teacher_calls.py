"""Queries on teacher calls and the traces in their answers. Writes are in `call_writes`."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, select

from wizloop.store import errors, rows, tables


@dataclass(frozen=True, slots=True)
class Call:
    """One question to a teacher, and what became of it. Money in micro-dollars."""

    id: int
    key: str
    """SHA-256, hexadecimal, of everything that decides the answer, including the attempt number."""
    sample_id: int
    round: int
    teacher: str
    model: str
    attempt: int
    state: str
    outcome: str | None
    """The teacher's outcome. A received call has one before it has ended."""
    category: str | None
    reserved_micro: int
    """The most that the call can cost, until it is settled."""
    cost_micro: int | None
    request_json: str
    raw: str | None
    """The answer as received, stored before it is parsed."""
    usage_json: str | None
    request_id: str | None
    stop_reason: str | None
    created_at: datetime
    sent_at: datetime | None
    received_at: datetime | None

    @property
    def result(self) -> str:
        """The result in one word: the outcome, or the state if the call has not ended."""
        return self.state if self.state == "received" else self.outcome or self.state


@dataclass(frozen=True, slots=True)
class TeacherTrace:
    """A teacher's rationale and its verdict."""

    id: int
    call_id: int
    sample_id: int
    round: int
    teacher: str
    verdict: dict[str, str | None]
    confidence_word: str
    """low, medium or high, in the teacher's own word."""
    trace_json: str
    explanation: str
    steps_json: str
    created_at: datetime


_CALLS, _TRACES = tables.teacher_calls, tables.teacher_traces
_CALL = select(*rows.columns(_CALLS, Call)).order_by(_CALLS.c.id)
_TRACE = select(*rows.columns(_TRACES, TeacherTrace)).order_by(_TRACES.c.id)


def calls(db: Connection, round: int, states: Sequence[str] = ()) -> list[Call]:
    """Return the calls of a round in planning order; only those in `states`, if any are given."""
    query = _CALL.where(_CALLS.c.round == round)
    return rows.every(db, Call, query.where(_CALLS.c.state.in_(states)) if states else query)


def in_state(db: Connection, state: str) -> list[Call]:
    """Return the calls of every round in this state, in planning order."""
    return rows.every(db, Call, _CALL.where(_CALLS.c.state == state))


def by_sample(db: Connection, sample_ids: Sequence[int]) -> dict[int, list[Call]]:
    """Return the calls about each of these samples, in planning order. Samples without a call are left out."""
    found = dict[int, list[Call]]()
    for piece in rows.pieces(sample_ids, 500):
        for one in rows.every(db, Call, _CALL.where(_CALLS.c.sample_id.in_(piece))):
            found.setdefault(one.sample_id, []).append(one)
    return found


def parsed(db: Connection, teacher: str, model: str, limit: int) -> list[Call]:
    """Return the newest calls that a teacher's model answered with a trace."""
    query = _CALL.where(_CALLS.c.state == "parsed", _CALLS.c.teacher == teacher, _CALLS.c.model == model)
    return rows.every(db, Call, query.order_by(None).order_by(_CALLS.c.id.desc()).limit(limit))


def newest_ended(db: Connection, teacher: str, limit: int) -> list[Call]:
    """Return a teacher's calls that were received and have ended, the last received first."""
    query = _CALL.where(_CALLS.c.teacher == teacher, _CALLS.c.state.in_(("parsed", "refused", "failed")))
    return rows.every(
        db, Call, query.order_by(None).order_by(_CALLS.c.received_at.desc(), _CALLS.c.id.desc()).limit(limit)
    )


def call_counts(db: Connection, round: int) -> dict[str, int]:
    """Count the calls of a round by state."""
    query = select(_CALLS.c.state, func.count()).where(_CALLS.c.round == round).group_by(_CALLS.c.state)
    return rows.counted(db, query.order_by(_CALLS.c.state))


def spent_micro(db: Connection, round: int) -> int:
    """Sum the settled cost of a round's calls, without reservations."""
    return int(db.scalar(select(func.sum(_CALLS.c.cost_micro)).where(_CALLS.c.round == round)) or 0)


def traces(db: Connection, round: int) -> list[TeacherTrace]:
    """Return the teachers' traces of a round, oldest first."""
    return rows.every(db, TeacherTrace, _TRACE.where(_TRACES.c.round == round))


def traces_for(db: Connection, sample_id: int) -> list[TeacherTrace]:
    """Return every teacher's trace of one sample."""
    return rows.every(db, TeacherTrace, _TRACE.where(_TRACES.c.sample_id == sample_id))


def taught(db: Connection, split: str) -> int:
    """Count the usable samples of a split that have a teacher's trace."""
    sample = tables.samples
    about = select(func.count(_TRACES.c.sample_id.distinct())).join(sample, sample.c.id == _TRACES.c.sample_id)
    return int(db.scalar(about.where(sample.c.split == split, sample.c.excluded.is_(None))) or 0)


def trace_ids(db: Connection, call_ids: Sequence[int]) -> dict[int, int]:
    """Return the ids of the traces in the answers of these calls, by call. Calls without a trace are left out."""
    query = select(_TRACES.c.call_id, _TRACES.c.id)
    return {
        row.call_id: row.id
        for piece in rows.pieces(call_ids, 500)
        for row in db.execute(query.where(_TRACES.c.call_id.in_(piece)))
    }


def trace(db: Connection, trace_id: int) -> TeacherTrace:
    """Return one trace. Raises errors.NotFound."""
    found = rows.first(db, TeacherTrace, _TRACE.where(_TRACES.c.id == trace_id))
    if found is None:
        raise errors.NotFound(f"there is no teacher's trace with the id {trace_id}")
    return found
