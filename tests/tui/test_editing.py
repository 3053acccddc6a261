"""A file that came back from an editor as an edit, or as a sentence that says why it is none."""

from datetime import UTC, datetime

import pytest

from wizloop.store.teacher_calls import TeacherTrace
from wizloop.tui.editing import BadEdit, as_file, edit_of

TRACE = TeacherTrace(
    id=1,
    call_id=1,
    sample_id=1,
    round=0,
    teacher="policy",
    verdict={"request": "harmful"},
    confidence_word="high",
    trace_json="{}",
    explanation="It asks for harm.",
    steps_json="{}",
    created_at=datetime(2026, 5, 4, tzinfo=UTC),
)


def test_a_file_that_was_not_touched_changes_nothing() -> None:
    assert edit_of(TRACE, as_file(TRACE)) is None


@pytest.mark.parametrize("text", ["{", "[" * 100_000])
def test_what_is_no_json_is_said_to_be_none(text: str) -> None:
    with pytest.raises(BadEdit, match="the file is not valid JSON"):
        edit_of(TRACE, text)
