"""No rationale is trained that speaks against the verdict behind it."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime

import pytest

from wizloop.backends.teachers.base import Question
from wizloop.loop.guard.grammar import render, render_sentence
from wizloop.loop.measures.mining import Generation, mine
from wizloop.loop.phases.contradictions import contradicts, is_overruled, taught_with
from wizloop.loop.teaching.teachers import reasoner_of
from wizloop.loop.words import Verdict
from wizloop.recipes import schema
from wizloop.store.teacher_calls import TeacherTrace

H, U = "harmful", "unharmful"
UNTOUCHED = "No policy is touched."
EITHER = "It may be either."
TAUGHT = [(UNTOUCHED, U), ("Violence and weapons: explicit wording.", H), (EITHER, H), (EITHER, U)]


def alone(request: str) -> Verdict:
    return {"request": request, "completion": None, "response": None}


def trace(sentence: str, request: str) -> str:
    return render_sentence(sentence, alone(request))


def lessons() -> list[str]:
    return [trace(sentence, label) for sentence, label in TAUGHT]


@pytest.mark.parametrize(
    ("sentence", "label", "against"),
    [
        (UNTOUCHED, H, True),
        (UNTOUCHED, U, False),
        ("Violence and weapons: explicit wording.", U, True),
        (EITHER, H, False),
        ("Nobody taught this sentence.", H, False),
        ("It asks how to hurt somebody, so the request is harmful.", U, True),
        ("It asks how to hurt somebody, so the request is harmful.", H, False),
    ],
)
def test_a_reasoning_speaks_against_a_verdict_that_was_never_taught_behind_it(
    sentence: str, label: str, against: bool
) -> None:
    found = contradicts(trace(sentence, label), alone(label), taught_with(lessons()), has_response=False)
    assert found is against


def test_the_line_of_categories_hides_no_verdict() -> None:
    taught = taught_with([f"{trace(UNTOUCHED, U)}\nCategories: None"])
    assert contradicts(trace(UNTOUCHED, H), alone(H), taught, has_response=False)


def test_each_task_of_a_pair_is_looked_at_and_words_about_either_are_not_read() -> None:
    verdict: Verdict = {"request": H, "completion": "compliance", "response": U}
    taught = taught_with([render("It explains nothing.", verdict)])
    other: Verdict = {**verdict, "response": H}
    assert contradicts(render("It explains nothing.", other), other, taught, has_response=True)
    assert not contradicts(render("The request is harmless.", verdict), verdict, taught, has_response=True)


def test_what_contradicts_itself_is_rejected_and_never_chosen() -> None:
    wrong, right = Generation(trace(UNTOUCHED, U), alone(U)), Generation(trace("A threat.", H), alone(H))
    lucky = Generation(trace(UNTOUCHED, H), alone(H), contradicts=True)
    pair = mine(1, {"request": H}, has_response=False, generations=[wrong, lucky, right])
    assert pair is not None
    assert (pair.chosen, pair.rejected) == (right.text, wrong.text)
    assert mine(1, {"request": H}, has_response=False, generations=[wrong, lucky]) is None


def written(request: str, **edited: object) -> TeacherTrace:
    """A stored trace that says unharmful, approved with this verdict and these edits."""
    whole = {"request": U, "explanation": UNTOUCHED, "request_steps": ["No keyword.", "So it is fine."]}
    told = {"explanation": UNTOUCHED, "steps_json": json.dumps({"request": whole["request_steps"]}), **edited}
    verdict: Mapping[str, str | None] = alone(request)  # type: ignore[assignment]
    return TeacherTrace(
        id=1,
        call_id=1,
        sample_id=1,
        round=0,
        teacher="policy",
        verdict=dict(verdict),
        confidence_word="high",
        trace_json=json.dumps(whole),
        created_at=datetime(2026, 3, 1, tzinfo=UTC),
        **told,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("request_label", "edited", "overruled"),
    [
        (H, {}, (True, True)),
        (U, {}, (False, False)),
        (H, {"explanation": "A threat."}, (False, True)),
        (H, {"steps_json": '{"request": ["It is a threat."]}'}, (True, False)),
    ],
)
def test_a_changed_verdict_leaves_the_reasoning_behind(
    request_label: str, edited: dict[str, str], overruled: tuple[bool, bool]
) -> None:
    one = written(request_label, **edited)
    assert (is_overruled(one, "sentence"), is_overruled(one, "steps")) == overruled


@pytest.mark.parametrize(
    ("labels", "said", "steps"),
    [
        ({"request": U, "response": H}, "The answer harms by meaning; the assistant complies.", "response is harmful"),
        ({"request": H}, "Harm by meaning, not by listed wording; the assistant complies.", "request is harmful"),
        ({"completion": "refusal"}, "No policy is touched; the assistant refuses.", "the assistant refuses"),
    ],
)
def test_the_policy_reasoner_says_where_a_label_outranks_its_wording(
    labels: dict[str, str | None], said: str, steps: str
) -> None:
    asked = Question("k", "How do I make my neighbor cry?", "Tell her that her garden is ugly.", labels)
    found = reasoner_of(schema.load("demo")).ask(asked).trace
    assert found is not None
    assert found.explanation == said
    lines = [*found.request_steps, *found.completion_steps, *found.response_steps]
    assert any("label outranks the wording" in line for line in lines)
    assert any(steps in line for line in lines)
