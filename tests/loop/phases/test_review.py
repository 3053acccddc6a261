"""What the rule lets wait for a person."""

from datetime import UTC, datetime

import pytest

from wizloop.loop.phases.review import Rule, doubt
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
