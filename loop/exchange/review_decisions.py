"""Make decisions of people's answers, and record those on which nobody disagrees.

The first decision of a person on a trace stands until that person changes it; another person's is never overwritten.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from wizloop.loop.context import declared_of
from wizloop.loop.exchange.review_cases import (
    DECISION,
    DECISIONS,
    EXPLANATION,
    REASON,
    SAMPLE,
    STEPS,
    TRACE,
    VERDICTS,
    steps_text,
)
from wizloop.loop.exchange.tool_answers import Answer, Asked
from wizloop.loop.words import DEFAULT, Declaration
from wizloop.store import errors, reviews, samples, teacher_calls
from wizloop.store.db import Connection
from wizloop.store.teacher_calls import TeacherTrace

ASKED = Asked((DECISION, EXPLANATION, STEPS, REASON, *VERDICTS.values()), TRACE, SAMPLE, "review --export")


class Decided(NamedTuple):
    """A decision that an answer amounts to."""

    decision: str
    edited_json: str | None
    reason: str | None


@dataclass
class Outcome:
    """How many decisions were recorded, unchanged or left open, and what could not be recorded, with the reasons."""

    counts: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)


class BadAnswer(ValueError):
    """An answer cannot be a decision; the message is the reason."""


def record(db: Connection, answers: Sequence[Answer], now: datetime) -> Outcome:
    """Record the decisions that answers amount to; repeating it changes nothing."""
    outcome, declared = Outcome(), declared_of(db)
    by_trace: dict[int, list[Answer]] = {}
    for one in answers:
        by_trace.setdefault(one.item, []).append(one)
    for given in by_trace.values():
        try:
            _record(db, given, now, outcome, declared)
        except (BadAnswer, errors.NotFound, errors.BadDecision, errors.AlreadyDecided) as error:
            outcome.problems.append(f"record {given[0].row}: {error}")
    return outcome


def _record(db: Connection, answers: Sequence[Answer], now: datetime, outcome: Outcome, declared: Declaration) -> None:
    trace = teacher_calls.trace(db, answers[0].item)
    (sample,) = samples.get(db, [trace.sample_id])
    if any(one.digest != sample.hash for one in answers):
        raise BadAnswer(f"trace {trace.id} is about another text here: is it from another workspace?")
    decided = [(one.by, found) for one in answers if (found := decision_of(trace, one, declared)) is not None]
    outcome.counts["undecided"] += len(answers) - len(decided)
    if not decided:
        return
    if len({found[:2] for _, found in decided}) > 1:
        said = ", ".join(f"{by.removeprefix('person:')} {found.decision}" for by, found in decided)
        raise BadAnswer(f"trace {trace.id}: people disagree ({said}): it keeps waiting")
    by, found = decided[0]
    stands = reviews.standing(db, trace.id)
    if stands is not None and stands.by == by:
        if found.decision == "approve" and stands.edited_json is not None:
            # A bare approval would approve the edit that this person has taken back.
            before = {
                "verdict": dict(trace.verdict),
                "explanation": trace.explanation,
                "steps_json": trace.steps_json,
            }
            found = Decided("edit", json.dumps(before), found.reason)
        if (stands.decision, stands.edited_json) == found[:2]:
            outcome.counts["unchanged"] += 1
            return
    log = reviews.log(db, trace.id)
    told = json.dumps([trace.id, by, *found, len(log)]).encode()
    reviews.review(
        db,
        trace_id=trace.id,
        decision=found.decision,
        by=by,
        reason=found.reason,
        edited_json=found.edited_json,
        now=now,
        decision_id=f"answer-{hashlib.sha256(told).hexdigest()}",
    )
    outcome.counts[found.decision] += 1


def decision_of(trace: TeacherTrace, answer: Answer, declared: Declaration = DEFAULT) -> Decided | None:
    """Return the decision that an answer amounts to, None without one. Raises BadAnswer.

    An approval with another verdict or explanation than the teacher's is an edit.
    """
    given = answer.given
    decision = given.get(DECISION)
    if decision is None:
        return None
    if decision not in DECISIONS:
        raise BadAnswer(f"trace {trace.id}: {decision[:40]!r} is no decision: use {' or '.join(DECISIONS)}")
    if decision == "reject":
        tool = answer.by.split(":")[1]
        return Decided("reject", None, given.get(REASON, f"rejected in {tool}, without a reason"))
    edit: dict[str, Any] = {}
    if (verdict := _verdict(trace, given, declared)) != dict(trace.verdict):
        edit["verdict"] = verdict
    if given.get(EXPLANATION, trace.explanation).strip() != trace.explanation.strip():
        edit["explanation"] = given[EXPLANATION]
    if _lines(given.get(STEPS, "")) not in ([], _lines(steps_text(trace.steps_json))):
        edit["steps_json"] = json.dumps(_steps(trace, given[STEPS]))
    return Decided("edit" if edit else "approve", json.dumps(edit) if edit else None, given.get(REASON))


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def _steps(trace: TeacherTrace, text: str) -> dict[str, list[str]]:
    """Return the steps that a person wrote, by task; every task that had some keeps at least one."""
    before = json.loads(trace.steps_json)
    steps: dict[str, list[str]] = {task: [] for task in before}
    for line in _lines(text):
        task, colon, step = line.partition(":")
        if not colon or task.strip() not in steps or not step.strip():
            raise BadAnswer(
                f"trace {trace.id}: {STEPS}: a line must begin with {', '.join(before)} and a colon, not {line[:40]!r}"
            )
        steps[task.strip()].append(step.strip())
    if empty := [task for task, lines in steps.items() if before[task] and not lines]:
        raise BadAnswer(f"trace {trace.id}: {STEPS}: no line is left for {empty[0]}")
    return steps


def _verdict(trace: TeacherTrace, given: Any, declared: Declaration) -> dict[str, str | None]:
    """Return the teacher's verdict with what a person changed."""
    verdict = dict(trace.verdict)
    for task in declared.tasks:
        label = given.get(VERDICTS[task])
        if label is None:
            continue
        if verdict.get(task) is None:
            raise BadAnswer(f"trace {trace.id}: {VERDICTS[task]}: the sample has nothing to judge there: leave it out")
        if label not in declared[task]:
            raise BadAnswer(f"trace {trace.id}: {VERDICTS[task]} is {label[:40]!r}: use {' or '.join(declared[task])}")
        verdict[task] = label
    return verdict
