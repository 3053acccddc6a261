"""Decisions on teachers' traces, append only, and the one in effect. Which traces wait is decided by the loop's rule.

`by` is `rule:<name>` or `person:<name>`. A person's decision outranks a rule's; an undo is a new row, and cancels the
latest decision of the same reviewer that is not canceled yet. The table `standings` caches the decision in effect.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, delete, exists, func, select

from wizloop.store import errors, rows, tables
from wizloop.store.samples import LABELS
from wizloop.store.teacher_calls import TeacherTrace, trace

_BY_ANYONE = ("approve", "reject", "edit", "undo")
_EDITABLE = {
    "verdict": (dict, "an object with a label or null for each task"),
    "explanation": (str, "a sentence"),
    "trace_json": (str, "a JSON object, as text, whose fields are sentences or lists of sentences"),
    "steps_json": (str, f"a JSON object, as text, with a list of sentences for any of {', '.join(LABELS)}"),
}
"""Fields of an edit, with their type and a description of it."""


@dataclass(frozen=True, slots=True)
class Standing:
    """The decision in effect on a trace. `edited_json` is set if an approved trace was edited."""

    decision: str
    """approve, reject, edit (approved as edited) or wait (for a person)."""
    by: str
    reason: str | None
    edited_json: str | None
    decided_at: datetime


@dataclass(frozen=True, slots=True)
class Review:
    """One decision in the log."""

    id: int
    trace_id: int
    decision: str
    by: str
    reason: str | None
    edited_json: str | None
    decided_at: datetime
    decision_id: str

    @property
    def is_person(self) -> bool:
        """Whether a person decided."""
        return self.by.startswith("person:")


@dataclass(frozen=True, slots=True)
class Waiting:
    """A trace that waits for a person, and the rule's reason."""

    trace: TeacherTrace
    reason: str | None


_TRACES = select(*rows.columns(tables.teacher_traces, TeacherTrace)).order_by(tables.teacher_traces.c.id)


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
    """Record a decision and return its id. Repeating a `decision_id` changes nothing.

    `edited_json` is an object with any of verdict (an object), explanation, trace_json, steps_json (strings).
    Raises errors.NotFound, errors.BadDecision, errors.AlreadyDecided, errors.NothingToUndo.
    """
    with_id = select(tables.reviews.c.id).where(tables.reviews.c.decision_id == decision_id)
    seen = db.scalar(with_id)
    if seen is not None:
        return int(seen)
    trace(db, trace_id)
    _check(decision, by, reason, edited_json)
    _check_against(log(db, trace_id), trace_id, decision, by)
    new = {"decision": decision, "by": by, "reason": reason, "edited_json": edited_json, "decided_at": now}
    db.execute(tables.reviews.insert().values(trace_id=trace_id, decision_id=decision_id, **new))
    _update_standing(db, trace_id)
    return int(db.scalars(with_id).one())


def rule_all(db: Connection, rule: str, against: Mapping[int, str | None], now: datetime) -> None:
    """Record a rule's decision on many traces: the reason against each by its id, or None to approve it.

    A trace with earlier decisions goes through `review`, which ranks the reviewers.
    """
    by, table = f"rule:{rule}", tables.reviews
    decided = set(db.scalars(select(table.c.trace_id).where(table.c.trace_id.in_(against))))
    fresh: list[dict[str, Any]] = []
    for trace_id, reason in against.items():
        decision, decision_id = "approve" if reason is None else "wait", f"{by}:{trace_id}"
        if trace_id in decided:
            given: dict[str, Any] = {"decision": decision, "by": by, "reason": reason, "now": now}
            review(db, trace_id=trace_id, decision_id=decision_id, **given)
        else:
            fresh.append(rows.values(Standing(decision, by, reason, None, now)) | {"trace_id": trace_id})
    if fresh:
        db.execute(table.insert(), [row | {"decision_id": f"{by}:{row['trace_id']}"} for row in fresh])
        db.execute(tables.standings.insert(), fresh)


def log(db: Connection, trace_id: int) -> list[Review]:
    """Return every decision on a trace, in order."""
    table = tables.reviews
    query = select(*rows.columns(table, Review)).where(table.c.trace_id == trace_id).order_by(table.c.id)
    return rows.every(db, Review, query)


def standing(db: Connection, trace_id: int) -> Standing | None:
    """Return the decision in effect on a trace, or None."""
    table = tables.standings
    return rows.first(db, Standing, select(*rows.columns(table, Standing)).where(table.c.trace_id == trace_id))


def unreviewed(db: Connection, round: int) -> list[TeacherTrace]:
    """Return the traces of a round without a decision in effect, which the rule has yet to judge."""
    table = tables.teacher_traces
    decided = exists().where(tables.standings.c.trace_id == table.c.id)
    return rows.every(db, TeacherTrace, _TRACES.where(table.c.round == round, ~decided))


def waiting(db: Connection, limit: int, after_id: int = 0) -> list[Waiting]:
    """Return the next traces after an id that wait for a person, by id."""
    stands = tables.standings
    query = _with_standing(stands.c.reason).where(stands.c.decision == "wait", stands.c.trace_id > after_id)
    return [Waiting(TeacherTrace(*row[:-1]), row[-1]) for row in db.execute(query.limit(limit))]


def waiting_count(db: Connection) -> int:
    """Count the traces that wait for a person."""
    return int(db.scalar(select(func.count()).where(tables.standings.c.decision == "wait")) or 0)


def approved(db: Connection, up_to_round: int) -> list[TeacherTrace]:
    """Return the approved traces of all rounds up to this one, as edited, by id."""
    stands, made = tables.standings, tables.teacher_traces
    query = _with_standing(stands.c.edited_json)
    query = query.where(stands.c.decision.in_(("approve", "edit")), made.c.round <= up_to_round)
    return [replace(TeacherTrace(*row[:-1]), **json.loads(row[-1] or "{}")) for row in db.execute(query)]


def _with_standing(column: Any) -> Select[Any]:
    """Select traces with a column of their decision in effect."""
    joined = _TRACES.join(tables.standings, tables.standings.c.trace_id == tables.teacher_traces.c.id)
    return joined.add_columns(column)


def _check(decision: str, by: str, reason: str | None, edited_json: str | None) -> None:
    kind, _, name = by.partition(":")
    if kind not in ("rule", "person") or not name:
        raise errors.BadDecision(f"{by!r} is not a reviewer: use rule:<name> or person:<name>")
    if decision not in _BY_ANYONE and not (decision == "wait" and kind == "rule"):
        raise errors.BadDecision(f"{by} cannot decide {decision!r}: use one of {', '.join(_BY_ANYONE)}")
    if (edited_json is None) == (decision == "edit"):
        raise errors.BadDecision(f"{decision!r} by {by}: an edit, and only an edit, must have the edited text")
    if edited_json is not None:
        _check_edit(_parsed(edited_json))
    _check_text("the reason", reason or "")


def _check_edit(edit: object) -> None:
    """Check that later training can use the edit and that screens can show it. Raises errors.BadDecision."""
    if not isinstance(edit, dict) or not edit:
        raise errors.BadDecision("an edit must be a JSON object with at least one field")
    for field, value in edit.items():
        if field not in _EDITABLE:
            raise errors.BadDecision(f"{field!r} cannot be edited: an edit may have {', '.join(_EDITABLE)}")
        kind, shape = _EDITABLE[field]
        inside = _parsed(value) if field.endswith("_json") and isinstance(value, str) else value
        if not isinstance(value, kind) or not _has_shape(field, inside):
            raise errors.BadDecision(f"{field!r} is invalid: it must be {shape}")
        for name, value in inside.items() if isinstance(inside, dict) else [("", inside)]:
            for text in value if isinstance(value, list) else [value or ""]:
                _check_text(f"{field!r}", name + text)
                if "\0" in name + text:
                    raise errors.BadDecision(f"{field!r} contains a NUL: remove it")
                if field in ("explanation", "steps_json") and not text.strip():
                    raise errors.BadDecision(f"{field!r} is invalid: a sentence in it is blank")


def _has_shape(field: str, inside: object) -> bool:
    if field == "explanation":
        return isinstance(inside, str)
    if not isinstance(inside, dict):
        return False
    if field == "steps_json":
        return set(inside) <= set(LABELS) and all(map(_is_lines, inside.values()))
    return all(
        isinstance(value, str | None) or (field == "trace_json" and _is_lines(value)) for value in inside.values()
    )


def _is_lines(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(line, str) for line in value)


def _parsed(text: str) -> object:
    """Parse a JSON text; return None if it is not JSON, or nested too deep."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _check_text(name: str, text: str) -> None:
    """Reject a lone surrogate, which can be neither stored nor tokenized. Raises errors.BadDecision."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise errors.BadDecision(f"{name} is not valid Unicode ({error.reason}): write the whole character") from None


def _check_against(past: Sequence[Review], trace_id: int, decision: str, by: str) -> None:
    kept = _kept(past)
    if decision == "undo":
        if not any(row.by == by for row in kept):
            raise errors.NothingToUndo(f"{by} has no decision on trace {trace_id} to undo")
        return
    theirs = [row for row in kept if row.is_person and row.by != by]
    if theirs and by.startswith("person:"):
        last = theirs[-1]
        raise errors.AlreadyDecided(
            f"trace {trace_id} was already decided ({last.decision}) by {last.by} at {last.decided_at.isoformat()}"
        )


def _kept(past: Sequence[Review]) -> list[Review]:
    """Return the decisions that no undo canceled."""
    kept: list[Review] = []
    for row in past:
        if row.decision == "undo":
            kept.remove([before for before in kept if before.by == row.by][-1])
        else:
            kept.append(row)
    return kept


def _update_standing(db: Connection, trace_id: int) -> None:
    kept = _kept(log(db, trace_id))
    ranked = [row for row in kept if row.is_person] or kept
    table = tables.standings
    if not ranked:
        db.execute(delete(table).where(table.c.trace_id == trace_id))
        return
    last = ranked[-1]
    # An approval after an edit by the same reviewer approves the edited text.
    edits = [row.edited_json for row in ranked if row.by == last.by and row.decision == "edit"]
    edited_json = edits[-1] if edits and last.decision in ("approve", "edit") else None
    stands = Standing(last.decision, last.by, last.reason, edited_json, last.decided_at)
    rows.put(db, table, {"trace_id": trace_id}, rows.values(stands))
