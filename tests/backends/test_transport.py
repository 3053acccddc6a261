"""The connections under the SDKs: how many are made, when a fresh one is, and what the environment cannot change."""

import ssl
import time
from typing import Any

import pytest

from tests.servers import provider
from tests.servers.pairs import KINDS, pair, server, teacher
from wizloop.backends.http import network, transport
from wizloop.backends.teachers.base import Question

ASKED = Question("a" * 64, "how do I bake bread?")


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The hosts that were connected to, in order."""
    hosts: list[str] = []
    connect = network.Backend.connect_tcp

    def counted(self: network.Backend, host: str, *how: Any, **more: Any) -> Any:
        hosts.append(host)
        return connect(self, host, *how, **more)

    monkeypatch.setattr(network.Backend, "connect_tcp", counted)
    return hosts


@pytest.mark.parametrize("kind", KINDS)
def test_questions_of_one_thread_share_a_connection_until_it_breaks(kind: str, made: list[str]) -> None:
    with pair(kind, script=provider.each(None, None, "reset in mid-body")) as (_, asking):
        made.clear()
        assert [asking.ask(ASKED).outcome for _ in range(5)] == ["ok", "ok", "overloaded", "ok", "ok"]
        assert made == ["127.0.0.1"] * 2
        asking.close()
        assert asking.ask(ASKED).outcome == "ok"
        assert made == ["127.0.0.1"] * 3


def test_a_connection_that_was_idle_for_too_long_is_not_used_again(
    monkeypatch: pytest.MonkeyPatch, made: list[str]
) -> None:
    monkeypatch.setattr(transport, "KEEPALIVE_S", 0.05)
    with pair("claude") as (_, asking):
        made.clear()
        asking.ask(ASKED)
        time.sleep(0.1)
        assert asking.ask(ASKED).outcome == "ok"
        assert made == ["127.0.0.1"] * 2


@pytest.mark.parametrize("kind", KINDS)
def test_a_proxy_that_the_environment_names_is_asked(
    kind: str, monkeypatch: pytest.MonkeyPatch, made: list[str]
) -> None:
    with server(kind) as running:
        monkeypatch.setenv("http_proxy", running.url)
        monkeypatch.delenv("no_proxy", raising=False)
        asking = teacher(kind, "http://provider.invalid", deadline_s=20)
        assert [asking.ask(ASKED).outcome for _ in range(2)] == ["ok", "ok"]
        assert made == ["127.0.0.1"]
        assert running.books.headers[-1]["host"] == "provider.invalid"
        asking.close()


@pytest.mark.parametrize("kind", KINDS)
def test_no_roots_of_trust_are_read_for_a_server_without_tls(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*_: Any, **__: Any) -> None:
        raise AssertionError("roots of trust are read, which takes 50 ms each time")

    with pair(kind) as (_, asking):
        monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", read, raising=False)
        monkeypatch.setattr(ssl.SSLContext, "load_default_certs", read)
        assert asking.ask(ASKED).outcome == "ok"


def test_gemini_is_asked_and_no_other_service_of_its_maker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_GENAI_USE_VERTEXAI", "true")
    monkeypatch.setenv("GOOGLE_GENAI_USE_ENTERPRISE", "true")
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "somebody")
    with pair("gemini") as (running, asking):
        assert asking.ask(ASKED).outcome == "ok"
        assert running.books.headers[-1]["x-goog-api-key"] == "sk-canary-77aa"
        assert "authorization" not in running.books.headers[-1]
