"""The intent ledger: states, money, and that no race passes the cap."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import single_calls
from wizloop.store import call_writes, control, errors, samples, selections, spending, teacher_calls
from wizloop.store.call_writes import Ended, NewCall, Received
from wizloop.store.db import Connection, Store
from wizloop.store.spending import Budget

Ask = Callable[..., int]
ANSWER = {"raw": "{}", "usage_json": '{"out": 9}', "request_id": "req_1", "stop_reason": "end_turn"}


def _capped(db: Connection, cap: int | None, now: datetime) -> None:
    asked = {"name": "n", "recipe_json": "{}", "recipe_hash": "", "seed": 1, "until": None, "rounds_wanted": 1}
    control.create_run(db, cap_micro=cap, now=now, **asked)  # type: ignore[arg-type]


def _send(db: Connection, call_id: int, worst: int, now: datetime) -> None:
    single_calls.reserve(db, call_id, worst)
    call_writes.mark_sent(db, [call_id], now)


def _answer(db: Connection, call_id: int, cost: int, now: datetime) -> None:
    single_calls.receive(db, call_id, **ANSWER, cost_micro=cost, now=now)


def test_the_same_question_is_one_call(db: Connection, ask: Ask) -> None:
    first = ask(0)
    assert ask(0) == first
    assert ask(0, attempt=2) == first + 1
    assert [call.state for call in teacher_calls.calls(db, 1)] == ["planned", "planned"]
    assert [call.attempt for call in teacher_calls.by_sample(db, [1])[1]] == [1, 2]


def test_a_call_goes_from_its_plan_to_its_answer(db: Connection, ask: Ask, now: datetime) -> None:
    call = ask(0)
    _capped(db, 1_000, now)
    single_calls.reserve(db, call, 600)
    assert spending.budget(db) == Budget(1_000, 0, 600)
    call_writes.mark_sent(db, [call], now)
    assert [held.id for held in teacher_calls.in_state(db, "sent")] == [call]
    _answer(db, call, 250, now)
    assert spending.budget(db) == Budget(1_000, 250, 0)
    single_calls.finish(db, call, "parsed", "ok")
    made = single_calls.call(db, call)
    assert (made.state, made.outcome, made.cost_micro, made.reserved_micro) == ("parsed", "ok", 250, 0)
    assert (made.raw, made.request_id, made.sent_at, made.received_at) == ("{}", "req_1", now, now)
    assert teacher_calls.in_state(db, "sent") == []
    assert teacher_calls.call_counts(db, 1) == {"parsed": 1}
    assert teacher_calls.spent_micro(db, 1) == 250


def test_a_refusal_that_was_billed_and_an_error_that_was_not(db: Connection, ask: Ask, now: datetime) -> None:
    refused, overloaded = ask(0), ask(1)
    for call in (refused, overloaded):
        _send(db, call, 100, now)
    _answer(db, refused, 40, now)
    single_calls.finish(db, refused, "refused", "refused", "violence")
    single_calls.finish(db, overloaded, "failed", "overloaded")
    assert spending.budget(db) == Budget(None, 40, 0)
    assert single_calls.call(db, refused).category == "violence"
    assert single_calls.call(db, overloaded).cost_micro == 0


def test_what_was_in_flight_stays_charged_until_someone_asks_again(db: Connection, ask: Ask, now: datetime) -> None:
    call = ask(0)
    _send(db, call, 70, now)
    call_writes.mark_ambiguous(db, [call])
    assert spending.budget(db) == Budget(None, 0, 70)
    assert [held.id for held in teacher_calls.in_state(db, "ambiguous")] == [call]
    call_writes.replan(db, [call])
    assert spending.budget(db) == Budget(None, 70, 0)
    _send(db, call, 70, now)
    _answer(db, call, 30, now)
    assert spending.budget(db) == Budget(None, 100, 0)
    assert single_calls.call(db, call).cost_micro == 100


def test_a_late_answer_settles_an_ambiguous_call(db: Connection, ask: Ask, now: datetime) -> None:
    call = ask(0)
    _send(db, call, 70, now)
    call_writes.mark_ambiguous(db, [call])
    _answer(db, call, 30, now)
    assert spending.budget(db) == Budget(None, 30, 0)


STEPS: dict[str, Callable[[Connection, int, datetime], Any]] = {
    "reserve": lambda db, call, now: single_calls.reserve(db, call, 5),
    "mark_sent": lambda db, call, now: call_writes.mark_sent(db, [call], now),
    "mark_received": lambda db, call, now: _answer(db, call, 3, now),
    "parsed": lambda db, call, now: single_calls.finish(db, call, "parsed", "ok"),
    "failed": lambda db, call, now: single_calls.finish(db, call, "failed", "invalid"),
    "mark_ambiguous": lambda db, call, now: call_writes.mark_ambiguous(db, [call]),
    "replan": lambda db, call, now: call_writes.replan(db, [call]),
}
ALLOWED = {
    (): {"reserve", "failed"},
    ("reserve",): {"mark_sent", "failed"},
    ("reserve", "mark_sent"): {"mark_received", "failed", "mark_ambiguous", "replan"},
    ("reserve", "mark_sent", "mark_received"): {"parsed", "failed"},
    ("reserve", "mark_sent", "mark_ambiguous"): {"mark_received", "replan"},
    ("reserve", "mark_sent", "mark_received", "parsed"): set(),
    ("failed",): set(),
}


@pytest.mark.parametrize("before", ALLOWED)
@pytest.mark.parametrize("step", STEPS)
def test_a_call_skips_no_state(db: Connection, ask: Ask, now: datetime, before: tuple[str, ...], step: str) -> None:
    call = ask(0)
    for earlier in before:
        STEPS[earlier](db, call, now)
    if step in ALLOWED[before]:
        STEPS[step](db, call, now)
    else:
        with pytest.raises(errors.WrongState, match=f"call {call} is"):
            STEPS[step](db, call, now)


def test_a_call_ends_as_one_of_three(db: Connection, ask: Ask) -> None:
    with pytest.raises(errors.WrongState, match="parsed, refused, failed"):
        single_calls.finish(db, ask(0), "done", "ok")
    with pytest.raises(errors.NotFound, match="77"):
        call_writes.mark_ambiguous(db, [77])
    with pytest.raises(ValueError, match="-1"):
        single_calls.reserve(db, ask(0), -1)


def test_free_work_never_stops_for_money(db: Connection, ask: Ask, now: datetime) -> None:
    _capped(db, 100, now)
    single_calls.reserve(db, ask(0), 100)
    with pytest.raises(single_calls.OverBudget):
        single_calls.reserve(db, ask(1), 1)
    control.set_limits(db, cap_micro=10)
    single_calls.reserve(db, ask(1), 0)
    control.set_limits(db, cap_micro=None)
    single_calls.reserve(db, ask(2), 10**9)
    assert spending.budget(db) == Budget(None, 0, 1_000_000_100)


MOVES = st.lists(st.tuples(st.sampled_from(sorted(STEPS)), st.integers(0, 3)), max_size=30)


@settings(max_examples=20, deadline=None)
@given(MOVES)
def test_the_two_sums_are_the_sums_of_the_calls(moves: list[tuple[str, int]]) -> None:
    moment = datetime.fromisoformat("2026-01-01T00:00:00+00:00")
    with TemporaryDirectory() as folder, Store.create(Path(folder)) as store, store.write() as db:
        calls = _plan(db, 4, moment)
        for step, n in moves:
            try:
                STEPS[step](db, calls[n], moment)
            except errors.WrongState:
                continue
        made = teacher_calls.calls(db, 1)
        settled, reserved = sum(call.cost_micro or 0 for call in made), sum(call.reserved_micro for call in made)
        assert spending.budget(db) == Budget(None, settled, reserved)
        assert all((call.reserved_micro > 0) == (call.state in ("reserved", "sent", "ambiguous")) for call in made)


def _plan(db: Connection, n: int, now: datetime) -> list[int]:
    samples.add(db, [samples.NewSample("pool", "p", None, "m", "r")], now)
    asked = {"sample_id": 1, "round": 1, "teacher": "t", "model": "m", "attempt": 1, "request_json": "{}", "now": now}
    return [single_calls.plan(db, key=f"{i:064x}", **asked) for i in range(n)]  # type: ignore[arg-type]


def test_eight_threads_never_pass_the_cap(store: Store, now: datetime) -> None:
    cap, worst = 1_050, 100
    with store.write() as db:
        calls = _plan(db, 80, now)
        _capped(db, cap, now)
    seen: list[int] = []

    def work(some: list[int]) -> int:
        billed, rng = 0, Random(some[0])
        for call in some:
            cost = rng.randrange(worst + 1)
            try:
                with store.write() as db:
                    _send(db, call, worst, now)
                    money = spending.budget(db)
                    seen.append(money.settled_micro + money.reserved_micro)
            except single_calls.OverBudget:
                continue
            billed += cost
            with store.write() as db:
                _answer(db, call, cost, now)
        return billed

    with ThreadPoolExecutor(8) as threads:
        billed = sum(threads.map(work, [calls[n::8] for n in range(8)]))
    with store.read() as db:
        assert spending.budget(db) == Budget(cap, billed, 0)
    assert max(seen) <= cap
    assert billed > cap - worst


def test_a_trace_belongs_to_one_call(db: Connection, taught: Ask, pool: list[int], now: datetime) -> None:
    first = taught(0)
    assert taught(0) == first
    made = teacher_calls.trace(db, first)
    assert (made.sample_id, made.round, made.teacher, made.verdict) == (pool[0], 1, "policy", {"request": "harmful"})
    assert teacher_calls.traces(db, 1) == teacher_calls.traces_for(db, pool[0]) == [made]
    with pytest.raises(errors.NotFound, match="99"):
        teacher_calls.trace(db, 99)


def test_what_is_picked_and_has_no_trace_is_untaught(db: Connection, taught: Ask, ask: Ask, pool: list[int]) -> None:
    picked = [selections.Selection(1, pool[n], "random", 0.5, 3 - n, None, "by chance") for n in range(3)]
    selections.add(db, picked)
    taught(1)
    single_calls.finish(db, ask(2), "refused", "refused", "violence")
    assert [row.sample_id for row in selections.untaught(db, 1)] == [pool[2], pool[0]]


def test_calls_that_leave_together_hold_their_money_as_far_as_it_goes(db: Connection, ask: Ask, now: datetime) -> None:
    there = ask(9)
    _capped(db, 250, now)
    key = single_calls.call(db, there).key
    asked = {name: getattr(single_calls.call(db, there), name) for name in ("sample_id", "round", "teacher", "model")}
    new = [NewCall(one, attempt=1, request_json="{}", **asked) for one in ("1" * 64, key, "2" * 64, "3" * 64)]
    worst = {"1" * 64: 100, key: 100, "2" * 64: 100, "3" * 64: 0}
    made, before = call_writes.send(db, new, worst, now)
    states = [(made[one.key].state, made[one.key].reserved_micro) for one in new if one.key in made]
    assert states == [("sent", 100), ("planned", 0), ("sent", 0)]
    assert [(one.id, one.state) for one in before.values()] == [(there, "planned")]
    assert spending.budget(db) == Budget(250, 0, 100)
    assert [call.sent_at for call in teacher_calls.in_state(db, "sent")] == [now, now]


def test_what_stands_otherwise_than_it_is_said_to_is_not_touched(db: Connection, ask: Ask, now: datetime) -> None:
    call = ask(0)
    _send(db, call, 70, now)
    as_sent = call_writes.states(db, [call])
    _answer(db, call, 30, now)
    late = [Received(call, "late", None, None, None, 30)]
    with pytest.raises(errors.WrongState, match=f"another process changed one of the teacher calls {call}"):
        call_writes.receive(db, as_sent, late, now)
    single_calls.finish(db, call, "parsed", "ok")
    with pytest.raises(errors.WrongState, match="another process"):
        call_writes.finish(db, as_sent, [Ended(call, "failed", "invalid")])
    assert single_calls.call(db, call).raw == "{}"
