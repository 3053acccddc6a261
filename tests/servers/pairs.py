"""Each kind of provider with the teacher that asks it, for tests that hold for all of them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pydantic import SecretStr

from tests.servers.claude_wire import ClaudeServer
from tests.servers.gemini_wire import GeminiServer
from tests.servers.openai_wire import OpenAIWire
from tests.servers.provider import Provider
from wizloop.backends.teachers.claude_batches import ClaudeBatches
from wizloop.backends.teachers.gemini_batches import GeminiBatches
from wizloop.backends.teachers.openai_server import OpenAIServer
from wizloop.backends.teachers.remote import Access, RemoteTeacher

KEY = "sk-canary-77aa"
DEADLINE_S = 1.0
"""For tests of what is too slow."""
PATIENT_S = 20.0
"""For all others: a busy machine may take more than a second for a reply."""
KINDS = ("claude", "gemini", "openai")
MODELS = {"claude": "claude-sonnet-5-5", "gemini": "gemini-3.8-flash", "openai": "qwen3:4b"}
_SERVERS: dict[str, Callable[..., Provider]] = {"claude": ClaudeServer, "gemini": GeminiServer, "openai": OpenAIWire}


def server(kind: str, **how: Any) -> Provider:
    return _SERVERS[kind](deadline_s=DEADLINE_S, **how)


def teacher(kind: str, url: str, *, key: str | None = KEY, deadline_s: float = DEADLINE_S, **more: Any) -> Any:
    secret = None if key is None else SecretStr(key)
    times: dict[str, Any] = {"deadline_s": deadline_s, "batch_deadline_s": deadline_s}
    access = Access(MODELS[kind], "Judge the sample.", secret, **times, **more)
    if kind == "openai":
        return OpenAIServer(_at(access, f"{url}/v1"), paid=True)
    return {"claude": ClaudeBatches, "gemini": GeminiBatches}[kind](_at(access, url))


@contextmanager
def pair(kind: str, *, deadline_s: float = PATIENT_S, **how: Any) -> Iterator[tuple[Any, Any]]:
    """A server that runs, and its teacher, whose SDK is loaded."""
    with server(kind, **how) as running:
        made: RemoteTeacher = teacher(kind, running.url, deadline_s=PATIENT_S)
        made.model_info()
        made.close()
        asking = teacher(kind, running.url, deadline_s=deadline_s)
        try:
            yield running, asking
        finally:
            asking.close()


def _at(access: Access, url: str) -> Access:
    from dataclasses import replace

    return replace(access, base_url=url)
