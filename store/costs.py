"""Sums of teacher calls: costs by teacher, day and round, refusals, unanswered samples, and billed tokens.

Knows no prices.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, distinct, exists, func, or_, select

from wizloop.store import steps, tables, teacher_calls
from wizloop.store.teacher_calls import Call

TOKENS = ("input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens")
"""The keys of a usage, as stored with each call."""
_NOT_SENT = ("planned", "reserved")
_ENDED = ("parsed", "refused", "failed")
_PAGE = 1000
_MEASURED = 2000
"""The newest calls, at most, that a measure of billed tokens is taken from."""


@dataclass(slots=True)
class Cost:
    """The calls of one teacher and model on one day (UTC, of their planning) in one round. Money in micro-dollars."""

    teacher: str
    model: str
    day: str
    round: int
    calls: int = 0
    """Calls that were sent."""
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
    """One refusal or block, and the refused text."""

    teacher: str
    outcome: str
    category: str | None
    prompt: str
    response: str | None


@dataclass(frozen=True, slots=True)
class Failure:
    """Calls of one teacher that failed for one reason."""

    teacher: str
    outcome: str
    category: str
    n: int


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A selected sample that no teacher has answered, with its calls."""

    sample_id: int
    round: int
    prompt: str
    response: str | None
    calls: Sequence[tuple[str, str, str | None]]
    """Teacher, outcome (or state) and category of every call, in order."""
    given_up: Mapping[str, str]
    """Teacher name to the reason why that round gave up on it before it was asked about this sample."""


@dataclass(frozen=True, slots=True)
class Billed:
    """Token counts of a teacher's newest calls together, as the provider billed them."""

    questions: int
    """Distinct samples."""
    calls: int
    """Billed calls."""
    text_bytes: int
    """UTF-8 bytes of the samples' prompts and responses, once for each of these calls."""
    input_tokens: int
    """Neither read from a cache nor written into it."""
    cached_tokens: int
    cache_write_tokens: int
    output_tokens: int


def costs(db: Connection) -> list[Cost]:
    """Return the sums by teacher, model, day and round."""
    found: dict[tuple[str, str, str, int], Cost] = {}
    for row in _calls(db):
        key = (row.teacher, row.model, row.created_at.date().isoformat(), row.round)
        _add(found.setdefault(key, Cost(*key)), row)
    return [found[key] for key in sorted(found)]


def refused(db: Connection) -> list[Refused]:
    """Return every call that was refused or blocked, in order."""
    call, sample = tables.teacher_calls, tables.samples
    query = select(call.c.teacher, call.c.outcome, call.c.category, sample.c.prompt, sample.c.response)
    query = query.join(sample, sample.c.id == call.c.sample_id).where(call.c.state == "refused")
    return [Refused(*row) for row in db.execute(query.order_by(call.c.id))]


def failures(db: Connection, round: int | None = None) -> list[Failure]:
    """Count the calls that failed, of one round or of all, by teacher and reason, the most first."""
    call, n = tables.teacher_calls, func.count()
    category = func.coalesce(call.c.category, "")
    query = select(call.c.teacher, func.coalesce(call.c.outcome, ""), category, n).where(call.c.state == "failed")
    query = query if round is None else query.where(call.c.round == round)
    query = query.group_by(call.c.teacher, call.c.outcome, category).order_by(n.desc(), call.c.teacher, category)
    return [Failure(*row) for row in db.execute(query)]


def unanswered(db: Connection) -> list[Unanswered]:
    """Return the selected samples without a trace that were asked about, or whose round gave a teacher up early.

    Ordered by round and id. In a round that is still teaching, samples may yet be answered.
    """
    given_up = {one.number: one.record.get("teach", {}).get("given_up", {}) for one in steps.rounds(db)}
    early = [number for number, teachers in given_up.items() if teachers]
    picked, trace, call = tables.selections, tables.teacher_traces, tables.teacher_calls
    taught = exists().where(trace.c.sample_id == picked.c.sample_id)
    asked = exists().where(call.c.sample_id == picked.c.sample_id)
    query = select(picked.c.sample_id, picked.c.round, tables.samples.c.prompt, tables.samples.c.response)
    query = query.join(tables.samples, tables.samples.c.id == picked.c.sample_id)
    query = query.where(~taught, or_(asked, picked.c.round.in_(early)))
    found = db.execute(query.order_by(picked.c.round, picked.c.sample_id)).all()
    calls = teacher_calls.by_sample(db, [row.sample_id for row in found])
    return [_unanswered(row, calls.get(row.sample_id, []), given_up.get(row.round, {})) for row in found]


def billed(db: Connection, teacher: str, model: str, version: str) -> Billed | None:
    """Sum the newest ended calls of one version of a teacher; None if none of them was billed."""
    call, sample = tables.teacher_calls, tables.samples
    query = select(call.c.sample_id, call.c.request_json, call.c.usage_json, sample.c.prompt, sample.c.response)
    query = query.join(sample, sample.c.id == call.c.sample_id)
    query = query.where(call.c.teacher == teacher, call.c.model == model, call.c.state.in_(_ENDED))
    found = db.execute(query.order_by(call.c.id.desc()).limit(_MEASURED)).all()
    own = [row for row in found if json.loads(row.request_json).get("version") == version]
    bills = [(json.loads(row.usage_json or "{}"), _bytes(row.prompt) + _bytes(row.response)) for row in own]
    bills = [(usage, size) for usage, size in bills if any(usage.values())]
    if not bills:
        return None
    tokens = {name: sum(usage.get(name, 0) for usage, _ in bills) for name in TOKENS}
    return Billed(len({row.sample_id for row in own}), len(bills), sum(size for _, size in bills), **tokens)


def samples_ended(db: Connection) -> dict[str, int]:
    """Count the samples whose calls ended, by teacher."""
    call = tables.teacher_calls
    query = select(call.c.teacher, func.count(distinct(call.c.sample_id))).where(call.c.state.in_(_ENDED))
    return {str(name): int(n) for name, n in db.execute(query.group_by(call.c.teacher))}


def _unanswered(row: Any, calls: Sequence[Call], given_up: Mapping[str, str]) -> Unanswered:
    results = [(call.teacher, call.result, call.category) for call in calls]
    asked = {teacher for teacher, result, _ in results if result not in _NOT_SENT}
    not_asked = {name: why for name, why in given_up.items() if name not in asked}
    return Unanswered(row.sample_id, row.round, row.prompt, row.response, results, not_asked)


def _calls(db: Connection) -> Iterator[Any]:
    """Yield every call without its request and answer, which may be long."""
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
    for name in TOKENS:
        setattr(to, name, getattr(to, name) + usage.get(name, 0))
    to.calls += row.state not in _NOT_SENT
    to.answers += row.state == "parsed"
    to.refusals += row.state == "refused"
    to.failures += row.state == "failed"
    to.ambiguous += row.state == "ambiguous"
    to.settled_micro += row.cost_micro or 0
    to.reserved_micro += row.reserved_micro


def _bytes(text: str | None) -> int:
    return len((text or "").encode("utf-8", "surrogatepass"))
