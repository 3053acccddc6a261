"""Recorded labels as a teacher: what it says for each combination, and for what it does not hold."""

from itertools import product

import pytest

from wizloop.backends.teachers.base import Question
from wizloop.backends.teachers.recorded import RecordedTeacher, explain, text_sha


def test_a_recorded_prompt_is_answered_whatever_its_white_space() -> None:
    teacher = RecordedTeacher({text_sha("Bake  bread\n", None): {"request": "unharmful"}})
    answer = teacher.ask(Question("k", " Bake bread"))
    assert answer.trace is not None
    assert (answer.trace.request, answer.trace.explanation) == ("unharmful", "The request seeks no harm.")


@pytest.mark.parametrize(
    ("prompt", "response"), [("Bake rolls", None), ("bake bread", None), ("Bake bread", "Weigh the flour.")]
)
def test_what_is_not_recorded_is_blocked(prompt: str, response: str | None) -> None:
    answer = RecordedTeacher({text_sha("Bake bread", None): {"request": "unharmful"}}).ask(
        Question("k", prompt, response)
    )
    assert (answer.outcome, answer.category, answer.trace) == ("blocked", "not recorded", None)


def test_a_pair_with_a_missing_verdict_is_blocked() -> None:
    teacher = RecordedTeacher({text_sha("p", "r"): {"request": None, "completion": "refusal", "response": "harmful"}})
    assert teacher.ask(Question("k", "p", "r")).outcome == "blocked"


def test_a_contradicted_label_is_invalid() -> None:
    teacher = RecordedTeacher({text_sha("p", None): {"request": "unharmful"}})
    assert teacher.ask(Question("k", "p", labels={"request": "harmful"})).outcome == "invalid"


@pytest.mark.parametrize("labels", [{"request": "safe"}, {"harm": "harmful"}, {"completion": "harmful"}])
def test_an_unknown_label_is_refused_at_once(labels: dict[str, str | None]) -> None:
    with pytest.raises(ValueError, match="cannot be"):
        RecordedTeacher({"0" * 64: labels})


def test_every_combination_has_its_own_short_sentence() -> None:
    pairs = product(("harmful", "unharmful"), ("refusal", "compliance"), ("harmful", "unharmful"))
    sentences = [explain(*verdicts) for verdicts in pairs]
    sentences += [explain("harmful", None, None), explain("unharmful", None, None)]
    assert len(set(sentences)) == 10
    assert max(len(sentence.split()) for sentence in sentences) <= 8
