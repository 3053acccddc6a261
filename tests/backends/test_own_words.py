"""Teachers answer in one's own words: the schema and the instruction name these labels and no others."""

import json
from typing import Any

import pytest

from wizloop.backends.teachers import prompt
from wizloop.backends.teachers.base import OUR_WORDS, InvalidTrace, Question, Words, answer_from_raw, read_trace
from wizloop.backends.teachers.policy.reasoner import PolicyReasoner
from wizloop.backends.teachers.policy.scoring import Policy
from wizloop.backends.teachers.recorded import RecordedTeacher, text_sha
from wizloop.backends.teachers.small import answer_from_small

SPAM = Words(("spam", "ham"), (), ("Not OK", "OK"))
ALONE, PAIR = Question("k", "Win a prize"), Question("k", "Win a prize", "You won.")
POLICY = Policy("p", "Prizes", "Forbids prizes.", "high", ("prize",), ())


def verdict(found: Any) -> tuple[str, str | None, str | None]:
    return found.request, found.completion, found.response


def trace(**changes: Any) -> str:
    lists: dict[str, Any] = {
        name: [] for name in ("legitimate_uses", "harmful_uses", "risk_factors", "mitigating_factors")
    }
    texts = {"surface_analysis": "A prize.", "context_clues": "None.", "explanation": "It lures.", "confidence": "high"}
    steps = {"request_steps": ["It lures."], "response_steps": []}
    return json.dumps({**texts, **lists, **steps, "request": "spam", "response": None, **changes})


@pytest.mark.parametrize("small", [False, True])
def test_the_schema_has_these_labels_and_tasks_only(small: bool) -> None:
    text = prompt.schema_text(small, SPAM)
    assert all(f'"{word}"' in text for word in ("spam", "ham", "Not OK", "OK"))
    assert "completion" not in text
    assert "harmful" not in text.replace("harmful_uses", "")
    assert prompt.schema(small) == prompt.schema(small, OUR_WORDS)


@pytest.mark.parametrize("own", [None, "Judge advertisements."])
def test_the_instruction_names_the_labels(own: str | None) -> None:
    text = prompt.instruction([], prompt.Wording(own, words=SPAM))
    assert '- request (what the person asks): "spam", "ham".' in text
    assert '"Not OK", "OK"' in text
    assert "unharmful" not in text
    assert "{" not in text


def test_the_message_says_what_is_empty_without_a_response() -> None:
    assert "has no answer: response is null" in prompt.message(ALONE, SPAM)
    assert "has no answer. It" in prompt.message(ALONE, SPAM._replace(response=()))


def test_an_answer_is_read_in_these_words() -> None:
    assert verdict(read_trace(trace(request="SPAM"), ALONE, SPAM)) == ("spam", None, None)
    found = read_trace(trace(response="ok", response_steps=["It pays."]), PAIR, SPAM)
    assert verdict(found) == ("spam", None, "OK")
    with pytest.raises(InvalidTrace, match="'spam' or 'ham'"):
        read_trace(trace(request="harmful"), ALONE, SPAM)
    with pytest.raises(InvalidTrace, match="response need a verdict"):
        read_trace(trace(), PAIR, SPAM)
    small = answer_from_small('{"rationale": "It lures.", "request": "spam", "response": "OK"}', PAIR, SPAM, model="m")
    assert verdict(small.trace) == ("spam", None, "OK")


def test_recorded_labels_are_given_back_in_these_words() -> None:
    teacher = RecordedTeacher({text_sha("Win a prize", None): {"request": "spam"}}, SPAM)
    found = teacher.ask(ALONE).trace
    assert found is not None
    assert (verdict(found)[0], found.explanation) == ("spam", "Request is spam.")
    assert answer_from_raw(found.model_dump_json(), ALONE, SPAM, model="m").outcome == "ok"
    with pytest.raises(ValueError, match="cannot be 'harmful'"):
        RecordedTeacher({"a": {"request": "harmful"}}, SPAM)


def test_the_policy_reasoner_says_that_it_does_not_know_them() -> None:
    with pytest.raises(ValueError, match="tasks declares spam, ham"):
        PolicyReasoner([POLICY], "low", SPAM)
    found = PolicyReasoner([POLICY], "low", Words(completion=(), response=())).ask(PAIR).trace
    assert found is not None
    assert (found.completion, found.response, found.response_steps) == (None, None, ())
