"""A kill between the transaction that keeps an answer and the one that ends its call: what comes of it is what comes
of a call that nobody killed, for each provider over its real wire format."""

from collections.abc import Iterator
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests import single_calls
from tests.loop.scripted import NOW, Scripted, context, fault, ok
from tests.loop.scripted import client as scripted_client
from tests.servers.pairs import KINDS, pair
from tests.servers.provider import Books, each
from wizloop.backends.teachers.base import Answer, Usage
from wizloop.backends.teachers.recorded import RecordedTeacher, text_sha
from wizloop.loop.cli import app
from wizloop.loop.context import Context
from wizloop.loop.phases.teach import teach
from wizloop.loop.teaching import bookkeeping, prices
from wizloop.loop.teaching.calls import TeacherClient
from wizloop.recipes.teaching import Batching, Remote
from wizloop.store import batches, call_writes, costs, spending, steps, teacher_calls
from wizloop.store.call_writes import CallState, Received

ERRORS = ["529", "html 503", "500", "429", "429 retry-after", "401", "403", "spend limit", "account disabled", "400"]
ERRORS += ["credit", "parameter"]
JUDGED: list[str | None] = [
    "refusal",
    "blocked",
    "max tokens",
    "wrong schema",
    "wrong frame",
    "not json",
    "thinking",
    "surrogate",
    "no count",
]
JUDGED += [None]
TIMES = ("created_at", "sent_at", "received_at")
FIRST = text_sha("question 1", None)


class Killed(BaseException):
    """Nothing that follows is done."""


@pytest.fixture(scope="module", params=KINDS)
def both(request: pytest.FixtureRequest) -> Iterator[tuple[Any, Any]]:
    with pair(request.param) as made:
        yield made


def opened(server: Any, *faults: str | None) -> None:
    """Let the server begin its books anew, with these faults on its first questions."""
    server.books, server.script = Books(), each(*faults)


def live(asking: Any) -> TeacherClient:
    known = prices.load().tariff(asking.name, asking.model, NOW.date())
    return TeacherClient(asking, known, settings=Remote(model=asking.model, concurrency=2))


def in_batches(asking: Any) -> TeacherClient:
    known = prices.load().tariff(asking.name, asking.model, NOW.date())
    return TeacherClient(
        asking, known, settings=Batching(model=asking.model, poll_s=0.01, settle_s=0.0), batches=asking
    )


def killed(ctx: Context, clients: list[TeacherClient], monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask until the first answer is kept; its call is never ended."""
    end = bookkeeping.end

    def dies(ctx: Context, db: Any, kept: Any) -> None:
        if kept:
            raise Killed
        end(ctx, db, kept)

    with monkeypatch.context() as patch:
        patch.setattr(bookkeeping, "end", dies)
        with pytest.raises(Killed):
            teach(ctx, clients)
    with ctx.store.read() as db:
        assert teacher_calls.in_state(db, "received")


def ledger(ctx: Context, *without: str) -> tuple[list[Any], list[Any], list[Any], spending.Budget]:
    """Everything about the calls but times, as `benchmarks/kill.py` compares it."""
    names = [one.name for one in fields(teacher_calls.Call) if one.name not in (*TIMES, *without)]
    with ctx.store.read() as db:
        made = teacher_calls.calls(db, 0)
        sent = [single_calls.sending(db, call.id) for call in made]
        traces = [(one.call_id, one.teacher, one.trace_json) for one in teacher_calls.traces(db, 0)]
        money = spending.budget(db)
    calls = [{name: getattr(call, name) for name in names} for call in made]
    how = [None if one is None else (one.batch_id, one.answered_by, one.retry_at is None) for one in sent]
    return calls, how, traces, money


def outcomes(ctx: Context) -> list[tuple[str, str | None]]:
    with ctx.store.read() as db:
        return [(call.state, call.outcome) for call in teacher_calls.calls(db, 0)]


@pytest.mark.parametrize("fault", [*ERRORS, *JUDGED])
def test_it_ends_as_if_nobody_had_been_killed(
    both: tuple[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str | None
) -> None:
    server, asking = both
    alone, hurt = context(tmp_path / "alone", 1), context(tmp_path / "hurt", 1)
    opened(server, fault)
    teach(alone, [live(asking)])
    # A start asks once more what concerned the account.
    told = teach(alone, [live(asking)])
    asked = server.books.bodies
    opened(server, fault)
    killed(hurt, [live(asking)], monkeypatch)
    assert teach(hurt, [live(asking)]) == told
    assert server.books.bodies == asked
    assert ledger(hurt) == ledger(alone)


@pytest.mark.parametrize(
    ("fault", "outcome"), [("529", "overloaded"), ("429", "rate_limited"), ("401", "unauthorised")]
)
def test_an_error_takes_no_second_ask_and_brings_no_complaint(
    both: tuple[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, outcome: str
) -> None:
    (server, asking), ctx = both, context(tmp_path, 1)
    opened(server, fault, "wrong schema")
    killed(ctx, [live(asking)], monkeypatch)
    assert teach(ctx, [live(asking)]) == "1 of 1 taught"
    assert outcomes(ctx) == [("failed", outcome), ("failed", "invalid"), ("parsed", "ok")]
    assert ["could not be used" in str(body) for body in server.books.bodies] == [False, False, True]


def test_patience_that_was_asked_for_is_kept(
    both: tuple[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (server, asking), ctx = both, context(tmp_path, 1)
    opened(server, "429 for an hour")
    killed(ctx, [live(asking)], monkeypatch)
    assert teach(ctx, [live(asking)]) == "0 of 1 taught; 1 without an answer"
    assert server.books.paths["ask"] == 1
    assert outcomes(ctx) == [("failed", "rate_limited")]
    with ctx.store.read() as db:
        until = batches.latest_retry_at(db, asking.name)
    assert until is not None
    assert until - NOW >= timedelta(hours=1)


def test_what_has_no_word_of_patience_waits_as_it_does_live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ctx = context(tmp_path, 1, backoff_s=0.2)
    teacher = Scripted(lambda asked, number: fault("overloaded") if number == 1 else ok(asked))
    killed(ctx, [scripted_client(teacher)], monkeypatch)
    assert teach(ctx, [scripted_client(teacher)]) == "1 of 1 taught"
    with ctx.store.read() as db:
        noted = single_calls.sending(db, 1)
    assert noted is not None
    assert noted.retry_at is not None
    assert 0.1 <= (noted.retry_at - NOW).total_seconds() <= 0.3


@pytest.mark.parametrize(
    ("kind", "fault"), [("claude", "errored"), ("claude", "expired"), ("claude", "canceled"), ("gemini", "errored")]
)
def test_a_row_of_a_batch_is_no_answer_that_was_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, fault: str
) -> None:
    def script(number: int, path: str) -> str | None:
        return fault if path == "row" and number == 1 else None

    alone, hurt = context(tmp_path / "alone", 2), context(tmp_path / "hurt", 2)
    with pair(kind, script=script) as (_, asking):
        assert teach(alone, [in_batches(asking)]) == "2 of 2 taught"
    with pair(kind, script=script) as (server, asking):
        killed(hurt, [in_batches(asking)], monkeypatch)
        assert teach(hurt, [in_batches(asking)]) == "2 of 2 taught"
        assert "could not be used" not in str(server.books.bodies)
        assert server.books.paths["submit"] == 2
    # The server numbers its replies, and was asked once more for the batch.
    assert ledger(hurt, "request_id") == ledger(alone, "request_id")
    assert sorted(outcomes(hurt)) == [("failed", "overloaded"), ("parsed", "ok"), ("parsed", "ok")]


@pytest.mark.parametrize("state", ["EXPIRED", "FAILED"])
def test_a_job_that_expired_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str) -> None:
    ctx = context(tmp_path, 2)
    with pair("gemini") as (server, asking):
        server.job_state = state
        killed(ctx, [in_batches(asking)], monkeypatch)
        server.job_state = "SUCCEEDED"
        assert teach(ctx, [in_batches(asking)]) == "2 of 2 taught"
        assert "could not be used" not in str(server.books.bodies)
    assert sorted(outcomes(ctx)) == [("failed", "overloaded")] * 2 + [("parsed", "ok")] * 2


def test_what_is_kept_of_a_teacher_is_read_before_anybody_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ctx = context(tmp_path, 1)
    first = Scripted(lambda asked, number: fault("unauthorised") if number == 1 else ok(asked))
    second = Scripted(lambda asked, _: ok(asked))
    second.name = "second"
    teach(ctx, [scripted_client(first)])
    with monkeypatch.context() as patch:
        patch.setattr("wizloop.loop.teaching.calls._may_retry", lambda *_: False)
        killed(ctx, [scripted_client(first), scripted_client(second)], monkeypatch)
    assert teach(ctx, [scripted_client(first), scripted_client(second)]) == "1 of 1 taught"
    assert (first.asked.total(), second.asked.total()) == (1, 1)


def test_patience_keeps_no_answer_from_being_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ctx, teacher = context(tmp_path, 1), Scripted(lambda asked, _: ok(asked))
    killed(ctx, [scripted_client(teacher)], monkeypatch)
    monkeypatch.setattr(batches, "latest_retry_at", lambda *_: NOW + timedelta(hours=9))
    other = TeacherClient(RecordedTeacher({FIRST: {"request": "harmful"}}))
    assert teach(ctx, [scripted_client(teacher), other]) == "1 of 1 taught"
    assert outcomes(ctx) == [("parsed", "ok")]


@pytest.mark.parametrize("outcome", [None, ""])
def test_what_an_older_wizloop_kept_is_read_from_its_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outcome: str | None
) -> None:
    ctx, teacher = context(tmp_path, 1), Scripted(lambda asked, _: ok(asked))

    def as_before(call: CallState, answer: Answer, cost_micro: int) -> Received:
        return Received(call.id, answer.raw, "{}", None, answer.stop_reason, cost_micro, outcome)

    with monkeypatch.context() as patch:
        patch.setattr(bookkeeping, "_received", as_before)
        killed(ctx, [scripted_client(teacher)], monkeypatch)
    assert teach(ctx, [scripted_client(teacher)]) == "1 of 1 taught"
    assert teacher.asked.total() == 1


def test_what_is_received_has_not_come_to_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = fault("refused", "cyber", billed="yes", usage=Usage(output_tokens=3))
    ctx, teacher = context(tmp_path, 1), Scripted(lambda *_: said)
    killed(ctx, [scripted_client(teacher)], monkeypatch)
    with ctx.store.read() as db:
        (call,) = teacher_calls.calls(db, 0)
        assert (call.state, call.outcome, call.category) == ("received", "refused", "cyber")
        assert [one.calls for one in costs.unanswered(db)] == [[("scripted", "received", "cyber")]]
        assert costs.refused(db) == []
        (cost,) = costs.costs(db)
        assert (cost.answers, cost.refusals, cost.failures, cost.settled_micro) == (0, 0, 0, 3)
    kept = CliRunner().invoke(app, ["teach", "--keep", str(tmp_path / "calls.jsonl"), "-w", str(tmp_path)])
    assert ": 0 calls;" in kept.stderr
    # The teacher is not in the recipe any more, and nobody ends its call.
    teach(ctx, [])
    with ctx.store.read() as db:
        told = steps.get_round(db, 0)
    assert told is not None
    assert told.record["teach"]["outcomes"] == {"scripted": {"received": 1}}


def test_a_late_answer_takes_the_place_of_a_doubt(tmp_path: Path) -> None:
    broke = fault("overloaded", "timeout", billed="unknown")
    ctx = context(tmp_path, 1)
    teach(ctx, [scripted_client(Scripted(lambda *_: broke))])
    with ctx.store.write() as db:
        came = Received(1, "{}", None, None, "end", 5)
        call_writes.receive(db, call_writes.states(db, [1]), [came], NOW)
        call = single_calls.call(db, 1)
    assert (call.state, call.outcome, call.category) == ("received", None, None)
