"""Who decided what, and which decision stands."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import count

import pytest

from wizloop.store import errors, reviews
from wizloop.store.db import Connection

Taught = Callable[..., int]
Decide = Callable[..., int]


@pytest.fixture
def decide(db: Connection, now: datetime) -> Decide:
    """Decide on a trace, each time under a new id and a minute later."""
    ids = count()

    def write(trace_id: int, decision: str, by: str = "person:ann", edited: str | None = None) -> int:
        n = next(ids)
        said = {
            "trace_id": trace_id,
            "decision": decision,
            "by": by,
            "reason": f"{decision} {n}",
            "edited_json": edited,
        }
        return reviews.review(db, **said, now=now + timedelta(minutes=n), decision_id=f"d{n}")  # type: ignore[arg-type]

    return write


def _stands(db: Connection, trace_id: int) -> tuple[str, str] | None:
    found = reviews.standing(db, trace_id)
    return None if found is None else (found.decision, found.by)


def test_a_person_outranks_a_rule_before_and_after(db: Connection, taught: Taught, decide: Decide) -> None:
    trace = taught()
    assert _stands(db, trace) is None
    decide(trace, "approve", "rule:doubt")
    assert _stands(db, trace) == ("approve", "rule:doubt")
    decide(trace, "reject")
    decide(trace, "approve", "rule:doubt")
    assert _stands(db, trace) == ("reject", "person:ann")


def test_an_undo_brings_back_what_stood_before(db: Connection, taught: Taught, decide: Decide) -> None:
    trace = taught()
    for decision, by, stands in [
        ("wait", "rule:doubt", ("wait", "rule:doubt")),
        ("approve", "person:ann", ("approve", "person:ann")),
        ("reject", "person:ann", ("reject", "person:ann")),
        ("undo", "person:ann", ("approve", "person:ann")),
        ("undo", "person:ann", ("wait", "rule:doubt")),
        ("undo", "rule:doubt", None),
    ]:
        decide(trace, decision, by)
        assert _stands(db, trace) == stands
    assert len(reviews.log(db, trace)) == 6
    with pytest.raises(errors.NothingToUndo, match="person:ann"):
        decide(trace, "undo")


def test_an_undo_cancels_only_ones_own(db: Connection, taught: Taught, decide: Decide) -> None:
    trace = taught()
    decide(trace, "approve", "person:ann")
    with pytest.raises(errors.NothingToUndo, match="person:bob"):
        decide(trace, "undo", "person:bob")
    assert _stands(db, trace) == ("approve", "person:ann")


@pytest.mark.parametrize("second", ["approve", "reject"])
def test_two_persons_never_decide_the_same_trace(db: Connection, taught: Taught, decide: Decide, second: str) -> None:
    trace = taught()
    decide(trace, "approve", "person:ann")
    with pytest.raises(errors.AlreadyDecided, match=r"person:ann at 2026-05-04T03:02:01\+00:00"):
        decide(trace, second, "person:bob")
    decide(trace, "undo", "person:ann")
    decide(trace, second, "person:bob")
    assert _stands(db, trace) == (second, "person:bob")


def test_the_same_decision_sent_again_changes_nothing(db: Connection, taught: Taught, now: datetime) -> None:
    said = {"trace_id": taught(), "decision": "approve", "by": "person:ann", "now": now, "decision_id": "x"}
    assert reviews.review(db, **said) == reviews.review(db, **said)  # type: ignore[arg-type]
    assert len(reviews.log(db, 1)) == 1


@pytest.mark.parametrize(
    ("decision", "by", "edited", "complaint"),
    [
        ("wait", "person:ann", None, "cannot decide 'wait'"),
        ("maybe", "rule:doubt", None, "cannot decide 'maybe'"),
        ("approve", "ann", None, "not a reviewer"),
        ("approve", "person:", None, "not a reviewer"),
        ("edit", "person:ann", None, "must have the edited text"),
        ("approve", "person:ann", '{"explanation": "x"}', "must have the edited text"),
        ("edit", "person:ann", '{"teacher": "x"}', "'teacher' cannot be edited"),
        ("edit", "person:ann", '{"explanation": 7}', "'explanation' is invalid"),
        ("edit", "person:ann", "[]", "JSON object"),
        ("edit", "person:ann", "[" * 100_000, "JSON object"),
        ("edit", "person:ann", r'{"explanation": "half \ud83d"}', "'explanation' is not valid Unicode"),
        ("edit", "person:ann", r'{"explanation": "a\u0000b"}', "'explanation' contains a NUL"),
        ("edit", "person:ann", '{"explanation": "  "}', "'explanation' .* is blank"),
        ("edit", "person:ann", '{"verdict": {"request": 7}}', "'verdict' .* a label or null"),
        ("edit", "person:ann", '{"trace_json": "reading"}', "'trace_json' .* a JSON object"),
        ("edit", "person:ann", '{"trace_json": "{\\"reading\\": {}}"}', "'trace_json' .* lists of sentences"),
        ("edit", "person:ann", r'{"trace_json": "{\"a\": [\"\\ud83d\"]}"}', "'trace_json' is not valid Unicode"),
        ("edit", "person:ann", '{"steps_json": "[]"}', "'steps_json' .* a JSON object"),
        ("edit", "person:ann", '{"steps_json": "{\\"request\\": null}"}', "'steps_json' .* a list of sentences"),
        ("edit", "person:ann", '{"steps_json": "{\\"reply\\": []}"}', "any of request, completion, response"),
        ("edit", "person:ann", '{"steps_json": "{\\"request\\": [\\"\\"]}"}', "'steps_json' .* is blank"),
    ],
)
def test_what_is_no_decision_is_refused(
    db: Connection, taught: Taught, decide: Decide, decision: str, by: str, edited: str | None, complaint: str
) -> None:
    trace = taught()
    with pytest.raises(errors.BadDecision, match=complaint):
        decide(trace, decision, by, edited)
    assert reviews.log(db, trace) == []


def test_a_reason_that_cannot_be_stored_is_refused(db: Connection, taught: Taught, now: datetime) -> None:
    said = {"trace_id": taught(), "decision": "reject", "by": "person:ann", "now": now, "decision_id": "x"}
    with pytest.raises(errors.BadDecision, match="the reason is not valid Unicode"):
        reviews.review(db, **said, reason="half \udc80")  # type: ignore[arg-type]


def test_a_trace_that_is_not_there_cannot_be_reviewed(decide: Decide) -> None:
    with pytest.raises(errors.NotFound, match="5"):
        decide(5, "approve")


def test_the_rule_the_person_and_the_training_each_see_their_own(
    db: Connection, taught: Taught, decide: Decide
) -> None:
    traces = [taught(n, round=1) for n in range(4)] + [taught(4, round=2)]
    decide(traces[0], "approve", "rule:doubt")
    decide(traces[1], "wait", "rule:doubt")
    decide(traces[2], "wait", "rule:doubt")
    decide(traces[4], "approve", "rule:doubt")
    assert [trace.id for trace in reviews.unreviewed(db, 1)] == [traces[3]]
    assert [(row.trace.id, row.reason) for row in reviews.waiting(db, 10)] == [(2, "wait 1"), (3, "wait 2")]
    assert [row.trace.id for row in reviews.waiting(db, 10, after_id=traces[1])] == [traces[2]]
    assert reviews.waiting_count(db) == 2
    decide(traces[1], "approve")
    decide(traces[2], "reject")
    assert reviews.waiting_count(db) == 0
    assert [trace.id for trace in reviews.approved(db, 1)] == traces[:2]
    assert [trace.id for trace in reviews.approved(db, 2)] == [*traces[:2], traces[4]]


def test_a_rule_that_speaks_of_many_says_what_it_would_of_each(
    db: Connection, taught: Taught, decide: Decide, now: datetime
) -> None:
    traces = [taught(n) for n in range(5)]
    decide(traces[2], "reject")
    decide(traces[3], "approve")
    decide(traces[3], "undo")
    against = dict.fromkeys(traces) | {traces[1]: "It is short.", traces[3]: "It is long."}
    for _ in range(2):
        reviews.rule_all(db, "doubt", against, now)
        assert [_stands(db, trace) for trace in traces] == [
            ("approve", "rule:doubt"),
            ("wait", "rule:doubt"),
            ("reject", "person:ann"),
            ("wait", "rule:doubt"),
            ("approve", "rule:doubt"),
        ]
        assert [len(reviews.log(db, trace)) for trace in traces] == [1, 1, 2, 3, 1]
    assert [(row.trace.id, row.reason) for row in reviews.waiting(db, 10)] == [
        (traces[1], "It is short."),
        (traces[3], "It is long."),
    ]
    [row] = reviews.log(db, traces[1])
    assert (row.decision, row.decided_at, row.decision_id) == ("wait", now, f"rule:doubt:{traces[1]}")
    reviews.rule_all(db, "doubt", {}, now)


def test_an_edit_approves_the_edited_text(db: Connection, taught: Taught, decide: Decide) -> None:
    trace = taught()
    steps = json.dumps({"request": ["One.", "Two."], "completion": []})
    better = {"explanation": "Better said.", "verdict": {"request": "unharmful"}, "steps_json": steps}
    decide(trace, "edit", edited=json.dumps(better))
    (approved,) = reviews.approved(db, 1)
    assert (approved.explanation, approved.verdict) == ("Better said.", {"request": "unharmful"})
    assert approved.steps_json == steps
    assert approved.trace_json == '{"reading": "plain"}'
    decide(trace, "approve")
    assert reviews.approved(db, 1) == [approved]
    decide(trace, "undo")
    decide(trace, "undo")
    assert reviews.approved(db, 1) == []
