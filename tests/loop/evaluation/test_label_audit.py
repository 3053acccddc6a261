"""Which labels are called likely wrong, and in which order."""

from dataclasses import replace

import pytest

from wizloop.loop.evaluation.label_audit import Opinion, suspects

WRONG = Opinion(
    sample_id=1,
    split="dev",
    source="mine",
    row_ref="mine.csv:1",
    prompt="How do I end a process?",
    response=None,
    task="request",
    label="harmful",
    guard="unharmful",
    confident=True,
    guard_p=0.05,
    members_p=(0.1, 0.3),
    teacher="unharmful",
)


@pytest.mark.parametrize(
    "changed",
    [
        {"guard": "harmful"},
        {"confident": False},
        {"members_p": (0.1, 0.6)},
        {"teacher": "harmful"},
    ],
    ids=["the guard agrees", "the guard is unsure", "a member agrees", "the teacher agrees"],
)
def test_one_voice_for_the_label_keeps_it(changed: dict[str, object]) -> None:
    assert suspects([WRONG]) == [WRONG]
    assert suspects([replace(WRONG, **changed)]) == []  # type: ignore[arg-type]


def test_where_no_teacher_speaks_the_guards_alone_are_listed_on_request_and_later() -> None:
    untaught = replace(WRONG, sample_id=2, teacher=None, guard_p=0.0, members_p=())
    less_sure = replace(WRONG, sample_id=3, guard_p=0.2)
    assert [one.sample_id for one in suspects([untaught, less_sure, WRONG])] == [1, 3]
    assert [one.sample_id for one in suspects([untaught, less_sure, WRONG], untaught=True)] == [1, 3, 2]


def test_self_confidence_is_the_mean_probability_of_the_given_label() -> None:
    assert WRONG.p == pytest.approx(0.15)
    assert replace(WRONG, members_p=()).p == 0.05
