"""What true means in a column of some name: harm, no harm, or nothing that can be told."""

import pytest

from wizloop.loop.data.column_names import truth, words_of
from wizloop.loop.words import Task

HARM = (
    "is_unsafe unsafe UNSAFE isUnsafe not_safe notSafe nonsafe is_not_harmless harmful? flagged toxic_label malicious"
    " unlawful denied bad not_approved free_speech_harm"
)
NO_HARM = "is_safe isSafe IS_SAFE safe Safe? issafe is_response_0_safe harmless benign non_toxic nontoxic notharmful"
NO_HARM += " unflagged no_harm unharmful inoffensive approved allow passed compliant legitimate good accepted trusted"
NO_HARM += " harm_free isHarmFree free_of_harm"


@pytest.mark.parametrize(
    ("task", "names", "means"),
    [
        ("request", HARM, "positive"),
        ("response", HARM, "positive"),
        ("request", NO_HARM, "negative"),
        ("request", "label verdict annotation row_no y_true", "silent"),
        ("request", "safety safety_label safe_or_unsafe not_label", "unclear"),
        ("completion", "is_refusal refused isRefusal not_answered non_compliant", "positive"),
        ("completion", "complied is_compliance not_refused answered", "negative"),
        ("completion", "label is_safe", "silent"),
    ],
)
def test_what_true_is(task: Task, names: str, means: str) -> None:
    assert {name: truth(name, task) for name in names.split()} == dict.fromkeys(names.split(), means)


def test_words_that_speak_for_themselves_mean_the_same_in_any_column() -> None:
    for name in ("is_safe", "is_unsafe", "safety", "label"):
        words = words_of(name, "request")
        assert (words["safe"], words["unsafe"], words["harmful"]) == ("unharmful", "harmful", "harmful")
    assert "1" not in words_of("safety", "request")
    assert (words_of("is_safe", "request")["yes"], words_of("is_safe", "request")["0"]) == ("unharmful", "harmful")
