"""Batches over the real wire formats: faults of rows, submissions, looks and results; nothing is paid twice."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.loop.scripted import NOW, context
from tests.servers.pairs import DEADLINE_S, pair, teacher
from tests.servers.provider import Books, never
from wizloop.backends.teachers.base import Question
from wizloop.backends.teachers.batch_teacher import BatchFault, Undecided
from wizloop.loop.context import Context
from wizloop.loop.phases.teach import teach
from wizloop.loop.teaching import prices
from wizloop.loop.teaching.calls import TeacherClient
from wizloop.recipes.teaching import Batching
from wizloop.store import spending, teacher_calls

KINDS = ("claude", "gemini")
DAY = datetime(2026, 11, 21, tzinfo=UTC)


@pytest.fixture(scope="module", params=KINDS)
def running(request: pytest.FixtureRequest) -> Iterator[tuple[Any, Any]]:
    with pair(request.param) as made:
        yield made


@pytest.fixture
def both(running: tuple[Any, Any]) -> tuple[Any, Any]:
    """The server with empty books, and its teacher."""
    running[0].books, running[0].script = Books(), never
    return running


def client(asking: Any) -> TeacherClient:
    settings = Batching(model=asking.model, batch_size=10, poll_s=0.01, settle_s=0.0)
    tariff = prices.load().tariff(asking.name, asking.model, DAY.date())
    assert tariff is not None
    return TeacherClient(asking, tariff, settings=settings, batches=asking)


def on(kind: str, *faults: str | None) -> Callable[[int, str], str | None]:
    """These faults on the first requests of one kind."""
    return lambda number, path: faults[number - 1] if path == kind and number <= len(faults) else None


def ended(ctx: Context) -> Counter[tuple[str, str | None]]:
    with ctx.store.read() as db:
        return Counter((call.state, call.category) for call in teacher_calls.calls(db, 0))


def money(ctx: Context) -> tuple[int, int]:
    with ctx.store.read() as db:
        held = spending.budget(db)
    return held.settled_micro, held.reserved_micro


def paid_rightly(ctx: Context, server: Any) -> None:
    """No question was billed twice, and the books here hold all that the provider billed."""
    assert set(server.books.billed.values()) <= {1}
    settled, reserved = money(ctx)
    assert settled + reserved >= server.books.bill_micro
    assert settled <= server.books.bill_micro + len(server.books.billed)


ROWS = [
    ("errored", "failed", "errored: This row did not work"),
    ("invalid request", "refused", "the request was not accepted: This row did not work"),
    ("wrong schema", "failed", "surface_analysis: Field required"),
    ("missing", "ambiguous", "not in the batch's results"),
]


@pytest.mark.parametrize(("fault", "state", "category"), ROWS)
def test_a_row_that_failed_is_sent_again_and_no_other(
    both: tuple[Any, Any], tmp_path: Path, fault: str, state: str, category: str
) -> None:
    server, asking = both
    server.script = on("row", None, fault, None)
    ctx = context(tmp_path, 3)
    told = teach(ctx, [client(asking)])
    again = state == "failed"
    assert told.startswith("3 of 3 taught" if again else "2 of 3 taught")
    assert ended(ctx)[(state, category)] == 1
    assert ended(ctx)[("parsed", None)] == (3 if again else 2)
    assert server.books.paths["submit"] == (2 if again else 1)
    paid_rightly(ctx, server)


@pytest.mark.parametrize("fault", ["expired", "canceled"])
def test_a_row_that_the_provider_gave_up_is_sent_again(tmp_path: Path, fault: str) -> None:
    with pair("claude", script=on("row", fault)) as (server, asking):
        ctx = context(tmp_path, 2)
        assert teach(ctx, [client(asking)]) == "2 of 2 taught"
        assert ended(ctx) == {("failed", fault): 1, ("parsed", None): 2}
        paid_rightly(ctx, server)


def test_refused_rows_and_cut_off_ones_have_their_words(both: tuple[Any, Any], tmp_path: Path) -> None:
    server, asking = both
    server.script = on("row", "refusal", "max tokens")
    ctx = context(tmp_path, 3, second_ask=False)
    assert teach(ctx, [client(asking)]) == "1 of 3 taught; 2 without an answer"
    words = {"claude": ("cyber", "it stopped with max_tokens"), "gemini": ("SAFETY", "MAX_TOKENS")}[asking.name]
    assert ended(ctx) == {("parsed", None): 1, ("refused", words[0]): 1, ("failed", words[1]): 1}
    paid_rightly(ctx, server)


@pytest.mark.parametrize(
    "fault", ["429", "429 retry-after", "529", "500", "html 503", "html 200", "sse", "redirect", "400", "404"]
)
def test_a_submission_that_was_not_taken_is_made_again(both: tuple[Any, Any], tmp_path: Path, fault: str) -> None:
    server, asking = both
    server.script = on("submit", fault)
    ctx = context(tmp_path, 4, patience_s=5.0)
    assert teach(ctx, [client(asking)]) == "4 of 4 taught"
    assert len(server.books.billed) == 4
    paid_rightly(ctx, server)
    assert money(ctx)[1] == 0


@pytest.mark.parametrize(
    "fault",
    [
        *("timeout", "reset before the reply", "reset in mid-body", "truncated json", "slow drip", "slow head"),
        *("gzip bomb", "endless"),
    ],
)
def test_a_submission_that_arrived_unseen_is_found_and_not_made_again(
    both: tuple[Any, Any], tmp_path: Path, fault: str
) -> None:
    server, asking = both
    server.script = on("submit", fault)
    ctx = context(tmp_path, 4)
    with closing(teacher(asking.name, server.url)) as impatient:
        assert teach(ctx, [client(impatient)]) == "4 of 4 taught"
    assert server.books.paths["submit"] == 1
    paid_rightly(ctx, server)
    assert money(ctx)[1] == 0


@pytest.mark.parametrize("fault", ["spend limit", "401", "account disabled"])
def test_what_concerns_the_account_gives_it_up_at_once(both: tuple[Any, Any], tmp_path: Path, fault: str) -> None:
    server, asking = both
    server.script = on("submit", fault)
    ctx = context(tmp_path, 2)
    assert teach(ctx, [client(asking)]) == "0 of 2 taught; 2 without an answer"
    assert server.books.paths["submit"] == 1
    assert money(ctx) == (0, 0)


@pytest.mark.parametrize("kind", ["poll", "collect"])
@pytest.mark.parametrize("fault", ["500", "404", "reset in mid-body", "truncated json"])
def test_looking_and_collecting_are_tried_again(both: tuple[Any, Any], tmp_path: Path, kind: str, fault: str) -> None:
    server, asking = both
    server.script = on(kind, fault)
    ctx = context(tmp_path, 3)
    assert teach(ctx, [client(asking)]) == "3 of 3 taught"
    assert server.books.paths["submit"] == 1
    paid_rightly(ctx, server)
    assert money(ctx)[1] == 0


def always_empty(number: int, path: str) -> str | None:
    return "empty" if path == "collect" else None


def test_results_that_are_there_a_little_later_are_waited_for(both: tuple[Any, Any], tmp_path: Path) -> None:
    server, asking = both
    server.script, server.late = on("collect", "empty", "empty"), 2
    ctx = context(tmp_path, 3)
    assert teach(ctx, [client(asking)]) == "3 of 3 taught"
    assert server.books.paths["submit"] == 1
    paid_rightly(ctx, server)
    assert money(ctx)[1] == 0


def test_rows_that_all_failed_without_a_word_are_sent_again(both: tuple[Any, Any], tmp_path: Path) -> None:
    server, asking = both
    scripts = on("row", "errored", "errored"), on("collect", "empty")
    server.script = lambda number, path: scripts[path == "collect"](number, path)
    ctx = context(tmp_path, 2)
    assert teach(ctx, [client(asking)]) == "2 of 2 taught"
    assert ended(ctx) == {("failed", "not in the results, and counted as a failure"): 2, ("parsed", None): 2}
    assert server.books.paths["submit"] == 2
    paid_rightly(ctx, server)
    assert money(ctx)[1] == 0


def test_results_that_stay_empty_keep_their_money_until_they_come(both: tuple[Any, Any], tmp_path: Path) -> None:
    server, asking = both
    server.script = always_empty
    ctx = context(tmp_path, 3, tries=2)
    assert teach(ctx, [client(asking)]) == "0 of 3 taught; 3 without an answer"
    assert ended(ctx) == {("sent", None): 3}
    assert money(ctx)[0] == 0
    assert money(ctx)[1] > server.books.bill_micro
    server.script = never
    assert teach(ctx, [client(asking)]) == "3 of 3 taught"
    assert server.books.paths["submit"] == 1
    paid_rightly(ctx, server)


def test_results_that_no_provider_keeps_so_long_are_in_doubt(both: tuple[Any, Any], tmp_path: Path) -> None:
    server, asking = both
    server.script = always_empty
    ctx = context(tmp_path, 3, tries=1)
    teach(ctx, [client(asking)])
    later = replace(ctx, now=lambda: NOW + timedelta(days=31))
    assert teach(later, [client(asking)]) == "0 of 3 taught; 3 without an answer"
    assert ended(ctx) == {("ambiguous", "its batch's results never arrived"): 3}
    assert server.books.paths["submit"] == 1
    paid_rightly(ctx, server)


@pytest.mark.parametrize("fault", ["gzip bomb", "endless", "sse"])
def test_a_look_whose_reply_is_none_is_made_again(both: tuple[Any, Any], tmp_path: Path, fault: str) -> None:
    server, asking = both
    server.script = on("poll", fault)
    ctx = context(tmp_path, 3)
    assert teach(ctx, [client(asking)]) == "3 of 3 taught"
    assert (server.books.dealt[fault], server.books.paths["submit"]) == (1, 1)
    paid_rightly(ctx, server)


@pytest.mark.parametrize("fault", ["gzip bomb", "endless", "sse", "gzip"])
def test_an_upload_is_made_again_unless_its_reply_was_only_packed(tmp_path: Path, fault: str) -> None:
    with pair("gemini", deadline_s=DEADLINE_S, script=on("upload", None, fault)) as (server, asking):
        ctx = context(tmp_path, 3)
        assert teach(ctx, [client(asking)]) == "3 of 3 taught"
        assert (server.books.dealt[fault], server.books.paths["submit"]) == (1, 1)
        assert server.books.paths["upload"] == (2 if fault == "gzip" else 4)
        paid_rightly(ctx, server)


@pytest.mark.parametrize("state", ["EXPIRED", "FAILED", "PARTIALLY_SUCCEEDED"])
def test_a_job_that_does_not_succeed_gives_what_it_has(tmp_path: Path, state: str) -> None:
    with pair("gemini") as (server, asking):
        server.job_state = state
        server.script = on("row", None, "errored")
        ctx = context(tmp_path, 3, tries=1)
        told = teach(ctx, [client(asking)])
        whole = state == "PARTIALLY_SUCCEEDED"
        assert told == f"{2 if whole else 0} of 3 taught; {1 if whole else 3} without an answer"
        assert money(ctx)[1] == 0
        paid_rightly(ctx, server)


def test_a_batch_costs_half_and_its_prefix_is_read_from_the_cache(both: tuple[Any, Any], tmp_path: Path) -> None:
    server, asking = both
    ctx = context(tmp_path, 5)
    assert teach(ctx, [client(asking)]) == "5 of 5 taught"
    settled, _ = money(ctx)
    whole = {"claude": 10.0 * 400, "gemini": 3.75 * 450}[asking.name] * 5
    assert whole / 2 < settled < 0.75 * whole
    assert settled - server.books.bill_micro < 6


def test_another_batch_of_the_same_size_is_not_ours(tmp_path: Path) -> None:
    def rows(letter: str) -> list[Question]:
        return [Question(letter * 63 + str(n), f"{letter} {n}?") for n in range(3)]

    with pair("claude", batch_s=0.4) as (server, asking):
        first, second = asking.submit(rows("a"), "wz-a"), asking.submit(rows("b"), "wz-b")
        keys = [one.key for one in rows("b")]
        with pytest.raises(Undecided):
            asking.find("wz-b", keys, since=DAY, known=())
        assert asking.find("wz-c", ["c" * 64] * 2, since=DAY, known=()) is None
        time.sleep(0.4)
        assert asking.find("wz-b", keys, since=DAY, known=()) == second
        assert asking.find("wz-b", keys, since=DAY, known=(second,)) is None
        assert asking.find("wz-a", [one.key for one in rows("a")], since=DAY, known=()) == first
        assert len(server.books.batches) == 2


@pytest.mark.parametrize("fault", ["500", "404", "html 503", "reset before the reply", "empty"])
def test_a_batch_whose_results_cannot_be_read_is_not_ruled_out(fault: str) -> None:
    asked = [Question("a" * 63 + str(n), f"{n}?") for n in range(3)]
    with pair("claude", script=on("collect", fault)) as (_, asking):
        made = asking.submit(asked, "wz-a")
        keys = [one.key for one in asked]
        with pytest.raises(BatchFault):
            asking.find("wz-a", keys, since=DAY, known=())
        assert asking.find("wz-a", keys, since=DAY, known=()) == made


def test_a_job_is_found_by_its_tag_on_any_page(tmp_path: Path) -> None:
    with pair("gemini") as (_, asking):
        made = [asking.submit([Question(str(n), "x")], f"wz-{n}") for n in range(5)]
        assert [asking.find(f"wz-{n}", [], since=DAY, known=()) for n in range(5)] == made
        assert asking.find("wz-9", [], since=DAY, known=()) is None


def test_a_row_of_a_file_is_what_a_live_call_sends() -> None:
    asked = Question("k" * 64, "how?", "so.", {"request": "unharmful"})
    with pair("gemini") as (server, asking):
        asking.ask(asked)
        # The SDK may have asked for more than the answer.
        live = [body for body in server.books.bodies if body][-1]
        asking.submit([asked], "wz-1")
        (file,) = [held for name, held in server.books.batches.items() if name.startswith("files/")]
    assert file["rows"] == [{"key": asked.key, "request": live}]


@pytest.mark.parametrize("id", ["../models", "batches/../files", "", "http://127.0.0.2/x"])
def test_an_id_that_could_lead_elsewhere_is_not_followed(id: str) -> None:
    for kind in KINDS:
        asking = teacher(kind, "http://127.0.0.1:9")
        with pytest.raises(BatchFault):
            list(asking.collect(id, {}))
        asking.close()
