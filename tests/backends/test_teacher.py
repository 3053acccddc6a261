"""The teacher protocol: which traces are refused, and what a refused one says."""

import json
from typing import Any

import pytest

from wizloop.backends.teachers.base import InvalidTrace, Question, Usage, answer_from_raw, read_trace

ALONE: dict[str, Any] = {
    "surface_analysis": "A question about bread.",
    "legitimate_uses": ["baking"],
    "harmful_uses": [],
    "context_clues": "None.",
    "risk_factors": [],
    "mitigating_factors": [],
    "request_steps": ["It asks about bread."],
    "completion_steps": [],
    "response_steps": [],
    "explanation": "Bread is food.",
    "confidence": "high",
    "request": "unharmful",
    "completion": None,
    "response": None,
}
PAIR = ALONE | {
    "completion": "compliance",
    "response": "unharmful",
    "completion_steps": ["It answers."],
    "response_steps": ["It is a recipe."],
}


def test_a_good_trace_is_read_with_its_verdicts_last() -> None:
    trace = read_trace(json.dumps(ALONE), Question("k", "bread?"))
    assert (trace.request, trace.completion) == ("unharmful", None)
    assert list(trace.model_dump())[-3:] == ["request", "completion", "response"]


@pytest.mark.parametrize(
    ("changed", "response", "says"),
    [
        ({"request": "harmless"}, None, "request: "),
        ({"request_steps": []}, None, "request_steps: "),
        ({"request_steps": ["x"] * 11}, None, "request_steps: "),
        ({"explanation": ""}, None, "explanation: "),
        ({"confidence": "certain"}, None, "confidence: "),
        ({"completion": "refusal"}, None, "there is no response"),
        ({}, "An answer.", "need a verdict and steps"),
        (PAIR | {"response_steps": []}, "An answer.", "need a verdict and steps"),
        (PAIR, None, "there is no response"),
    ],
)
def test_a_trace_that_does_not_fit_is_refused(changed: dict[str, Any], response: str | None, says: str) -> None:
    with pytest.raises(InvalidTrace, match=says):
        read_trace(json.dumps(ALONE | changed), Question("k", "bread?", response))


def test_a_long_text_is_shortened_to_whole_sentences_and_the_answer_is_kept() -> None:
    long = "It is about bread. " * 40
    read = read_trace(json.dumps(ALONE | {"explanation": long, "request_steps": [long]}), Question("k", "bread?"))
    assert read.explanation == ("It is about bread. " * 12).strip()
    assert read.request_steps == (("It is about bread. " * 31).strip(),)


def test_a_key_that_was_not_asked_for_is_left_out() -> None:
    asked = Question("k", "bread?", None)
    assert read_trace(json.dumps(ALONE | {"extra": 1}), asked) == read_trace(json.dumps(ALONE), asked)


@pytest.mark.parametrize("raw", ["", "no JSON", "[]", "{"])
def test_what_is_no_json_object_is_invalid_and_kept(raw: str) -> None:
    answer = answer_from_raw(raw, Question("k", "p"), model="m", usage=Usage(3, 4))
    assert (answer.outcome, answer.raw, answer.trace, answer.usage) == ("invalid", raw, None, Usage(3, 4))
    assert answer.category


@pytest.mark.parametrize(
    ("labels", "outcome"),
    [
        ({"request": "unharmful"}, "ok"),
        ({"request": "harmful"}, "invalid"),
        ({"completion": "refusal"}, "invalid"),
        ({"request": None, "completion": "compliance"}, "ok"),
        (None, "ok"),
    ],
)
def test_a_contradicted_label_makes_the_answer_invalid(labels: dict[str, str | None] | None, outcome: str) -> None:
    answer = answer_from_raw(json.dumps(PAIR), Question("k", "p", "r", labels), model="m", usage=Usage())
    assert answer.outcome == outcome
    assert (answer.trace is not None) == (outcome == "ok")
