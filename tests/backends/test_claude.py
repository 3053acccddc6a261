"""Claude over its real wire format, through the real SDK: every fault has its word, and nobody waits for long."""

import time
from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from tests.servers.claude_wire import ClaudeServer
from tests.servers.provider import each, never
from wizloop.backends.claude_batches import ClaudeBatches
from wizloop.backends.reaching import Model, Reach
from wizloop.backends.teacher import Answer, Question

KEY = "sk-canary-77aa"
DEADLINE_S = 0.6


@pytest.fixture(scope="module")
def server() -> Iterator[ClaudeServer]:
    with ClaudeServer(deadline_s=DEADLINE_S) as server:
        yield server


@pytest.fixture(scope="module")
def teacher(server: ClaudeServer) -> Iterator[ClaudeBatches]:
    made = ClaudeBatches(Reach("claude-sonnet-5-5", "Judge.", SecretStr(KEY), server.url, deadline_s=DEADLINE_S))
    made.look()
    yield made
    made.close()


FAULTS = [
    ("429", "rate_limited", "no", "Too many requests"),
    ("429 retry-after", "rate_limited", "no", "Too many requests"),
    ("429 for an hour", "rate_limited", "no", "Too many requests"),
    ("spend limit", "spend_limit", "no", "enforced_spend_limit_reached"),
    ("529", "overloaded", "no", "529"),
    ("500", "overloaded", "no", "500"),
    ("html 503", "overloaded", "no", "503"),
    ("html 200", "overloaded", "unknown", "bad body"),
    ("401", "unauthorised", "no", "401"),
    ("403", "unauthorised", "no", "403"),
    ("404", "unauthorised", "no", "is the model or the address right"),
    ("400", "blocked", "no", "not accepted"),
    ("413", "blocked", "no", "not accepted"),
    ("account disabled", "account_disabled", "no", "disabled"),
    ("redirect", "overloaded", "no", "not followed"),
    ("timeout", "overloaded", "unknown", "timeout"),
    ("slow drip", "overloaded", "unknown", "timeout in mid-body"),
    ("slow head", "overloaded", "unknown", "timeout"),
    ("reset before the reply", "overloaded", "unknown", "reset before the reply"),
    ("reset in mid-body", "overloaded", "unknown", "reset in mid-body"),
    ("truncated json", "overloaded", "unknown", "bad body"),
    ("refusal", "refused", "yes", "cyber"),
    ("max tokens", "truncated", "yes", "max_tokens"),
    ("wrong schema", "invalid", "yes", "surface_analysis: Field required"),
    ("wrong frame", "invalid", "yes", "no answer in it"),
    ("not json", "invalid", "yes", "Invalid JSON"),
]


def asked_once(server: ClaudeServer, teacher: ClaudeBatches, fault: str | None) -> Answer:
    before = server.books.requests
    server.books.paths.clear()
    server.script = each(fault)
    began = time.monotonic()
    answer = teacher.ask(Question("key", "how do I bake bread"))
    assert time.monotonic() - began < DEADLINE_S + 0.5
    assert server.books.requests == before + 1
    return answer


@pytest.mark.parametrize(("fault", "outcome", "billed", "says"), FAULTS)
def test_every_fault_has_its_word(
    server: ClaudeServer, teacher: ClaudeBatches, fault: str, outcome: str, billed: str, says: str
) -> None:
    answer = asked_once(server, teacher, fault)
    assert (answer.outcome, answer.billed, answer.trace) == (outcome, billed, None)
    assert says in (answer.category or "")


def test_how_long_to_wait_is_told(server: ClaudeServer, teacher: ClaudeBatches) -> None:
    assert asked_once(server, teacher, "429").retry_after_s is None
    assert asked_once(server, teacher, "429 retry-after").retry_after_s == 0.2
    assert asked_once(server, teacher, "429 for an hour").retry_after_s == 3600


def test_a_good_answer_brings_its_bill(server: ClaudeServer, teacher: ClaudeBatches) -> None:
    asked_once(server, teacher, None)
    answer = asked_once(server, teacher, None)
    assert answer.trace is not None
    assert (answer.outcome, answer.trace.request, answer.model) == ("ok", "unharmful", "claude-sonnet-5-5")
    assert (answer.usage.output_tokens, answer.usage.cached_tokens) == (400, 1)
    assert answer.usage.input_tokens > 50
    assert (answer.stop_reason, answer.billed) == ("end_turn", "yes")
    assert str(answer.request_id).startswith("msg_")


def test_the_bytes_that_came_are_kept_and_no_page_brings_the_key(server: ClaudeServer, teacher: ClaudeBatches) -> None:
    assert asked_once(server, teacher, "reset in mid-body").raw.startswith('{"id": "msg_')
    page = asked_once(server, teacher, "echo").raw
    assert "you sent" in page
    assert KEY not in page
    assert "Bearer [key]" in page
    assert KEY not in repr(teacher.reach)


def test_a_look_costs_nothing(server: ClaudeServer, teacher: ClaudeBatches) -> None:
    bill, server.script = server.books.bill_micro, never
    assert teacher.look() == Model("claude-sonnet-5-5", "active")
    server.books.paths.clear()
    server.script = each("401")
    refused = teacher.look()
    assert isinstance(refused, Answer)
    assert refused.outcome == "unauthorised"
    assert server.books.bill_micro == bill


def test_nothing_listens_there() -> None:
    teacher = ClaudeBatches(Reach("claude-sonnet-5-5", "Judge.", SecretStr(KEY), "http://127.0.0.1:9", deadline_s=2))
    answer = teacher.ask(Question("key", "x"))
    assert (answer.outcome, answer.billed, answer.category) == ("overloaded", "no", "no connection")
