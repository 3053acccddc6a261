"""A provider on the loopback: it answers, fails by a script, and keeps its own bill. It imports nothing of wizloop.

What is alike for all: the HTTP server, the faults that any server can have, and the books. How one provider words its
answers and errors is in `claude_wire`, `gemini_wire` and `openai_wire`.
"""

import contextlib
import functools
import gzip
import hashlib
import json
import random
import re
import ssl
import threading
import time
import zlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

from tests.servers.loopback import Loopback

Script = Callable[[int, str], str | None]
"""The fault of the how-manieth request (from 1) of this path, or None."""
Verdict = str | Callable[[str], str]
"""What a server calls each request, or how it judges a message."""
Reply = tuple[int, dict[str, str], Any]
"""Status, headers, and the body: bytes, or what becomes JSON."""

OUTPUT_TOKENS = 400
_KINDS = {"unharmful": "ordinary", "harmful": "that hurts people"}
FLOOD = 64_000_000
"""Bytes of a reply that is too long."""
BEFORE_WORK: tuple[str, ...] = ("429", "429 retry-after", "429 for an hour", "spend limit", "529", "500", "html 503")
BEFORE_WORK += (
    "credit",
    "parameter",
    "401",
    "400",
    "403",
    "404",
    "413",
    "account disabled",
    "html 200",
    "redirect",
    "echo",
    "sse",
)
"""Faults that come instead of the work: nothing is billed."""
ON_THE_WAY: tuple[str, ...] = (
    "timeout",
    "reset before the reply",
    "reset in mid-body",
    "truncated json",
    "slow drip",
    "slow head",
)
ON_THE_WAY += ("gzip bomb", "endless")
"""The work is done and billed, and the reply does not arrive whole."""
IN_THE_ANSWER: tuple[str, ...] = (
    "refusal",
    "blocked",
    "max tokens",
    "wrong schema",
    "wrong frame",
    "not json",
    "fenced",
)
READABLE = ("fenced", "thinking", "comma", "capitals", "more", "surrogate")
"""The trace is all there, and not alone or not quite as it should be."""
IN_THE_ANSWER += (*READABLE[1:], "no count")
"""The reply arrives, and is not a trace."""


def never(number: int, path: str) -> str | None:
    """No fault."""
    return None


def by_chance(faults: tuple[str, ...], every: int, seed: int) -> Script:
    """One of these faults on one in so many requests."""
    rng = random.Random(seed)
    return lambda number, path: rng.choice(faults) if rng.random() * every < 1 else None


def each(*faults: str | None) -> Script:
    """These faults on the first requests, in this order, and none after."""
    return lambda number, path: faults[number - 1] if number <= len(faults) else None


@dataclass
class Books:
    """What a provider remembers of its customers."""

    requests: int = 0
    paths: Counter[str] = field(default_factory=Counter)
    dealt: Counter[str] = field(default_factory=Counter)
    done: list[Any] = field(default_factory=list)
    """What was asked and billed."""
    bill_micro: float = 0.0
    bodies: list[Any] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    batches: dict[str, dict[str, Any]] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    """Prefixes in the cache."""

    @property
    def billed(self) -> Counter[str]:
        """How often each question was billed, by the hash of what was asked: worked out when the calls are over."""
        return Counter(map(_hash, self.done))


class Provider(Loopback, ABC):
    """A server on a free port; use it as a context. Subclasses word the wire."""

    rates: ClassVar[dict[str, float]] = {}
    """Micro-dollars for a token: input, output, cached, written."""

    def __init__(
        self,
        script: Script = never,
        *,
        latency_s: float = 0.0,
        deadline_s: float = 1.0,
        batch_s: float = 0.0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.script, self.latency_s, self.deadline_s, self.batch_s = script, latency_s, deadline_s, batch_s
        self.books, self.lock, self._tls = Books(), threading.Lock(), tls
        self.verdict: Verdict = "unharmful"

    def __enter__(self) -> Any:
        server = _Server(("127.0.0.1", 0), _Handler)
        server.provider = self
        if self._tls is not None:
            server.socket = self._tls.wrap_socket(server.socket, server_side=True)
        self.begin(server)
        return self

    @property
    def url(self) -> str:
        return f"http{'s' if self._tls else ''}://{self.address}"

    @abstractmethod
    def answer(self, method: str, path: str, query: dict[str, str], asked: Any) -> Reply | None:
        """Everything but a live question; None for one."""

    @abstractmethod
    def message(self, asked: Any, how: str | None, batch: bool) -> tuple[Any, dict[str, int]]:
        """The reply to one question, and its usage by the names of `rates`."""

    @abstractmethod
    def error(self, fault: str) -> Reply:
        """How this provider words one of the faults of BEFORE_WORK."""

    def work(self, asked: Any, how: str | None, *, batch: bool = False) -> Any:
        """Do one question and bill it."""
        reply, usage = self.message(asked, how, batch)
        reduced = batch or asked.get("serviceTier") == "flex"
        cost = sum(self.rates[name] * tokens for name, tokens in usage.items()) * (0.5 if reduced else 1)
        with self.lock:
            self.books.done.append(asked)
            self.books.bill_micro += cost
        return reply

    def cached(self, prefix: str) -> bool:
        """Whether this prefix was there before; it is now."""
        with self.lock:
            there = prefix in self.books.seen
            self.books.seen.add(prefix)
        return there

    def draw(self, path: str) -> str | None:
        """The fault of this request."""
        with self.lock:
            self.books.requests += 1
            self.books.paths[path] += 1
            fault = self.script(self.books.paths[path], path)
            if fault is not None:
                self.books.dealt[fault] += 1
        return fault


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256
    provider: Provider

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that was killed is no error."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is logged."""

    def do_GET(self) -> None:
        self._serve("GET")

    def do_POST(self) -> None:
        self._serve("POST")

    def _serve(self, method: str) -> None:
        provider, began = self.server.provider, time.monotonic()
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        asked = _parsed(body)
        # A proxy is asked for the whole address.
        path, _, rest = re.sub(r"^http://[^/]+", "", self.path).partition("?")
        query = dict(part.partition("=")[::2] for part in rest.split("&") if part)
        with provider.lock:
            provider.books.bodies.append(asked)
            provider.books.headers.append({name.casefold(): value for name, value in self.headers.items()})
        kind = _kind(method, path)
        fault = provider.draw(kind)
        if fault in BEFORE_WORK:
            self._send(self._worded(fault))
            return
        how = fault if fault in IN_THE_ANSWER else None
        reply = provider.answer(method, path, query, asked) or (200, {}, provider.work(asked, how))
        if kind == "ask":
            # The latency is all that a question takes here, the work of this server with it.
            time.sleep(max(0.0, began + provider.latency_s - time.monotonic()))
        self._deliver(reply, fault)

    def _worded(self, fault: str) -> Reply:
        if fault == "echo":
            page = f"<html>you sent {dict(self.headers)}</html>".encode()
            return 500, {"content-type": "text/html"}, page
        if fault in ("html 200", "html 503"):
            page = b"<html><body>Sign in to the network</body></html>"
            return int(fault[5:]), {"content-type": "text/html"}, page
        if fault == "redirect":
            return 307, {"location": "http://127.0.0.2:1/elsewhere"}, b""
        if fault == "sse":
            event = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
            return 200, {"content-type": "text/event-stream"}, f"event: error\ndata: {json.dumps(event)}\n\n".encode()
        return self.server.provider.error(fault)

    def _deliver(self, reply: Reply, fault: str | None) -> None:
        provider = self.server.provider
        if fault == "timeout":
            time.sleep(provider.deadline_s * 1.5)
        if fault in ("timeout", "reset before the reply"):
            self._break()
            return
        if fault == "slow head":
            self._drip(b"HTTP/1.1 200 OK\r\nx-slow: " + b"y" * 4000)
            return
        status, headers, said = reply
        whole = said if isinstance(said, bytes) else json.dumps(said).encode()
        if fault in ("gzip", "gzip bomb"):
            packed = gzip.compress(whole) if fault == "gzip" else bomb()
            self._send((status, headers | {"content-encoding": "gzip"}, packed))
            return
        if fault == "endless":
            self._flood()
            return
        if fault == "empty":
            whole = b""
        if fault == "truncated json":
            whole = whole[: len(whole) // 2]
        if fault not in ("reset in mid-body", "slow drip"):
            self._send((status, headers, whole))
            return
        self._head(status, headers, len(whole))
        self.wfile.flush()
        if fault == "slow drip":
            self._drip(whole)
        else:
            self.wfile.write(whole[: len(whole) // 2])
            self.wfile.flush()
            self._break()

    def _flood(self) -> None:
        """More than anybody should read, until the reader is gone."""
        self._head(200, {}, FLOOD)
        with contextlib.suppress(OSError):
            for _ in range(0, FLOOD, 1_000_000):
                self.wfile.write(b" " * 1_000_000)
        self.close_connection = True

    def _drip(self, whole: bytes) -> None:
        """A byte now and then, for longer than anybody should wait; every single wait is short."""
        with contextlib.suppress(OSError):
            for byte in whole[:60]:
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
                time.sleep(self.server.provider.deadline_s / 20)
        self.close_connection = True

    def _send(self, reply: Reply) -> None:
        status, headers, said = reply
        whole = said if isinstance(said, bytes) else json.dumps(said).encode()
        self._head(status, headers, len(whole))
        self.wfile.write(whole)

    def _head(self, status: int, headers: dict[str, str], length: int) -> None:
        self.send_response(status)
        for name, value in ({"content-type": "application/json"} | headers).items():
            self.send_header(name, value)
        self.send_header("content-length", str(length))
        self.end_headers()

    def _break(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(2)

    def date_time_string(self, timestamp: float | None = None) -> str:
        return formatdate(timestamp or time.time(), usegmt=True)


def trace(message: str, how: str | None, verdict: Verdict) -> str:
    """The text that answers a message: a trace with this verdict, or what stands in its place."""
    verdict = verdict if isinstance(verdict, str) else verdict(message)
    if how == "wrong schema":
        return json.dumps({"foo": 1})
    if how == "not json":
        return "I would say that it is fine."
    alone = "has no answer" in message
    given = dict(re.findall(r"\b(request|completion|response) (\w+)", message.partition("[")[0]))
    written = {
        "surface_analysis": "The text asks a question.",
        "legitimate_uses": ["Curiosity."],
        "harmful_uses": [],
        "context_clues": "Nothing stands out.",
        "risk_factors": [],
        "mitigating_factors": ["It is plain."],
        "request_steps": [f"It asks for something {_KINDS[given.get('request', verdict)]}.", "The policies say so."],
        "completion_steps": [] if alone else ["It answers."],
        "response_steps": [] if alone else ["The answer gives nothing that harms."],
        "explanation": "The question is an ordinary one.",
        "confidence": "high",
        "request": given.get("request", verdict),
        "completion": None if alone else given.get("completion", "compliance"),
        "response": None if alone else given.get("response", "unharmful"),
    }
    if how == "surrogate":
        written |= {"surface_analysis": "The text has half a \ud83d sign."}
    if how == "more":
        written |= {"note": "One key too many."}
    whole = json.dumps(written)
    changed = {
        "fenced": f"Here it is:\n```json\n{whole}\n```",
        "thinking": f"<think>\nIt may be {{a}} or {{b}}.\n</think>\n{whole}",
        "comma": f"{whole[:-1]},}}",
        "capitals": whole.replace('"high"', '"High"'),
        "max tokens": whole[: len(whole) // 2],
    }
    return changed.get(how or "", whole)


@functools.cache
def bomb() -> bytes:
    """Some kilobytes that unpack to the length of a flood."""
    packing = zlib.compressobj(9, wbits=31)
    return b"".join(packing.compress(b" " * 1_000_000) for _ in range(0, FLOOD, 1_000_000)) + packing.flush()


def tokens(text: str) -> int:
    """As many as a tokenizer might count."""
    return max(1, len(text) // 4)


def _hash(asked: Any) -> str:
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body) if body else None
    except ValueError:
        return body


def _kind(method: str, path: str) -> str:
    """What a request is about, in the words of a script."""
    if path.endswith(("/results", ":download")):
        return "collect"
    if "upload" in path:
        return "upload"
    if path.endswith(("/cancel", ":cancel")):
        return "cancel"
    if path.endswith(("/batches", ":batchGenerateContent")):
        return "submit" if method == "POST" else "list"
    if "/batches/" in path:
        return "poll"
    return "ask" if method == "POST" else "look"
