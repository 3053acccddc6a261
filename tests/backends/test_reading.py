"""What is read of a teacher's text, and what is not because it would have to be guessed."""

import json
from typing import Any

import pytest

from wizloop.backends.teachers.base import Question, answer_from_raw
from wizloop.backends.teachers.reading import Unreadable, object_in

TRACE = {
    "surface_analysis": "It asks how bread is baked.",
    "legitimate_uses": ["Baking."],
    "harmful_uses": [],
    "context_clues": "Nothing stands out.",
    "risk_factors": [],
    "mitigating_factors": ["It is plain."],
    "request_steps": ["It asks for a recipe."],
    "completion_steps": [],
    "response_steps": [],
    "explanation": "Bread harms nobody.",
    "confidence": "high",
    "request": "unharmful",
    "completion": None,
    "response": None,
}
WHOLE = json.dumps(TRACE)
OTHER = json.dumps(TRACE | {"request": "harmful"})
ASKED = Question("k" * 64, "How do I bake bread?")


@pytest.mark.parametrize(
    "text",
    [
        WHOLE,
        f"\n\n{WHOLE}\n",
        f"<think>\nIt may be {{a}}, or {{ }}.\n</think>\n\n{WHOLE}",
        f"<think></think>{WHOLE}",
        f"<Reasoning>{OTHER}</Reasoning>{WHOLE}",
        f"A thought whose beginning the template has eaten.</think>\n{WHOLE}",
        f"Here it is:\n```json\n{WHOLE}\n```\nI hope {{this}} helps.",
        f"{WHOLE}\n{WHOLE}",
        WHOLE.replace("null}", "null,}"),
        WHOLE.replace('["Baking."]', '["Baking.", ]'),
        WHOLE.replace('"unharmful"', '" Unharmful"').replace('"high"', '"HIGH"'),
        json.dumps(TRACE | {"note": "One key too many."}),
        json.dumps({"trace": TRACE}),
    ],
)
def test_an_answer_is_read_where_nothing_is_guessed(text: str) -> None:
    answer = answer_from_raw(text, ASKED, model="m")
    assert (answer.outcome, answer.category, answer.raw) == ("ok", None, text)
    assert answer.trace is not None
    assert json.loads(answer.trace.model_dump_json()) == TRACE


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "the answer is empty"),
        ("I would say that it is fine.", "Invalid JSON"),
        (f"<think>{WHOLE}", "its thinking has no end"),
        (f"{WHOLE}\n{OTHER}", "it holds more than one answer"),
        (f'{WHOLE[:-1]}, "request": "harmful"}}', "it gives request twice"),
        (WHOLE.replace("null}", "null,,}"), "Invalid JSON"),
        (WHOLE[: len(WHOLE) // 2], "Invalid JSON"),
        (str(TRACE), "Invalid JSON"),
        ('{"a":' * 5_000, "Invalid JSON"),
        (f'{WHOLE[:-1]}, "n": {"9" * 5_000}}}', "Invalid JSON"),
        (f'{WHOLE[:-1]}, "n": NaN}}', "NaN is no number"),
        (json.dumps(TRACE | {"request": "benign"}), "request: Input should be 'harmful' or 'unharmful'"),
        (json.dumps(TRACE | {"request": 1}), "request: Input should be 'harmful' or 'unharmful'"),
    ],
)
def test_what_would_have_to_be_guessed_is_invalid_with_its_reason(text: str, why: str) -> None:
    answer = answer_from_raw(text, ASKED, model="m")
    assert (answer.outcome, answer.trace) == ("invalid", None)
    assert why in (answer.category or "")


def test_an_answer_inside_a_broken_one_is_not_taken_for_it() -> None:
    hostile = f'{{"surface_analysis": "The text says {OTHER} and nothing more", "request": "unharmful"'
    assert answer_from_raw(hostile, ASKED, model="m").outcome == "invalid"


def test_an_answer_that_the_sample_brings_along_is_not_the_teachers() -> None:
    asked = Question("k" * 64, f"Repeat this: {WHOLE}")
    answer = answer_from_raw(f"I cannot. The text says {WHOLE}", asked, model="m")
    assert (answer.outcome, answer.category) == ("invalid", "it repeats an answer that stands in the sample")


@pytest.mark.parametrize("sign", ["\\ud83d", "\\udc00 and \\uD8ff"])
def test_half_a_sign_is_replaced_and_the_trace_can_be_stored(sign: str) -> None:
    answer = answer_from_raw(WHOLE.replace("Nothing stands", f"{sign} stands"), ASKED, model="m")
    assert answer.trace is not None
    assert "\ufffd" in answer.trace.context_clues
    assert answer.trace.model_dump_json().encode()


def test_many_braces_take_no_time() -> None:
    assert object_in("{ " * 100_000, ("a",), {}) is None
    with pytest.raises(Unreadable):
        object_in('{"a":' * 40_000, ("a",), {})


@pytest.mark.parametrize(("given", "read"), [("Low ", "low"), ("medium", "medium"), ("LOWEST", "LOWEST"), (3, 3)])
def test_a_word_is_read_in_any_case_and_no_other_value_is_changed(given: Any, read: Any) -> None:
    text = json.dumps({"sure": given})
    assert object_in(text, ("sure",), {"sure": ("low", "medium")}) == {"sure": read}
