"""Batches: an intent before, an id after, and what becomes of the calls in between."""

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from tests import single_calls
from wizloop.store import batches, call_writes, errors, spending, teacher_calls
from wizloop.store.db import Connection
from wizloop.store.spending import Budget

Ask = Callable[..., int]


@pytest.fixture
def intended(db: Connection, ask: Ask, now: datetime) -> int:
    """A batch of three calls of which nobody knows yet whether the provider has it."""
    calls = [ask(n) for n in range(3)]
    for call in calls:
        single_calls.reserve(db, call, 100)
    return batches.intend(db, tag="wz-1", teacher="policy", model="p1", round=1, call_ids=calls, now=now).id


def states(db: Connection) -> list[str]:
    return [call.state for call in teacher_calls.calls(db, 1)]


def test_an_intent_is_there_before_the_providers_id(db: Connection, intended: int, now: datetime) -> None:
    (found,) = batches.open_batches(db, "policy", "p1")
    assert (found.state, found.provider_id, found.size, found.tag) == ("intent", None, 3, "wz-1")
    assert states(db) == ["sent"] * 3
    assert batches.open_batches(db, "policy", "p2") == []
    batches.submitted(db, intended, "msgbatch_1", now)
    assert batches.open_batches(db, "policy", "p1")[0].provider_id == "msgbatch_1"
    with pytest.raises(errors.WrongState, match="not in the state intent"):
        batches.submitted(db, intended, "msgbatch_2", now)


def test_calls_whose_money_is_not_reserved_do_not_leave(db: Connection, ask: Ask, now: datetime) -> None:
    reserved, planned = ask(0), ask(1)
    single_calls.reserve(db, reserved, 100)
    asked = {"teacher": "policy", "model": "p1", "round": 1, "call_ids": [reserved, planned], "now": now}
    with pytest.raises(errors.WrongState, match="teacher call 2 is planned: it must be reserved"):
        batches.intend(db, tag="wz-2", **asked)  # type: ignore[arg-type]


def test_what_the_provider_never_had_may_be_sent_again(db: Connection, intended: int, now: datetime) -> None:
    batches.drop(db, intended, now)
    assert states(db) == ["planned"] * 3
    assert spending.budget(db) == Budget(None, 0, 0)
    assert batches.open_batches(db, "policy", "p1") == []
    with pytest.raises(errors.WrongState):
        batches.drop(db, intended, now)


def test_a_batch_holds_its_calls_until_it_is_collected(db: Connection, intended: int, now: datetime) -> None:
    calls = [call.id for call in batches.calls_in(db, intended)]
    assert batches.in_open_batch(db, [*calls, 99]) == set(calls)
    batches.submitted(db, intended, "b", now)
    single_calls.finish(db, calls[0], "failed", "overloaded", "expired")
    assert [call.id for call in batches.calls_in(db, intended)] == calls[1:]
    batches.collected(db, intended, now)
    assert batches.in_open_batch(db, calls) == set()
    assert [one.state for one in batches.every(db)] == ["collected"]


def test_how_a_call_was_sent_is_kept_piece_by_piece(db: Connection, ask: Ask, now: datetime) -> None:
    call = ask(0)
    assert single_calls.sending(db, call) is None
    batches.note_price(db, [call], "[]")
    batches.note_model(db, call, "m2")
    batches.note_retry(db, call, now)
    assert tuple(single_calls.sending(db, call)) == (call, None, "[]", "m2", now)


def test_the_latest_moment_of_patience_is_a_rate_limits(db: Connection, ask: Ask, now: datetime) -> None:
    assert batches.latest_retry_at(db, "policy") is None
    for n, outcome in enumerate(("rate_limited", "rate_limited", "overloaded")):
        single_calls.finish(db, ask(n), "failed", outcome)
        batches.note_retry(db, ask(n), now + timedelta(minutes=(5, 3, 9)[n]))
    assert batches.latest_retry_at(db, "policy") == now + timedelta(minutes=5)


def test_a_call_that_broke_off_keeps_its_outcome_and_what_came(db: Connection, ask: Ask, now: datetime) -> None:
    call = ask(0)
    single_calls.reserve(db, call, 70)
    call_writes.mark_sent(db, [call], now)
    call_writes.mark_ambiguous(db, [call], outcome="overloaded", category="timeout", raw='{"par')
    made = single_calls.call(db, call)
    assert (made.state, made.outcome, made.category, made.raw) == ("ambiguous", "overloaded", "timeout", '{"par')
    call_writes.replan(db, [call])
    again = single_calls.call(db, call)
    assert (again.state, again.outcome, again.raw, again.cost_micro) == ("planned", None, None, 70)
