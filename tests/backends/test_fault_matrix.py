"""Every fault of a live call, over each provider's real wire format and through its real SDK: one request, one word
of Outcome, what is known of the bill, and nobody who waits beyond the deadline."""

import socket
import ssl
import threading
import time
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest

from tests.servers import certificate
from tests.servers.pairs import DEADLINE_S, KEY, KINDS, pair, server, teacher
from tests.servers.provider import READABLE, bomb, each, never
from wizloop.backends.teachers.base import Answer, Question
from wizloop.backends.teachers.remote import ModelInfo

ALIKE = [
    ("429", "rate_limited", "no", ""),
    ("429 retry-after", "rate_limited", "no", ""),
    ("429 for an hour", "rate_limited", "no", ""),
    ("spend limit", "spend_limit", "no", ""),
    ("529", "overloaded", "no", ""),
    ("500", "overloaded", "no", "status 500"),
    ("html 503", "overloaded", "no", "status 503"),
    ("html 200", "overloaded", "unknown", "bad body: 48 bytes that are no JSON object (text/html)"),
    ("401", "unauthorised", "no", ""),
    ("403", "unauthorised", "no", ""),
    ("404", "unauthorised", "no", "is the model or the address right"),
    ("400", "blocked", "no", "not accepted"),
    ("413", "blocked", "no", "not accepted"),
    ("credit", "account", "no", ""),
    ("parameter", "parameter", "no", "status 400"),
    ("account disabled", "account_disabled", "no", ""),
    ("redirect", "overloaded", "no", "not followed"),
    ("timeout", "overloaded", "unknown", "timeout"),
    ("slow drip", "overloaded", "unknown", "timeout in mid-body"),
    ("slow head", "overloaded", "unknown", "timeout"),
    ("reset before the reply", "overloaded", "unknown", "reset before the reply"),
    ("reset in mid-body", "overloaded", "unknown", "reset in mid-body"),
    ("truncated json", "overloaded", "unknown", "bad body"),
    ("sse", "overloaded", "unknown", "that are no JSON object (text/event-stream)"),
    ("gzip bomb", "overloaded", "unknown", "longer than 8000000 bytes"),
    ("endless", "overloaded", "unknown", "longer than 8000000 bytes"),
    ("max tokens", "truncated", "yes", "it stopped with"),
    ("wrong schema", "invalid", "yes", "surface_analysis: Field required"),
    ("wrong frame", "invalid", "yes", "no answer in it"),
    ("not json", "invalid", "yes", "Invalid JSON"),
]
REFUSALS = [
    ("claude", "refusal", "refused", "cyber"),
    ("gemini", "refusal", "blocked", "SAFETY"),
    ("gemini", "blocked", "blocked", "PROHIBITED_CONTENT"),
    ("openai", "refusal", "refused", "refusal"),
    ("openai", "blocked", "blocked", "content_filter"),
]


@pytest.fixture(scope="module", params=KINDS)
def both(request: pytest.FixtureRequest) -> Iterator[tuple[Any, Any]]:
    # Packed now: on a busy machine that takes longer than a reply may.
    bomb()
    with pair(request.param, deadline_s=DEADLINE_S) as made:
        yield made


@pytest.fixture(scope="module")
def unvouched(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """What a server shows whose certificate is its own word."""
    return certificate.own(tmp_path_factory.mktemp("own"))


def asked_once(both: tuple[Any, Any], fault: str | None) -> Answer:
    server, teacher = both
    before = server.books.requests
    server.books.paths.clear()
    server.script = each(fault)
    began = time.monotonic()
    answer: Answer = teacher.ask(Question("key", "how do I bake bread"))
    assert time.monotonic() - began < DEADLINE_S + 1.0
    assert server.books.requests == before + 1
    return answer


@pytest.mark.parametrize(("fault", "outcome", "billed", "says"), ALIKE)
def test_every_fault_has_its_word(both: tuple[Any, Any], fault: str, outcome: str, billed: str, says: str) -> None:
    bill = both[0].books.bill_micro
    answer = asked_once(both, fault)
    if fault == "max tokens" and both[1].name == "gemini":
        says = "MAX_TOKENS"
    assert (answer.outcome, answer.billed, answer.trace) == (outcome, billed, None)
    assert says in (answer.category or "")
    if billed == "no":
        assert both[0].books.bill_micro == bill


@pytest.mark.parametrize(("kind", "fault", "outcome", "says"), REFUSALS)
def test_a_refusal_is_a_state_with_its_category(kind: str, fault: str, outcome: str, says: str) -> None:
    with pair(kind) as made:
        answer = asked_once(made, fault)
    assert (answer.outcome, answer.billed) == (outcome, "yes")
    assert says in (answer.category or "")


def test_how_long_to_wait_is_told(both: tuple[Any, Any]) -> None:
    assert asked_once(both, "429").retry_after_s is None
    assert asked_once(both, "429 retry-after").retry_after_s == 0.2
    assert asked_once(both, "429 for an hour").retry_after_s == 3600


def test_the_bytes_that_came_are_kept_and_no_page_brings_the_key(both: tuple[Any, Any]) -> None:
    assert asked_once(both, "reset in mid-body").raw.startswith('{"')
    page = asked_once(both, "echo").raw
    assert "you sent" in page
    assert "[key]" in page
    assert KEY not in page
    assert KEY not in repr(both[1].access)


def test_a_look_at_the_model_costs_nothing(both: tuple[Any, Any]) -> None:
    server, teacher = both
    bill, server.script = server.books.bill_micro, never
    found = teacher.model_info()
    assert isinstance(found, ModelInfo)
    assert (found.name, found.lifecycle) in ((teacher.model, "active"), (teacher.model, "unknown"))
    server.books.paths.clear()
    server.script = each("401")
    refused = teacher.model_info()
    assert isinstance(refused, Answer)
    assert refused.outcome == "unauthorised"
    assert server.books.bill_micro == bill


@pytest.mark.parametrize("kind", KINDS)
def test_where_nothing_listens_nothing_was_sent(kind: str) -> None:
    made = teacher(kind, "http://127.0.0.1:9", deadline_s=10)
    answer = made.ask(Question("key", "x"))
    made.close()
    assert (answer.outcome, answer.billed) == ("overloaded", "no")
    assert (answer.category or "").startswith("no connection: [Errno")


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("https://nowhere.invalid", "no connection: [Errno"),
        (f"https://{'a' * 64}.invalid", "is not a host name"),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_a_name_that_leads_nowhere_is_told_and_nothing_was_sent(kind: str, address: str, says: str) -> None:
    made = teacher(kind, address, deadline_s=10)
    answer = made.ask(Question("key", "x"))
    made.close()
    assert (answer.outcome, answer.billed) == ("overloaded", "no")
    assert says in (answer.category or "")


@pytest.fixture
def silent_resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A resolver that says nothing about one name until the test is over."""
    known, over = socket.getaddrinfo, threading.Event()

    def ask(host: Any, *more: Any, **how: Any) -> Any:
        if host == "slow.invalid":
            over.wait(60)
        return known(host, *more, **how)

    monkeypatch.setattr(socket, "getaddrinfo", ask)
    yield
    over.set()


@pytest.mark.parametrize("kind", KINDS)
def test_a_name_that_nobody_resolves_ends_at_the_deadline(kind: str, silent_resolver: None) -> None:
    made = teacher(kind, "http://slow.invalid", deadline_s=0.5)
    began = time.monotonic()
    answer = made.ask(Question("key", "x"))
    took = time.monotonic() - began
    made.close()
    assert 0.4 < took < 3
    assert (answer.outcome, answer.billed) == ("overloaded", "no")
    assert answer.category == "no connection: the host name 'slow.invalid' is not resolved in time"


def test_an_address_that_does_not_answer_leaves_time_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    known = socket.getaddrinfo

    def ask(host: Any, port: Any, *more: Any, **how: Any) -> Any:
        if host != "two.invalid":
            return known(host, port, *more, **how)
        return [known(one, port, type=socket.SOCK_STREAM)[0] for one in ("127.0.0.9", "127.0.0.1")]

    monkeypatch.setattr(socket, "getaddrinfo", ask)
    with server("claude") as running:
        # Nothing listens on the first address, for the server is bound to the other.
        made = teacher("claude", running.url.replace("127.0.0.1", "two.invalid"), deadline_s=20)
        answer = made.ask(Question("key", "how do I bake bread"))
        made.close()
    assert answer.outcome == "ok"


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_sent_to_a_server_whose_tls_is_wrong(kind: str) -> None:
    with server(kind) as plain:
        made = teacher(kind, plain.url.replace("http:", "https:"), deadline_s=10)
        answer = made.ask(Question("key", "x"))
        made.close()
    assert (answer.outcome, answer.billed) == ("overloaded", "no")
    assert "SSL" in (answer.category or "")
    assert plain.books.requests == 0


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_sent_under_a_certificate_that_nobody_vouches_for(kind: str, unvouched: ssl.SSLContext) -> None:
    with server(kind, tls=unvouched) as own:
        made = teacher(kind, own.url.replace("http:", "https:"), deadline_s=10)
        answer = made.ask(Question("key", "x"))
        made.close()
    assert (answer.outcome, answer.billed) == ("overloaded", "no")
    assert "CERTIFICATE_VERIFY_FAILED" in (answer.category or "")
    assert own.books.requests == 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_handshake_that_never_ends_ends_at_the_deadline(kind: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        made = teacher(kind, f"https://127.0.0.1:{silent.getsockname()[1]}", deadline_s=0.5)
        began = time.monotonic()
        answer = made.ask(Question("key", "x"))
        made.close()
    assert 0.4 < time.monotonic() - began < 3
    assert (answer.outcome, answer.billed, answer.category) == ("overloaded", "no", "timeout")


def test_a_packed_reply_is_read_though_none_was_asked_for(both: tuple[Any, Any]) -> None:
    answer = asked_once(both, "gzip")
    assert (answer.outcome, answer.billed) == ("ok", "yes")


@pytest.mark.parametrize("fault", ["gzip bomb", "endless"])
def test_a_reply_without_end_takes_no_more_memory_than_a_reply_may_have(both: tuple[Any, Any], fault: str) -> None:
    asked_once(both, fault)
    tracemalloc.start()
    answer = asked_once(both, fault)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 40_000_000
    assert len(answer.raw) <= 20_000


@pytest.mark.parametrize("fault", READABLE)
def test_a_trace_that_is_all_there_is_read_whatever_stands_around_it(both: tuple[Any, Any], fault: str) -> None:
    answer = asked_once(both, fault)
    kept = both[1].read(answer.raw, answer.stop_reason, Question("key", "x"))
    assert (answer.outcome, answer.billed, kept.trace) == ("ok", "yes", answer.trace)
    assert answer.trace is not None
    assert answer.trace.confidence == "high"
    assert answer.trace.model_dump_json().encode()
