"""Decisions on teachers' traces, append only, and which of them stands. What waits is for the loop's rule to say.

`by` is `rule:<name>` or `person:<name>`. A person's decision outranks a rule's; an undo is a new row, and cancels the
latest decision of the same reviewer that is not cancelled yet. The table `standings` repeats what follows from the log.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, exists, func, select

from wizloop.store import errors, rows, tables
from wizloop.store.engine import upsert
from wizloop.store.samples import LABELS
from wizloop.store.teacher_calls import TeacherTrace, trace

_TRACE = rows.columns(tables.teacher_traces, TeacherTrace)
_BY_ANYONE = ("approve", "reject", "edit", "undo")
_EDITABLE = {
    "verdict": (dict, "an object with a label or null for each task"),
    "explanation": (str, "a sentence"),
    "trace_json": (str, "a JSON object, as text, whose fields are sentences or lists of sentences"),
    "steps_json": (str, f"a JSON object, as text, with a list of sentences for any of {', '.join(LABELS)}"),
}
"""What an edit may hold, and its shape in words."""


@dataclass(frozen=True, slots=True)
class Standing:
    """The decision that stands on a trace. `edited_json` is set where an approved trace was edited."""

    decision: str
    """approve, reject, edit (approved as edited) or wait (for a person)."""
    by: str
    reason: str | None
    edited_json: str | None
    decided_at: datetime


@dataclass(frozen=True, slots=True)
class Review:
    """One row of the log."""

    id: int
    trace_id: int
    decision: str
    by: str
    reason: str | None
    edited_json: str | None
    decided_at: datetime
    decision_id: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """A trace that waits for a person, and the rule's reason."""

    trace: TeacherTrace
    reason: str | None


def review(
    db: Connection,
    *,
    trace_id: int,
    decision: str,
    by: str,
    reason: str | None = None,
    edited_json: str | None = None,
    now: datetime,
    decision_id: str,
) -> int:
    """Write a decision down; its id. The same `decision_id` again changes nothing.

    `edited_json` is an object with any of verdict (an object), explanation, trace_json, steps_json (strings).
    Raises errors.NotFound, errors.BadDecision, errors.AlreadyDecided, errors.NothingToUndo.
    """
    seen = db.scalar(select(tables.reviews.c.id).where(tables.reviews.c.decision_id == decision_id))
    if seen is not None:
        return int(seen)
    trace(db, trace_id)
    _check(decision, by, reason, edited_json)
    _check_against(log(db, trace_id), trace_id, decision, by)
    new = tables.reviews.insert().values(
        trace_id=trace_id,
        decision=decision,
        by=by,
        reason=reason,
        edited_json=edited_json,
        decided_at=now,
        decision_id=decision_id,
    )
    db.execute(new)
    _keep_standing(db, trace_id)
    return int(db.scalars(select(tables.reviews.c.id).where(tables.reviews.c.decision_id == decision_id)).one())


def rule_all(db: Connection, rule: str, against: Mapping[int, str | None], now: datetime) -> None:
    """Write a rule's word on many traces down: by their ids what speaks against each, or None to approve it.

    One on which somebody decided before goes through `review`, which knows who outranks whom.
    """
    by, table = f"rule:{rule}", tables.reviews
    spoken = set(db.scalars(select(table.c.trace_id).where(table.c.trace_id.in_(against))))
    stands: list[dict[str, Any]] = []
    for trace_id, reason in against.items():
        decision = "approve" if reason is None else "wait"
        if trace_id in spoken:
            review(
                db,
                trace_id=trace_id,
                decision=decision,
                by=by,
                reason=reason,
                now=now,
                decision_id=f"{by}:{trace_id}",
            )
        else:
            stands.append(rows.values(Standing(decision, by, reason, None, now)) | {"trace_id": trace_id})
    if stands:
        db.execute(table.insert(), [one | {"decision_id": f"{by}:{one['trace_id']}"} for one in stands])
        db.execute(tables.standings.insert(), stands)


def log(db: Connection, trace_id: int) -> list[Review]:
    """Every decision on a trace, in order."""
    table = tables.reviews
    query = select(*rows.columns(table, Review)).where(table.c.trace_id == trace_id).order_by(table.c.id)
    return rows.every(db, Review, query)


def standing(db: Connection, trace_id: int) -> Standing | None:
    """The decision that stands on a trace, or None."""
    table = tables.standings
    return rows.first(db, Standing, select(*rows.columns(table, Standing)).where(table.c.trace_id == trace_id))


def unreviewed(db: Connection, round: int) -> list[TeacherTrace]:
    """The traces of a round on which no decision stands: the rule has not come to them yet."""
    table = tables.teacher_traces
    decided = exists().where(tables.standings.c.trace_id == table.c.id)
    return rows.every(db, TeacherTrace, select(*_TRACE).where(table.c.round == round, ~decided).order_by(table.c.id))


def waiting(db: Connection, limit: int, after_id: int = 0) -> list[Waiting]:
    """The next traces that wait for a person, in order: pass the last trace's id of one page for the next one."""
    query = _with_standing(tables.standings.c.reason).where(tables.standings.c.decision == "wait")
    query = query.where(tables.standings.c.trace_id > after_id).limit(limit)
    return [Waiting(TeacherTrace(*row[:-1]), row[-1]) for row in db.execute(query)]


def waiting_count(db: Connection) -> int:
    """How many traces wait for a person."""
    return int(db.scalar(select(func.count()).where(tables.standings.c.decision == "wait")) or 0)


def approved(db: Connection, up_to_round: int) -> list[TeacherTrace]:
    """The approved traces of all rounds up to this one, as edited, in order."""
    query = _with_standing(tables.standings.c.edited_json)
    query = query.where(
        tables.standings.c.decision.in_(("approve", "edit")), tables.teacher_traces.c.round <= up_to_round
    )
    return [_edited(TeacherTrace(*row[:-1]), row[-1]) for row in db.execute(query)]


def _with_standing(extra: Any) -> Any:
    table = tables.teacher_traces
    query = select(*_TRACE, extra).join(tables.standings, tables.standings.c.trace_id == table.c.id)
    return query.order_by(table.c.id)


def _edited(original: TeacherTrace, edited_json: str | None) -> TeacherTrace:
    return original if edited_json is None else replace(original, **json.loads(edited_json))


def _check(decision: str, by: str, reason: str | None, edited_json: str | None) -> None:
    kind, _, name = by.partition(":")
    if kind not in ("rule", "person") or not name:
        raise errors.BadDecision(f"{by!r} is no reviewer: write rule:<name> or person:<name>")
    if decision not in _BY_ANYONE and not (decision == "wait" and kind == "rule"):
        raise errors.BadDecision(f"{by} cannot decide {decision!r}: a rule or a person can {', '.join(_BY_ANYONE)}")
    if (edited_json is None) == (decision == "edit"):
        raise errors.BadDecision(f"{decision!r} by {by}: an edit, and nothing else, comes with the edited text")
    if edited_json is not None:
        _check_edit(_parsed(edited_json))
    _check_text("the reason", reason or "")


def _check_edit(edit: object) -> None:
    """That every later training can learn from the edit, and every screen can show it."""
    if not isinstance(edit, dict) or not edit:
        raise errors.BadDecision("an edit is a JSON object with at least one field")
    for field, value in edit.items():
        if field not in _EDITABLE:
            raise errors.BadDecision(f"{field!r} cannot be edited so: an edit takes {', '.join(_EDITABLE)}")
        kind, shape = _EDITABLE[field]
        inside = _parsed(value) if field.endswith("_json") and isinstance(value, str) else value
        if not isinstance(value, kind) or not _has_shape(field, inside):
            raise errors.BadDecision(f"{field!r} cannot be edited so: it must be {shape}")
        for name, said in inside.items() if isinstance(inside, dict) else [("", inside)]:
            for text in said if isinstance(said, list) else [said or ""]:
                _check_text(f"{field!r}", name + text)
                if "\0" in name + text:
                    raise errors.BadDecision(f"{field!r} has a NUL in it: leave it out")
                if field in ("explanation", "steps_json") and not text.strip():
                    raise errors.BadDecision(f"{field!r} cannot be edited so: a sentence in it is blank")


def _has_shape(field: str, inside: object) -> bool:
    if field == "explanation":
        return isinstance(inside, str)
    if not isinstance(inside, dict):
        return False
    if field == "steps_json":
        return set(inside) <= set(LABELS) and all(_lines(said) for said in inside.values())
    return all(
        said is None or isinstance(said, str) or (field == "trace_json" and _lines(said)) for said in inside.values()
    )


def _lines(said: object) -> bool:
    return isinstance(said, list) and all(isinstance(line, str) for line in said)


def _parsed(text: str) -> object:
    """What a JSON text holds; None for one that is not JSON, or nested deeper than anything of ours."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _check_text(name: str, text: str) -> None:
    """A lone surrogate can be neither kept nor tokenised."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise errors.BadDecision(f"{name} is not valid Unicode ({error.reason}): write the character whole") from None


def _check_against(past: Sequence[Review], trace_id: int, decision: str, by: str) -> None:
    kept = _kept(past)
    if decision == "undo":
        if not any(row.by == by for row in kept):
            raise errors.NothingToUndo(f"{by} has no decision on trace {trace_id} to undo")
        return
    theirs = [row for row in kept if _is_person(row) and row.by != by]
    if theirs and by.startswith("person:"):
        last = theirs[-1]
        raise errors.AlreadyDecided(
            f"trace {trace_id} was decided ({last.decision}) by {last.by} at {last.decided_at.isoformat()}"
        )


def _kept(past: Sequence[Review]) -> list[Review]:
    """The decisions that no undo has cancelled."""
    kept: list[Review] = []
    for row in past:
        if row.decision == "undo":
            kept.remove([before for before in kept if before.by == row.by][-1])
        else:
            kept.append(row)
    return kept


def _is_person(row: Review) -> bool:
    return row.by.startswith("person:")


def _keep_standing(db: Connection, trace_id: int) -> None:
    kept = _kept(log(db, trace_id))
    ranked = [row for row in kept if _is_person(row)] or kept
    table = tables.standings
    if not ranked:
        db.execute(delete(table).where(table.c.trace_id == trace_id))
        return
    last = ranked[-1]
    # Who edits a trace and then approves it approves what was edited.
    edits = [row.edited_json for row in ranked if row.by == last.by and row.decision == "edit"]
    edited_json = edits[-1] if edits and last.decision in ("approve", "edit") else None
    stands = rows.values(Standing(last.decision, last.by, last.reason, edited_json, last.decided_at))
    new = upsert(db, table).values(trace_id=trace_id, **stands)
    db.execute(new.on_conflict_do_update(index_elements=["trace_id"], set_=stands))
