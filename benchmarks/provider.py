"""A provider on the loopback that bills, fails on purpose and outlives its caller; and the teacher that asks it.

It speaks no real provider's format: what is tried with it is the ledger, and that what it billed is never more than
what the ledger has charged. Every third request, by chance and with a seed, meets a fault.
"""

import http.client
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from wizloop.backends.batches import BatchFault, BatchStatus
from wizloop.backends.recorded_teacher import RecordedTeacher, text_sha
from wizloop.backends.teacher import Answer, Question, Usage, answer_from_raw

OUTPUT_TOKENS = 400
WORST_TOKENS = 500
"""At most so many tokens are billed for an answer; one micro-dollar each."""
FAULTS = (
    "429",
    "429 retry-after",
    "529",
    "500",
    "html 503",
    "reset before the reply",
    "reset in mid-body",
    "truncated json",
    "timeout",
    "slow drip",
    "refusal",
    "wrong schema",
)
BILLED = FAULTS[5:]
"""The provider has done its work, whatever became of the reply."""
ROW_FAULTS = ("expired", "errored", "refusal", "wrong schema")
KEY = "sk-canary-4f1b7d"


@dataclass
class Provider:
    """The server and its books. `latency_s` is how long an answer takes; `every` how often one fails, 0 for never."""

    latency_s: float = 0.02
    every: int = 3
    seed: int = 1
    deadline_s: float = 1.0
    """What its caller waits; a timeout is longer."""
    billed: Counter[str] = field(default_factory=Counter)
    """How often each key was billed."""
    bill_micro: int = 0
    requests: int = 0
    dealt: Counter[str] = field(default_factory=Counter)
    batches: dict[str, dict[str, Any]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> "Provider":
        self._rng = random.Random(self.seed)
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.provider = self
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def draw(self, faults: Sequence[str]) -> str | None:
        """The fault of this request, or None."""
        with self._lock:
            self.requests += 1
            if not self.every or self._rng.random() * self.every >= 1:
                return None
            fault = self._rng.choice(faults)
            self.dealt[fault] += 1
        return fault

    def charge(self, key: str, micro: int) -> None:
        with self._lock:
            self.billed[key] += 1
            self.bill_micro += micro


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    provider: Provider

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that was killed is no error."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is logged."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self._submit(asked) if self.path == "/batches" else self._answer(asked)

    def do_GET(self) -> None:
        provider = self.server.provider
        if provider.draw(("500",)):
            self._send(500, {})
        elif self.path == "/batches":
            self._send(200, {id: one["tag"] for id, one in provider.batches.items()})
        elif self.path.endswith("/results"):
            self._results(self.path.split("/")[2])
        else:
            one = provider.batches[self.path.split("/")[2]]
            self._send(200, {"ended": time.monotonic() >= one["ends"]})

    def _answer(self, asked: dict[str, Any]) -> None:
        provider = self.server.provider
        fault = provider.draw(FAULTS)
        time.sleep(provider.latency_s)
        if fault is None or fault in BILLED:
            provider.charge(asked["key"], OUTPUT_TOKENS)
        if fault in ("429", "429 retry-after", "529", "500", "html 503"):
            headers = {"retry-after": "0.05"} if fault == "429 retry-after" else {}
            self._send(int(fault.removeprefix("html ").split()[0]), {}, headers)
        elif fault == "reset before the reply":
            self._break()
        elif fault == "timeout":
            time.sleep(provider.deadline_s * 1.5)
            self._break()
        else:
            self._reply(asked, fault)

    def _reply(self, asked: dict[str, Any], fault: str | None) -> None:
        body = json.dumps({"answer": _written(asked, fault), "output_tokens": OUTPUT_TOKENS}).encode()
        sent = len(body) if fault in ("reset in mid-body", "slow drip") else None
        if fault in ("reset in mid-body", "truncated json"):
            body = body[: len(body) // 2]
        self.send_response(200)
        self.send_header("content-length", str(sent or len(body)))
        self.end_headers()
        if fault == "slow drip":
            for byte in body[:200]:
                self.wfile.write(bytes([byte]))
                time.sleep(self.server.provider.deadline_s / 50)
        self.wfile.write(body)
        if fault == "reset in mid-body":
            self._break()

    def _submit(self, asked: dict[str, Any]) -> None:
        provider = self.server.provider
        fault = provider.draw(("429", "500", "reset before the reply"))
        if fault in ("429", "500"):
            self._send(int(fault), {})
            return
        with provider._lock:
            id = f"batch{len(provider.batches) + 1}"
            provider.batches[id] = {"tag": asked["tag"], "ends": time.monotonic() + provider.latency_s * 5}
        rows = []
        for one in asked["requests"]:
            row = provider.draw(ROW_FAULTS)
            if row not in ("expired", "errored"):
                provider.charge(one["key"], OUTPUT_TOKENS // 2)
            rows.append({"key": one["key"], "fault": row, "answer": _written(one, row)})
        provider.batches[id]["rows"] = rows[::-1]
        self._break() if fault else self._send(200, {"id": id})

    def _results(self, id: str) -> None:
        provider = self.server.provider
        rows = provider.batches[id]["rows"]
        body = "".join(f"{json.dumps(row)}\n" for row in rows).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        broken = provider.draw(("reset in mid-body", "none"))
        self.wfile.write(body[: len(body) // 2] if broken == "reset in mid-body" else body)
        if broken == "reset in mid-body":
            self._break()

    def _send(self, status: int, said: Any, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(said).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _break(self) -> None:
        self.close_connection = True
        self.connection.shutdown(2)


def _written(asked: dict[str, Any], fault: str | None) -> str:
    """The trace that answers a question, or what stands in its place."""
    if fault == "refusal":
        return "refused"
    if fault == "wrong schema" or asked["prompt"] is None:
        return '{"foo": 1}'
    known = RecordedTeacher({text_sha(asked["prompt"], None): {"request": "unharmful"}})
    return known.ask(Question("", asked["prompt"])).raw


@dataclass
class PlainTeacher:
    """Asks a Provider: one try, a deadline by the wall clock, every fault in the words of Outcome."""

    url: str
    deadline_s: float = 1.0
    name: str = "plain"
    model: str = "plain-1"
    free: bool = False
    _held: threading.local = field(default_factory=threading.local, repr=False)

    def worst_usage(self, question: Question) -> Usage:
        return Usage(output_tokens=WORST_TOKENS)

    def ask(self, question: Question) -> Answer:
        asked = {"key": question.key, "prompt": question.prompt, "complaint": question.complaint}
        try:
            status, body, headers = self._exchange("POST", "/answer", asked)
        except (OSError, http.client.HTTPException) as error:
            return self._fault("overloaded", type(error).__name__, billed="unknown")
        if status != 200:
            return self._status(status, headers)
        return self._read(body, question)

    def submit(self, questions: Sequence[Question], tag: str) -> str:
        rows = [{"key": one.key, "prompt": one.prompt, "complaint": one.complaint} for one in questions]
        self._asked = {one.key: one for one in questions}
        return str(self._call("POST", "/batches", {"tag": tag, "requests": rows})["id"])

    def find(self, tag: str, keys: Sequence[str]) -> str | None:
        return next((id for id, held in self._call("GET", "/batches").items() if held == tag), None)

    def poll(self, batch_id: str) -> BatchStatus:
        ended = self._call("GET", f"/batches/{batch_id}")["ended"]
        return BatchStatus(ended, ended)

    def collect(self, batch_id: str) -> Iterator[tuple[str, Answer]]:
        for line in self._lines(f"/batches/{batch_id}/results"):
            row = json.loads(line)
            if row["fault"] in ("expired", "errored"):
                yield row["key"], self._fault("overloaded", row["fault"], billed="no")
            else:
                body = json.dumps({"answer": row["answer"], "output_tokens": OUTPUT_TOKENS}).encode()
                yield row["key"], self._read(body, Question(row["key"], ""))

    def cancel(self, batch_id: str) -> None:
        raise NotImplementedError

    def _read(self, body: bytes, question: Question) -> Answer:
        try:
            told = json.loads(body)
        except ValueError:
            raw = body.decode(errors="replace")
            return self._fault("overloaded", "bad body", billed="unknown", raw=raw)
        usage = Usage(output_tokens=told["output_tokens"])
        if told["answer"] == "refused":
            return Answer("refused", "refused", self.model, usage=usage, category="cyber")
        return answer_from_raw(told["answer"], question, model=self.model, usage=usage)

    def _status(self, status: int, headers: Any) -> Answer:
        after = headers.get("retry-after")
        outcome = "rate_limited" if status == 429 else "overloaded"
        return self._fault(outcome, f"status {status}", billed="no", retry_after_s=float(after) if after else None)

    def _fault(self, outcome: Any, category: str, **more: Any) -> Answer:
        return Answer(outcome=outcome, model=self.model, category=category, **{"raw": "", **more})

    def _call(self, method: str, path: str, asked: Any = None) -> Any:
        status, body, headers = self._answered(method, path, asked)
        if status != 200:
            raise BatchFault(self._status(status, headers))
        return json.loads(body)

    def _lines(self, path: str) -> list[bytes]:
        status, body, headers = self._answered("GET", path, None)
        if status != 200:
            raise BatchFault(self._status(status, headers))
        return body.splitlines()

    def _answered(self, method: str, path: str, asked: Any) -> tuple[int, bytes, Any]:
        try:
            return self._exchange(method, path, asked)
        except (OSError, http.client.HTTPException) as error:
            raise BatchFault(self._fault("overloaded", type(error).__name__, billed="unknown")) from error

    def _exchange(self, method: str, path: str, asked: Any) -> tuple[int, bytes, Any]:
        until = time.monotonic() + self.deadline_s
        line = self._line()
        try:
            line.request(method, path, json.dumps(asked), {"authorization": f"Bearer {KEY}"})
            reply = line.getresponse()
            body = b""
            while part := reply.read1():
                body += part
                if time.monotonic() > until:
                    raise TimeoutError("the deadline has passed")
            if reply.length:
                raise http.client.IncompleteRead(body, reply.length)
        except (OSError, http.client.HTTPException):
            line.close()
            self._held.line = None
            raise
        return reply.status, body, reply.headers

    def _line(self) -> http.client.HTTPConnection:
        """This thread's connection."""
        line: http.client.HTTPConnection | None = getattr(self._held, "line", None)
        if line is None:
            where = urlsplit(self.url)
            line = self._held.line = http.client.HTTPConnection(where.hostname or "", where.port, self.deadline_s)
        return line
