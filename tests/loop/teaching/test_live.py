"""What becomes of each outcome of a live call: rows, money, and whether it is asked again."""

import json
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests import single_calls
from tests.loop.scripted import COST, NOW, WORST, Scripted, client, context, fault, ok
from wizloop.backends.teachers.base import Answer, Limits, Question, Usage
from wizloop.backends.teachers.recorded import RecordedTeacher, text_sha
from wizloop.loop.context import Context
from wizloop.loop.interrupted import Interrupted
from wizloop.loop.phases.teach import teach
from wizloop.loop.teaching import bookkeeping
from wizloop.loop.teaching.calls import TeacherClient
from wizloop.loop.teaching.limiter import OVERLOADS
from wizloop.store import batches, control, errors, events, samples, spending, steps, teacher_calls
from wizloop.store.call_writes import CallState


def rows(ctx: Context) -> list[tuple[str, str | None, int]]:
    """State, outcome and attempt of every call."""
    with ctx.store.read() as db:
        return [(call.state, call.outcome, call.attempt) for call in teacher_calls.calls(db, 0)]


def money(ctx: Context) -> tuple[int, int]:
    with ctx.store.read() as db:
        held = spending.budget(db)
    return held.settled_micro, held.reserved_micro


def warnings(ctx: Context) -> list[str]:
    with ctx.store.read() as db:
        return [event.message for event in events.last(db, 20) if event.level == "warn"]


def first_then(first: Answer, times: int = 1) -> Any:
    return lambda asked, number: first if number <= times else ok(asked)


def test_many_are_asked_side_by_side_and_each_once(tmp_path: Path) -> None:
    ctx, teacher = context(tmp_path, 24), Scripted(lambda asked, _: ok(asked), seconds=0.2)
    began = time.monotonic()
    assert teach(ctx, [client(teacher, concurrency=8)]) == "24 of 24 taught"
    assert time.monotonic() - began < 24 * 0.2
    assert teacher.most_at_once == 8
    assert set(teacher.asked.values()) == {1}
    assert money(ctx) == (24 * COST, 0)
    with ctx.store.read() as db:
        sent = single_calls.sending(db, 1)
    assert sent is not None
    assert sent.price_json is not None
    assert '"output": 1.0' in sent.price_json


@pytest.mark.parametrize("outcome", ["overloaded", "rate_limited"])
def test_what_was_not_billed_is_tried_again_as_a_call_of_its_own(tmp_path: Path, outcome: str) -> None:
    ctx, teacher = context(tmp_path, 1), Scripted(first_then(fault(outcome), 2))
    assert teach(ctx, [client(teacher)]) == "1 of 1 taught"
    assert rows(ctx) == [("failed", outcome, 1), ("failed", outcome, 2), ("parsed", "ok", 3)]
    assert money(ctx) == (COST, 0)


def test_a_provider_that_stays_overloaded_is_left_alone_for_a_while_and_asked_again(tmp_path: Path) -> None:
    ctx, teacher = context(tmp_path, 1, tries=6), Scripted(first_then(fault("overloaded"), OVERLOADS))
    assert teach(ctx, [client(teacher)]) == "1 of 1 taught"
    assert [row[2] for row in rows(ctx)] == list(range(1, OVERLOADS + 2))


def test_a_call_records_the_sample_that_it_is_about(tmp_path: Path) -> None:
    ctx = context(tmp_path, 2)
    teach(ctx, [client(Scripted(lambda asked, _: ok(asked)))])
    with ctx.store.read() as db:
        made = teacher_calls.calls(db, ctx.round)
        hashes = {one.id: one.hash for one in samples.get(db, [call.sample_id for call in made])}
    assert len(made) == 2
    assert [json.loads(call.request_json)["sample"] for call in made] == [hashes[call.sample_id] for call in made]


def test_tries_come_to_an_end(tmp_path: Path) -> None:
    ctx, teacher = context(tmp_path, 1, tries=3), Scripted(lambda *_: fault("overloaded"))
    assert teach(ctx, [client(teacher)]) == "0 of 1 taught; 1 without an answer"
    assert rows(ctx) == [("failed", "overloaded", n) for n in (1, 2, 3)]
    teach(ctx, [client(teacher)])
    assert teacher.asked.total() == 3


@pytest.mark.parametrize(
    ("first", "shown"),
    [
        (fault("invalid", "request: Field required", billed="yes", usage=Usage(output_tokens=7)), "request: Field req"),
        (fault("truncated", billed="yes", usage=Usage(output_tokens=7)), "it was cut off before its end"),
    ],
)
def test_a_bad_answer_is_asked_for_once_more_with_its_fault_shown(tmp_path: Path, first: Answer, shown: str) -> None:
    ctx, teacher = context(tmp_path, 1), Scripted(first_then(first))
    assert teach(ctx, [client(teacher)]) == "1 of 1 taught"
    assert teacher.complaints[0] is None
    assert str(teacher.complaints[1]).startswith(shown)
    assert money(ctx) == (COST + 7, 0)
    stubborn = Scripted(lambda *_: first)
    other = context(tmp_path / "other", 1)
    assert teach(other, [client(stubborn)]) == "0 of 1 taught; 1 without an answer"
    assert [row[0] for row in rows(other)] == ["failed", "failed"]
    assert money(other) == (14, 0)


def test_no_second_ask_where_the_recipe_wants_none(tmp_path: Path) -> None:
    ctx, teacher = context(tmp_path, 1, second_ask=False), Scripted(lambda *_: fault("invalid"))
    teach(ctx, [client(teacher)])
    assert teacher.asked.total() == 1


def test_a_rule_that_runs_here_is_not_asked_twice(tmp_path: Path) -> None:
    ctx, teacher = context(tmp_path, 1), Scripted(lambda *_: fault("invalid"))
    teacher.name = "policy"
    assert teach(ctx, [client(teacher)]) == "0 of 1 taught; 1 without an answer"
    assert teacher.asked.total() == 1


def test_what_broke_off_is_charged_kept_and_not_sent_again(tmp_path: Path) -> None:
    broke = fault("overloaded", "timeout", billed="unknown", raw='{"half')
    ctx, teacher = context(tmp_path, 2), Scripted(lambda asked, _: broke if asked.prompt.endswith("1") else ok(asked))
    other = RecordedTeacher({text_sha("question 1", None): {"request": "unharmful"}})
    assert teach(ctx, [client(teacher), TeacherClient(other)]) == "1 of 2 taught; 1 without an answer"
    with ctx.store.read() as db:
        (lost,) = teacher_calls.in_state(db, "ambiguous")
    assert (lost.outcome, lost.category, lost.raw) == ("overloaded", "timeout", '{"half')
    assert money(ctx) == (COST, WORST)
    teach(ctx, [client(teacher)])
    assert teacher.asked["question 1"] == 1


@pytest.mark.parametrize("outcome", ["refused", "blocked"])
def test_a_refusal_is_billed_and_goes_to_the_next(tmp_path: Path, outcome: str) -> None:
    said = fault(outcome, "cyber", billed="yes", usage=Usage(output_tokens=3))
    ctx, teacher = context(tmp_path, 1), Scripted(lambda *_: said)
    other = RecordedTeacher({text_sha("question 1", None): {"request": "unharmful"}})
    assert teach(ctx, [client(teacher), TeacherClient(other)]) == "1 of 1 taught"
    assert rows(ctx) == [("refused", outcome, 1), ("parsed", "ok", 1)]
    assert money(ctx) == (3, 0)


@pytest.mark.parametrize(
    ("usage", "raw", "cost"),
    [
        (Usage(), "", WORST),
        (Usage(output_tokens=3), "I", 3),
        (Usage(input_tokens=900), "It was written in tokens.", WORST),
        (Usage(input_tokens=900, output_tokens=10**30), "It was written in tokens.", WORST),
        (Usage(input_tokens=900), "", 0),
    ],
)
def test_a_bill_without_its_tokens_is_charged_at_its_worst(tmp_path: Path, usage: Usage, raw: str, cost: int) -> None:
    ctx, teacher = context(tmp_path, 1), Scripted(lambda *_: fault("refused", billed="yes", usage=usage, raw=raw))
    teach(ctx, [client(teacher)])
    assert money(ctx) == (cost, 0)


@pytest.mark.parametrize("outcome", ["spend_limit", "unauthorised", "account_disabled", "account", "parameter"])
def test_what_concerns_the_account_stops_its_teacher_and_no_other(tmp_path: Path, outcome: str) -> None:
    ctx, teacher = context(tmp_path, 6), Scripted(lambda *_: fault(outcome))
    texts = {text_sha(f"question {n}", None): {"request": "unharmful"} for n in range(1, 7)}
    assert teach(ctx, [client(teacher, concurrency=2), TeacherClient(RecordedTeacher(texts))]) == "6 of 6 taught"
    assert teacher.asked.total() <= 2
    assert len(warnings(ctx)) == 1
    assert warnings(ctx)[0].startswith("stopped asking scripted: it")


def test_what_is_under_way_at_a_teacher_given_up_is_waited_for_without_haste(tmp_path: Path) -> None:
    looks = 0

    def say(asked: Question, number: int) -> Answer:
        if asked.prompt == "question 1":
            return fault("unauthorised")
        time.sleep(0.6)
        return ok(asked)

    def looked() -> bool:
        nonlocal looks
        looks += 1
        return False

    ctx = replace(context(tmp_path, 6), stop_asked=looked)
    assert teach(ctx, [client(Scripted(say), concurrency=2)]) == "1 of 6 taught; 5 without an answer"
    assert looks < 30


def test_a_rate_limit_holds_every_call_until_its_time(tmp_path: Path) -> None:
    limited = fault("rate_limited", retry_after_s=0.4)
    times: list[float] = []

    def say(asked: Question, number: int) -> Answer:
        times.append(time.monotonic())
        return limited if asked.prompt == "question 1" and number == 1 else ok(asked)

    ctx = context(tmp_path, 6)
    assert teach(ctx, [client(Scripted(say), concurrency=1)]) == "6 of 6 taught"
    assert times[1] - times[0] >= 0.4
    with ctx.store.read() as db:
        assert batches.latest_retry_at(db, "scripted") is not None


def test_a_long_wait_leaves_the_provider_alone_and_is_remembered(tmp_path: Path) -> None:
    ctx, teacher = context(tmp_path, 3), Scripted(lambda *_: fault("rate_limited", retry_after_s=3600.0))
    assert teach(ctx, [client(teacher, concurrency=1)]) == "0 of 3 taught; 3 without an answer"
    assert warnings(ctx) == ["stopped asking scripted: it asks to wait 60 minutes"]
    teach(ctx, [client(teacher, concurrency=1)])
    assert teacher.asked.total() == 1
    assert "it asked to wait until" in warnings(ctx)[-1]
    later = replace(ctx, now=lambda: NOW + timedelta(hours=2))
    teach(later, [client(teacher, concurrency=1)])
    assert teacher.asked.total() == 2


def test_headers_that_say_nothing_is_left_hold_the_calls_back(tmp_path: Path) -> None:
    times: list[float] = []

    def say(asked: Question, number: int) -> Answer:
        times.append(time.monotonic())
        left = Limits(requests_left=0, requests_reset_s=0.3) if len(times) == 1 else None
        return replace(ok(asked), limits=left)

    teach(context(tmp_path, 3), [client(Scripted(say), concurrency=1)])
    assert times[1] - times[0] >= 0.3
    assert times[2] - times[1] < 0.3


def test_the_cap_is_used_and_never_passed(tmp_path: Path) -> None:
    cap = 40 * COST
    ctx, teacher = context(tmp_path, 60, cap_micro=cap), Scripted(lambda asked, _: ok(asked), seconds=0.002)
    teach(ctx, [client(teacher, concurrency=8)])
    settled, reserved = money(ctx)
    assert reserved == 0
    assert cap - WORST < settled <= cap
    assert [row[0] for row in rows(ctx)].count("parsed") == settled // COST
    assert sorted(warnings(ctx))[0] == "80 % of the budget is spent: $0.00 of $0.00"
    assert len(warnings(ctx)) == 2
    with ctx.store.read() as db:
        assert {one.round for one in events.page(db, 0, 1000) if one.level == "warn"} == {ctx.round}


def test_an_answer_dearer_than_its_worst_stops_the_teacher(tmp_path: Path) -> None:
    dear = lambda asked, _: replace(ok(asked), usage=Usage(output_tokens=WORST + 1))  # noqa: E731
    ctx, teacher = context(tmp_path, 3), Scripted(dear)
    assert teach(ctx, [client(teacher, concurrency=1)]) == "1 of 3 taught; 2 without an answer"
    assert money(ctx) == (WORST + 1, 0)
    assert "more than its bound" in warnings(ctx)[0]


def test_who_stops_the_night_still_gets_what_was_asked(tmp_path: Path) -> None:
    ctx = context(tmp_path, 8)

    def say(asked: Question, number: int) -> Answer:
        with ctx.store.write() as db:
            control.want(db, "stop_now")
        time.sleep(0.7)
        return ok(asked)

    with pytest.raises(Interrupted):
        teach(replace(ctx, now=ticking()), [client(Scripted(say), concurrency=3)])
    assert rows(ctx) == [("parsed", "ok", 1)] * 3
    assert money(ctx) == (3 * COST, 0)


def ticking() -> Any:
    """A clock that goes forward a second at each look, so that the person's wish is read each time."""
    moments = iter(NOW + timedelta(seconds=n) for n in range(10_000))
    return lambda: next(moments)


def test_what_it_waits_for_stands_with_the_phase(tmp_path: Path) -> None:
    ctx = replace(context(tmp_path, 1), now=ticking())
    notes: set[str] = set()

    def say(asked: Question, number: int) -> Answer:
        return fault("rate_limited", retry_after_s=1.5) if number == 1 else ok(asked)

    def looked() -> bool:
        with ctx.store.read() as db:
            step = steps.step(db, 0, "teach")
        notes.add(step.note if step else "")
        return False

    teach(replace(ctx, stop_asked=looked), [client(Scripted(say), concurrency=1)])
    assert any(note.startswith("scripted limits the rate: 1 questions wait") for note in notes)


def test_a_question_is_asked_again_while_another_is_under_way(tmp_path: Path) -> None:
    began, times = time.monotonic(), dict[tuple[str, int], float]()

    def say(asked: Question, number: int) -> Answer:
        times[asked.prompt, number] = time.monotonic() - began
        if asked.prompt == "question 2":
            time.sleep(1.5)
        return fault("invalid") if (asked.prompt, number) == ("question 1", 1) else ok(asked)

    assert teach(context(tmp_path, 2), [client(Scripted(say), concurrency=2)]) == "2 of 2 taught"
    assert times["question 1", 2] - times["question 1", 1] < 1.0


def test_a_trace_that_cannot_be_stored_takes_no_other_with_it(tmp_path: Path) -> None:
    def say(asked: Question, number: int) -> Answer:
        answer = ok(asked)
        assert answer.trace is not None
        half = answer.trace.model_copy(update={"explanation": "half a sign: \ud83d"})
        return replace(answer, trace=half) if asked.prompt == "question 3" else answer

    ctx = context(tmp_path, 8, second_ask=False)
    assert teach(ctx, [client(Scripted(say), concurrency=8)]) == "7 of 8 taught; 1 without an answer"
    assert rows(ctx).count(("parsed", "ok", 1)) == 7
    assert ("failed", "invalid", 1) in rows(ctx)
    assert money(ctx) == (8 * COST, 0)


def test_what_came_is_charged_also_where_what_leaves_next_cannot_be_written_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ctx, teacher = context(tmp_path, 6), Scripted(lambda asked, _: ok(asked))
    send, times = bookkeeping.send, 0

    def fails_once(*given: Any) -> dict[str, CallState]:
        nonlocal times
        times += bool(given[-1])
        if times == 2:
            times += 1
            raise errors.WrongState("somebody else has it")
        return send(*given)

    monkeypatch.setattr(bookkeeping, "send", fails_once)
    with pytest.raises(errors.WrongState):
        teach(ctx, [client(teacher, concurrency=3)])
    assert rows(ctx) == [("parsed", "ok", 1)] * 3
    assert money(ctx) == (3 * COST, 0)
