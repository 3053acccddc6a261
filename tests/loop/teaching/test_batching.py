"""Batches through faults and restarts: nothing is paid twice, and nothing that the provider knows stays in doubt."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.loop.scripted import COST, NOW, ScriptedBatches, client, context, fault, ok
from wizloop.backends.teachers.base import Answer, Question
from wizloop.backends.teachers.batch_teacher import BatchFault
from wizloop.backends.teachers.recorded import RecordedTeacher, text_sha
from wizloop.loop.context import Context
from wizloop.loop.interrupted import Interrupted
from wizloop.loop.phases.teach import teach
from wizloop.loop.teaching.calls import TeacherClient
from wizloop.store import batches, control, spending, teacher_calls

Held = dict[str, tuple[str, list[Question]]]


class Killed(BaseException):
    """The process ends here."""


def good(asked: Question, number: int) -> Answer:
    return ok(asked)


def states(ctx: Context) -> list[str]:
    with ctx.store.read() as db:
        return [batch.state for batch in batches.every(db)]


def money(ctx: Context) -> tuple[int, int]:
    with ctx.store.read() as db:
        held = spending.budget(db)
    return held.settled_micro, held.reserved_micro


def test_questions_go_in_pieces_and_cost_half(tmp_path: Path) -> None:
    held: Held = {}
    ctx = context(tmp_path, 20)
    assert teach(ctx, [client(ScriptedBatches(good, held, looks=3))]) == "20 of 20 taught"
    assert [len(questions) for _, questions in held.values()] == [8, 8, 4]
    assert states(ctx) == ["collected"] * 3
    assert money(ctx) == (20 * COST // 2, 0)


def test_a_batch_larger_than_a_transaction_is_sent_whole(tmp_path: Path) -> None:
    held: Held = {}
    made = client(ScriptedBatches(good, held))
    asked = replace(made, settings=made.settings.model_copy(update={"batch_size": 40}))  # type: ignore[union-attr]
    assert teach(context(tmp_path, 36), [asked]) == "36 of 36 taught"
    assert [len(questions) for _, questions in held.values()] == [36]


def test_rows_that_failed_are_sent_again_and_no_other(tmp_path: Path) -> None:
    def say(asked: Question, number: int) -> Answer:
        expires = number == 1 and asked.prompt in ("question 2", "question 5")
        return fault("overloaded", "expired") if expires else ok(asked)

    held: Held = {}
    ctx = context(tmp_path, 6)
    assert teach(ctx, [client(ScriptedBatches(say, held))]) == "6 of 6 taught"
    assert [asked.prompt for asked in held["batch-2"][1]] == ["question 2", "question 5"]
    assert money(ctx) == (6 * COST // 2, 0)


def test_a_bad_row_is_asked_for_once_more_and_a_refused_one_goes_on(tmp_path: Path) -> None:
    def say(asked: Question, number: int) -> Answer:
        if asked.prompt == "question 1":
            return fault("refused", "cyber", billed="yes")
        return fault("invalid", "request: missing") if asked.complaint is None else ok(asked)

    held: Held = {}
    texts = {text_sha("question 1", None): {"request": "unharmful"}}
    assert (
        teach(context(tmp_path, 3), [client(ScriptedBatches(say, held)), TeacherClient(RecordedTeacher(texts))])
        == "3 of 3 taught"
    )
    assert [(one.prompt, one.complaint) for one in held["batch-2"][1]] == [
        ("question 2", "request: missing"),
        ("question 3", "request: missing"),
    ]


def killed_before(*_: Any) -> str:
    raise Killed


def killed_after(teacher: ScriptedBatches) -> Callable[..., str]:
    def submit(questions: list[Question], tag: str) -> str:
        teacher.take(questions, tag)
        raise Killed

    return submit


@pytest.mark.parametrize("arrived", [False, True])
def test_a_process_that_dies_while_it_submits_neither_loses_nor_pays_twice(tmp_path: Path, arrived: bool) -> None:
    held: Held = {}
    ctx, dying = context(tmp_path, 5), ScriptedBatches(good, held)
    dying.submit = killed_after(dying) if arrived else killed_before  # type: ignore[assignment, method-assign]
    with pytest.raises(Killed):
        teach(ctx, [client(dying)])
    assert states(ctx) == ["intent"]
    after = ScriptedBatches(good, held)
    assert teach(ctx, [client(after)]) == "5 of 5 taught"
    assert len(held) == 1
    assert states(ctx) == (["collected"] if arrived else ["dropped", "collected"])
    assert set(after.asked.values()) == {1}
    with ctx.store.read() as db:
        assert teacher_calls.in_state(db, "ambiguous") == []
    assert money(ctx) == (5 * COST // 2, 0)


def test_a_process_that_dies_while_it_collects_goes_on_with_the_rest(tmp_path: Path) -> None:
    held: Held = {}

    def dies(asked: Question, number: int) -> Answer:
        if asked.prompt == "question 2":
            raise Killed
        return ok(asked)

    ctx = context(tmp_path, 5)
    with pytest.raises(Killed):
        teach(ctx, [client(ScriptedBatches(dies, held))])
    assert teach(ctx, [client(ScriptedBatches(good, held))]) == "5 of 5 taught"
    assert len(held) == 1
    assert money(ctx) == (5 * COST // 2, 0)


def test_a_submission_of_which_nobody_knows_is_looked_for(tmp_path: Path) -> None:
    held: Held = {}
    ctx, teacher = context(tmp_path, 4), ScriptedBatches(good, held)
    lost = BatchFault(fault("overloaded", "reset", billed="unknown"))

    def submit(questions: list[Question], tag: str) -> str:
        if not held:
            teacher.take(questions, tag)
            raise lost
        raise AssertionError("it was handed in twice")

    teacher.submit = submit  # type: ignore[assignment, method-assign]
    assert teach(ctx, [client(teacher)]) == "4 of 4 taught"
    assert states(ctx) == ["collected"]


def test_what_is_not_listed_yet_is_waited_for_before_it_is_sent_again(tmp_path: Path) -> None:
    held: Held = {}
    ctx, dying = context(tmp_path, 2), ScriptedBatches(good, held)
    dying.submit = killed_after(dying)  # type: ignore[method-assign]
    with pytest.raises(Killed):
        teach(ctx, [client(dying)])
    late, looks = ScriptedBatches(good, held), []
    listed = late.find

    def find(tag: str, keys: Any, **how: Any) -> str | None:
        looks.append(tag)
        return listed(tag, keys, **how) if len(looks) == 3 else None

    late.find = find  # type: ignore[method-assign]
    assert teach(ctx, [client(late, settle_s=600.0)]) == "2 of 2 taught"
    assert len(looks) == 3
    assert len(held) == 1


def test_a_submission_that_was_refused_is_free_and_tried_again(tmp_path: Path) -> None:
    held: Held = {}
    ctx, teacher = context(tmp_path, 3), ScriptedBatches(good, held)
    teacher.refuse = [BatchFault(fault("rate_limited", retry_after_s=0.01)), BatchFault(fault("overloaded"))]
    assert teach(ctx, [client(teacher)]) == "3 of 3 taught"
    assert states(ctx) == ["dropped", "dropped", "collected"]


def test_an_account_that_may_not_gives_the_teacher_up(tmp_path: Path) -> None:
    ctx, teacher = context(tmp_path, 3), ScriptedBatches(good, {})
    teacher.refuse = [BatchFault(fault("spend_limit"))]
    assert teach(ctx, [client(teacher)]) == "0 of 3 taught; 3 without an answer"
    assert states(ctx) == ["dropped"]
    assert teach(ctx, [client(teacher)]) == "3 of 3 taught"


def test_a_row_that_never_comes_back_stays_charged(tmp_path: Path) -> None:
    held: Held = {}
    ctx, teacher = context(tmp_path, 3), ScriptedBatches(good, held)
    whole = teacher.collect
    teacher.collect = lambda batch_id, questions: iter(list(whole(batch_id, questions))[1:])  # type: ignore[method-assign]
    assert teach(ctx, [client(teacher)]) == "2 of 3 taught; 1 without an answer"
    assert money(ctx) == (COST, 50)
    with ctx.store.read() as db:
        assert [call.category for call in teacher_calls.in_state(db, "ambiguous")] == ["not in the batch's results"]


def test_the_cap_holds_for_what_is_handed_in(tmp_path: Path) -> None:
    held: Held = {}
    ctx, most = context(tmp_path, 20, cap_micro=310), 0
    teacher = ScriptedBatches(good, held)
    polled = teacher.ended

    def poll(batch_id: str) -> Any:
        nonlocal most
        most = max(most, sum(money(ctx)))
        return polled(batch_id)

    teacher.ended = poll  # type: ignore[method-assign]
    teach(ctx, [client(teacher)])
    settled, reserved = money(ctx)
    assert (settled, reserved) == (270, 0)
    assert most <= 310


def test_a_batch_outlives_a_stop(tmp_path: Path) -> None:
    held: Held = {}
    ctx = context(tmp_path, 3)
    slow = ScriptedBatches(good, held, looks=10_000)
    with ctx.store.write() as db:
        control.want(db, "stop_now")
    moments = iter(range(10_000))
    with pytest.raises(Interrupted):
        teach(replace(ctx, now=lambda: NOW.replace(microsecond=next(moments))), [client(slow)])
    assert states(ctx) == ["submitted"]
    assert teach(ctx, [client(ScriptedBatches(good, held))]) == "3 of 3 taught"
    assert len(held) == 1


def test_submissions_that_never_arrive_come_to_an_end(tmp_path: Path) -> None:
    ctx, teacher = context(tmp_path, 3, tries=3), ScriptedBatches(good, {})
    teacher.refuse = [BatchFault(fault("overloaded", "reset", billed="unknown")) for _ in range(9)]
    assert teach(ctx, [client(teacher)]) == "0 of 3 taught; 3 without an answer"
    assert len(teacher.refuse) == 6
    assert states(ctx) == ["dropped", "dropped", "intent"]
