"""What teacher calls came to, summed by who answered, on which day and in which round. It knows no price."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, exists, or_, select

from wizloop.store import rows, steps, tables, teacher_calls

_DAY = 10
"""Characters of a date in ISO form."""


@dataclass(slots=True)
class Cost:
    """The calls of one teacher and model on one day (UTC, of their planning) in one round. Money in micro-dollars."""

    teacher: str
    model: str
    day: str
    round: int
    calls: int = 0
    """Those that left; one that was only planned is none."""
    answers: int = 0
    refusals: int = 0
    """Refused or blocked."""
    failures: int = 0
    ambiguous: int = 0
    input_tokens: int = 0
    """Neither read from a cache nor written into it."""
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    settled_micro: int = 0
    reserved_micro: int = 0


@dataclass(frozen=True, slots=True)
class Refused:
    """One refusal or block, and the text that met it."""

    teacher: str
    outcome: str
    category: str | None
    prompt: str
    response: str | None


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A sample that was picked and that no teacher has answered, with what each of them came to."""

    sample_id: int
    round: int
    prompt: str
    response: str | None
    calls: Sequence[tuple[str, str, str | None]]
    """Teacher, outcome (or state) and category of every call, in order."""
    given_up: Mapping[str, str]
    """Why a teacher was asked no more in that round, by the teacher's name, where it had no say on this sample."""


_TOKENS = ("input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens")
_NOT_SENT = ("planned", "reserved")
_PAGE = 1000


def costs(db: Connection) -> list[Cost]:
    """The sums, by teacher, model, day and round."""
    found: dict[tuple[str, str, str, int], Cost] = {}
    for row in _calls(db):
        key = (row.teacher, row.model, row.created_at.date().isoformat()[:_DAY], row.round)
        _add(found.setdefault(key, Cost(*key)), row)
    return [found[key] for key in sorted(found)]


def refused(db: Connection) -> list[Refused]:
    """Every call that was refused or blocked, in order."""
    call, sample = tables.teacher_calls, tables.samples
    query = select(call.c.teacher, call.c.outcome, call.c.category, sample.c.prompt, sample.c.response)
    query = query.join(sample, sample.c.id == call.c.sample_id).where(call.c.state == "refused")
    return [Refused(*row) for row in db.execute(query.order_by(call.c.id))]


def unanswered(db: Connection) -> list[Unanswered]:
    """The samples that were picked and have no trace, in the order of their rounds and ids: those that were put to a
    teacher, and those that a teacher was given up before, because the money was used up for example.

    A round whose teachers are still being asked lists what they have not come to an end with.
    """
    left = {one.number: one.record.get("teach", {}).get("given_up", {}) for one in steps.rounds(db)}
    early = [number for number, given_up in left.items() if given_up]
    picked, trace, call = tables.selections, tables.teacher_traces, tables.teacher_calls
    taught = exists().where(trace.c.sample_id == picked.c.sample_id)
    asked = exists().where(call.c.sample_id == picked.c.sample_id)
    query = select(picked.c.sample_id, picked.c.round, tables.samples.c.prompt, tables.samples.c.response)
    query = query.join(tables.samples, tables.samples.c.id == picked.c.sample_id)
    query = query.where(~taught, or_(asked, picked.c.round.in_(early)))
    found = db.execute(query.order_by(picked.c.round, picked.c.sample_id)).all()
    calls = _came_to(db, [row.sample_id for row in found])
    return [_unanswered(row, calls.get(row.sample_id, []), left.get(row.round, {})) for row in found]


def _unanswered(row: Any, calls: Sequence[tuple[str, str, str | None]], given_up: Mapping[str, str]) -> Unanswered:
    had_a_say = {teacher for teacher, outcome, _ in calls if outcome not in _NOT_SENT}
    unheard = {name: why for name, why in given_up.items() if name not in had_a_say}
    return Unanswered(row.sample_id, row.round, row.prompt, row.response, calls, unheard)


def _came_to(db: Connection, sample_ids: Sequence[int]) -> dict[int, list[tuple[str, str, str | None]]]:
    table, found = tables.teacher_calls, dict[int, list[tuple[str, str, str | None]]]()
    query = select(table.c.sample_id, table.c.teacher, table.c.outcome, table.c.state, table.c.category)
    for piece in rows.pieces(sample_ids, 500):
        for row in db.execute(query.where(table.c.sample_id.in_(piece)).order_by(table.c.id)):
            came_to = teacher_calls.came_to(row.state, row.outcome)
            found.setdefault(row.sample_id, []).append((row.teacher, came_to, row.category))
    return found


def _calls(db: Connection) -> Iterator[Any]:
    """Every call, without its request and its answer: those may be long."""
    table = tables.teacher_calls
    names = ("teacher", "model", "created_at", "round", "state", "outcome", "category", "usage_json")
    columns = [table.c[name] for name in (*names, "cost_micro", "reserved_micro")]
    query = select(table.c.id, *columns).order_by(table.c.id).limit(_PAGE)
    last = 0
    while page := db.execute(query.where(table.c.id > last)).all():
        yield from page
        last = page[-1].id


def _add(to: Cost, row: Any) -> None:
    usage = json.loads(row.usage_json) if row.usage_json else {}
    for name in _TOKENS:
        setattr(to, name, getattr(to, name) + usage.get(name, 0))
    to.calls += row.state not in _NOT_SENT
    to.answers += row.state == "parsed"
    to.refusals += row.state == "refused"
    to.failures += row.state == "failed"
    to.ambiguous += row.state == "ambiguous"
    to.settled_micro += row.cost_micro or 0
    to.reserved_micro += row.reserved_micro
