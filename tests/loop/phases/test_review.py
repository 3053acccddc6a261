"""What the rule lets wait for a person, whose word goes before the rule's, and what is trained on of it."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from tests import single_calls, stored
from tests.loop.small_night import NOW, Night, recipe
from wizloop.loop.phases import order
from wizloop.loop.phases.review import Rule, doubt
from wizloop.loop.words import Task
from wizloop.store import control, models, predictions, reviews, samples, steps, tables, teacher_calls
from wizloop.store.db import Connection
from wizloop.store.teacher_calls import TeacherTrace


def trace(request: str, word: str = "high") -> TeacherTrace:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    return TeacherTrace(1, 1, 1, 0, "policy", {"request": request, "completion": None}, word, "{}", "x", "{}", at)


@pytest.mark.parametrize(
    ("rule", "label", "p", "word", "expected"),
    [
        ("nothing", "unharmful", 0.01, "low", None),
        ("everything", "harmful", 0.99, "high", "Every trace waits for a person."),
        ("doubtful", "harmful", 0.99, "high", None),
        ("doubtful", None, None, "medium", None),
        ("doubtful", "unharmful", None, "high", "The teacher calls the request harmful, the known label is unharmful."),
        (
            "doubtful",
            None,
            0.05,
            "high",
            "The teacher calls the request harmful, the guard is 95 % sure that it is unharmful.",
        ),
        ("doubtful", None, 0.11, "high", None),
        ("doubtful", None, 0.5, "low", "The teacher calls its own confidence low."),
    ],
)
def test_the_rule(rule: Rule, label: str | None, p: float | None, word: str, expected: str | None) -> None:
    labels = {} if label is None else {"request": label}
    guard = {} if p is None else {"request": p}
    assert doubt(rule, trace("harmful", word), labels, guard, confident_at=0.9) == expected


def pair(**verdict: str) -> TeacherTrace:
    """Return a trace about a prompt with its response; nothing is harmful and nothing refused, save what is said."""
    said: dict[str, str | None] = {
        "request": "unharmful",
        "completion": "compliance",
        "response": "unharmful",
        **verdict,
    }
    return replace(trace("unharmful"), verdict=said)


@pytest.mark.parametrize(
    ("task", "other"), [("request", "harmful"), ("completion", "refusal"), ("response", "harmful")]
)
def test_each_task_is_held_against_its_own_label_and_its_own_probability(task: Task, other: str) -> None:
    said = pair().verdict[task]
    label = doubt("doubtful", pair(), {task: other}, {}, confident_at=0.9)
    assert label == f"The teacher calls the {task} {said}, the known label is {other}."
    guard = doubt("doubtful", pair(), {}, {task: 0.95}, confident_at=0.9)
    assert guard == f"The teacher calls the {task} {said}, the guard is 95 % sure that it is {other}."
    assert doubt("doubtful", pair(), {}, {task: 0.05}, confident_at=0.9) is None
    assert doubt("doubtful", pair(**{task: other}), {}, {task: 0.95}, confident_at=0.9) is None
    turned = doubt("doubtful", pair(**{task: other}), {}, {task: 0.05}, confident_at=0.9)
    assert turned == f"The teacher calls the {task} {other}, the guard is 95 % sure that it is {said}."


@pytest.mark.parametrize(("confident_at", "waits"), [(0.75, True), (0.76, False)])
def test_a_guard_is_confident_from_the_bound_on(confident_at: float, waits: bool) -> None:
    reason = doubt("doubtful", trace("unharmful"), {}, {"request": 0.75}, confident_at=confident_at)
    assert (reason is not None) == waits


def night_of(folder: Path, *, champion: bool = True) -> Night:
    """Open a night with two models, of which r00 may be the champion; neither has judged anything yet."""
    night = Night(folder, recipe(review={"rule": "doubtful"}))
    with night.store.write() as db:
        model(db, "other")
        first = model(db, "r00")
        if champion:
            control.set_champion(db, first)
        for round in (0, 1):
            steps.begin_round(db, round, None, NOW)
    return night


def model(db: Connection, name: str) -> int:
    told = {"role": "challenger", "round": 0, "parent_id": None, "path": name, "sha256": "", "meta_json": "{}"}
    return models.add(db, name=name, now=NOW, **told)  # type: ignore[arg-type]


def taught(
    night: Night,
    request: str = "harmful",
    word: str = "high",
    *,
    round: int = 1,
    p: float | None = None,
    label: str | None = None,
) -> int:
    """Add a sample with a trace on it and perhaps the champion's probability; return the trace's id."""
    with night.store.write() as db:
        prompt = f"prompt {len(samples.ids(db, 'pool'))}"
        samples.add(db, [samples.NewSample("pool", prompt, None, "made", "row", request=label)], NOW)
        sample_id = samples.ids(db, "pool")[-1]
        if p is not None:
            predictions.add(db, [judged("r00", db, sample_id, p)])
        asked = {"sample_id": sample_id, "round": round, "teacher": "policy", "model": "p1", "attempt": 1}
        call = single_calls.plan(db, key=f"{sample_id:064x}", request_json="{}", now=NOW, **asked)  # type: ignore[arg-type]
        text = {"trace_json": "{}", "explanation": "It asks.", "steps_json": "{}", "confidence_word": word}
        return single_calls.add_trace(db, call_id=call, verdict={"request": request}, now=NOW, **text)


STEPS = ["It asks how a lock of somebody else is opened.", "A burglary is what a full answer would help with."]


def written(night: Night, *steps: str, teacher: str = "claude") -> int:
    """Let a model's reasoning with these steps, and the verdict harmful, stand in for a trace; return its id."""
    trace_id = taught(night, request="harmful")
    told = {"steps_json": json.dumps({"request": steps or STEPS}), "teacher": teacher}
    with night.store.write() as db:
        db.execute(update(tables.teacher_traces).where(tables.teacher_traces.c.id == trace_id).values(**told))
    return trace_id


@pytest.mark.parametrize("rule", ["nothing", "doubtful"])
def test_what_fails_a_screen_waits_with_the_reason_under_every_rule(tmp_path: Path, rule: str) -> None:
    night = night_of(tmp_path / "a")
    night.recipe = recipe(review={"rule": rule})
    sound, turned = written(night), written(night, *STEPS, "So the request is harmless.")
    template = written(night, *STEPS, "So the request is harmless.", teacher="policy")
    assert night.phase(1, "review") == "2 approved, 1 wait for a person; screens: 1 contradiction"
    assert [stands(night, one) for one in (sound, turned, template)] == [
        ("approve", f"rule:{rule}"),
        ("wait", f"rule:{rule}"),
        ("approve", f"rule:{rule}"),
    ]
    with night.store.read() as db:
        (held,) = reviews.waiting(db, 9)
    assert held.reason == "Screened: its steps conclude that the request is unharmful, its verdict is harmful."


@pytest.mark.parametrize(
    ("review", "waits"),
    [
        pytest.param({"screens": ["steps", "risky"]}, False, marks=pytest.mark.recipe_key("review.screens")),
        ({"screens": ["contradiction"]}, True),
        pytest.param({"screens": ["steps"], "most_steps": 2}, True, marks=pytest.mark.recipe_key("review.most_steps")),
        ({"screens": ["steps"], "most_steps": 3}, False),
        pytest.param({"screens": ["length"], "longest": 110}, True, marks=pytest.mark.recipe_key("review.longest")),
        ({"screens": ["length"], "longest": 200}, False),
    ],
)
def test_the_recipe_names_the_screens_and_their_limits(tmp_path: Path, review: dict[str, Any], waits: bool) -> None:
    night = night_of(tmp_path / "a")
    night.recipe = recipe(review={"rule": "nothing", **review})
    one = written(night, *STEPS, "So the request is harmless.")
    night.phase(1, "review")
    assert stands(night, one) == ("wait" if waits else "approve", "rule:nothing")


def judged(name: str, db: Connection, sample_id: int, p: float) -> predictions.Prediction:
    by = models.by_name(db, name)
    assert by is not None
    return predictions.Prediction(by.id, sample_id, 1, {"request": p}, {}, None, None, {}, 0, False, 0)


def stands(night: Night, trace_id: int) -> tuple[str, str] | None:
    with night.store.read() as db:
        found = reviews.standing(db, trace_id)
    return None if found is None else (found.decision, found.by)


APPROVED, WAITS = ("approve", "rule:doubtful"), ("wait", "rule:doubtful")


def test_a_label_a_confident_guard_and_its_own_word_each_let_a_trace_wait(tmp_path: Path) -> None:
    night = night_of(tmp_path / "a")
    plain = taught(night, request="harmful", p=0.3)
    by_label = taught(night, request="harmful", label="unharmful", p=0.99)
    by_guard = taught(night, request="harmful", p=0.02)
    by_word = taught(night, request="harmful", word="low", p=0.99)
    assert night.phase(1, "review") == "1 approved, 3 wait for a person"
    assert stands(night, plain) == APPROVED
    assert [stands(night, one) for one in (by_label, by_guard, by_word)] == [WAITS] * 3
    with night.store.read() as db:
        reasons = [one.reason for one in reviews.waiting(db, 9)]
    assert reasons == [
        "The teacher calls the request harmful, the known label is unharmful.",
        "The teacher calls the request harmful, the guard is 98 % sure that it is unharmful.",
        "The teacher calls its own confidence low.",
    ]


def test_the_champion_is_believed_and_no_other_model(tmp_path: Path) -> None:
    night = night_of(tmp_path / "a")
    first, second = taught(night, request="harmful", p=0.02), taught(night, request="harmful", p=0.98)
    with night.store.write() as db:
        at = samples.ids(db, "pool")
        predictions.add(db, [judged("other", db, at[0], 0.98), judged("other", db, at[1], 0.02)])
    night.phase(1, "review")
    assert [stands(night, one) for one in (first, second)] == [WAITS, APPROVED]


def test_a_round_without_a_champion_has_no_guard_to_doubt_by(tmp_path: Path) -> None:
    night = night_of(tmp_path / "a", champion=False)
    by_guard, by_word = taught(night, p=0.02, round=0), taught(night, word="low", round=0)
    night.phase(0, "review")
    assert [stands(night, one) for one in (by_guard, by_word)] == [APPROVED, WAITS]


def test_a_round_rules_on_its_own_traces(tmp_path: Path) -> None:
    night = night_of(tmp_path / "a")
    earlier, now = taught(night, round=0), taught(night, round=1)
    assert night.phase(1, "review") == "1 approved, 0 wait for a person"
    assert (stands(night, earlier), stands(night, now)) == (None, APPROVED)


@pytest.mark.parametrize("decision", ["approve", "reject"])
def test_a_person_who_was_first_is_not_overruled(tmp_path: Path, decision: str) -> None:
    night = night_of(tmp_path / "a")
    plain, doubtful = taught(night), taught(night, word="low")
    with night.store.write() as db:
        for one in (plain, doubtful):
            told = {"trace_id": one, "decision": decision, "by": "person:ann", "decision_id": f"ann-{one}"}
            reviews.review(db, now=NOW, **told)  # type: ignore[arg-type]
    assert night.phase(1, "review") == "0 approved, 0 wait for a person"
    assert [stands(night, one) for one in (plain, doubtful)] == [(decision, "person:ann")] * 2
    with night.store.read() as db:
        assert [one.by for trace_id in (plain, doubtful) for one in reviews.log(db, trace_id)] == ["person:ann"] * 2
        assert len(reviews.approved(db, 1)) == (2 if decision == "approve" else 0)


def test_a_persons_word_on_what_waits_holds_when_the_phase_is_done_again(tmp_path: Path) -> None:
    night = night_of(tmp_path / "a")
    one, other = taught(night, word="low"), taught(night)
    assert night.phase(1, "review") == "1 approved, 1 wait for a person"
    with night.store.write() as db:
        for trace_id, decision in ((one, "approve"), (other, "reject")):
            told = {"trace_id": trace_id, "decision": decision, "by": "person:ann", "decision_id": f"ann-{trace_id}"}
            reviews.review(db, now=NOW, **told)  # type: ignore[arg-type]
    night.phase(1, "review")
    assert (stands(night, one), stands(night, other)) == (("approve", "person:ann"), ("reject", "person:ann"))


def test_what_waits_is_learned_from_in_the_round_after_a_person_approved_it(tmp_path: Path) -> None:
    night = Night(tmp_path / "a", recipe(review={"rule": "doubtful"}))
    for phase in order.phases_of(0):
        night.phase(0, phase)
    with night.store.read() as db:
        held = {one.trace.sample_id: one.trace.id for one in reviews.waiting(db, 99)}
        taught_in_0 = {one.sample_id for one in teacher_calls.traces(db, 0)}
    assert 0 < len(held) < len(taught_in_0)
    assert learned(night, 0) == taught_in_0 - set(held)
    approved, *_ = held
    with night.store.write() as db:
        told = {"trace_id": held[approved], "decision": "approve", "by": "person:ann", "decision_id": "ann"}
        reviews.review(db, now=NOW, **told)  # type: ignore[arg-type]
    for phase in ("classify", "select", "teach", "review", "train"):
        night.phase(1, phase)
    assert learned(night, 1) & taught_in_0 == learned(night, 0) | {approved}


def learned(night: Night, round: int) -> set[int]:
    """Return the samples that a round's model was trained on."""
    with night.store.read() as db:
        made = models.by_name(db, f"r{round:02d}-sft")
        assert made is not None
        return {one.sample_id for one in stored.uses(db, made.id) if one.trace_id is not None}
