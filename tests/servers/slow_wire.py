"""A small model on the loopback that works on one request at a time and streams its tokens slowly. No wizloop in it."""

import contextlib
import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.servers.loopback import Loopback


@dataclass
class Slow(Loopback):
    """Use it as a context. `says` is the text of every answer; None streams no token, as a server that hangs."""

    says: str | None
    every_s: float = 0.05
    pieces: int = 12
    comments: bool = False
    """Whether it keeps the connection open with comments while it works."""
    hangs: int = 0
    """Requests from the first that get no token."""
    asked: list[Any] = field(default_factory=list)
    working: int = 0
    most_working: int = 0
    left: int = 0
    """Requests whose connection was closed before the end."""
    events: list[str] = field(default_factory=list)

    def __enter__(self) -> "Slow":
        self.lock, self.slot = threading.Lock(), threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: Any) -> None:
                """Nothing is logged."""

            def do_POST(self) -> None:
                outer.serve(self)

        self.begin(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        return self

    @property
    def url(self) -> str:
        return f"http://{self.address}/v1"

    def serve(self, handler: BaseHTTPRequestHandler) -> None:
        asked = json.loads(handler.rfile.read(int(handler.headers["content-length"])))
        with self.lock:
            self.asked.append(asked)
            number = len(self.asked)
            self.working += 1
            self.most_working = max(self.most_working, self.working)
            self.events.append("begin")
        handler.send_response(200)
        handler.send_header("content-type", "text/event-stream")
        handler.send_header("transfer-encoding", "chunked")
        handler.end_headers()
        try:
            with self.slot:
                self._stream(handler, number)
        except OSError:
            with self.lock:
                self.left += 1
        finally:
            with self.lock:
                self.working -= 1
                self.events.append("end")
            handler.close_connection = True

    def _stream(self, handler: BaseHTTPRequestHandler, number: int) -> None:
        silent = self.says is None or number <= self.hangs
        said = self.says or ""
        size = -(-len(said) // self.pieces)
        for at in range(self.pieces):
            time.sleep(self.every_s)
            if self.comments:
                _send(handler, ": still here\n\n")
            elif silent:
                # A client that is gone is noticed by its closed connection.
                _send(handler, "\n")
            if not silent:
                piece = {"choices": [{"index": 0, "delta": {"content": said[at * size : (at + 1) * size]}}]}
                _send(handler, f"data: {json.dumps({'id': 'c', 'model': 'small', **piece})}\n\n")
        if silent:
            return
        end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
        usage = {"choices": [], "usage": {"prompt_tokens": 900, "completion_tokens": self.pieces}}
        for event in (json.dumps(end), json.dumps(usage), "[DONE]"):
            _send(handler, f"data: {event}\n\n")
        with contextlib.suppress(OSError):
            handler.wfile.write(b"0\r\n\r\n")


def _send(handler: BaseHTTPRequestHandler, text: str) -> None:
    data = text.encode()
    handler.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
    handler.wfile.flush()
