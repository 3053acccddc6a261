"""The HTTP endpoint: POST /v1/moderations, GET /v1/models and GET /health, each request on a connection of its own.

Every client is hostile: bodies, times and connections are bounded, a page in a browser cannot ask (no answer to a
preflight, and another Host is refused), and nothing that was asked reaches the console.
"""

import json
import socket
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from socketserver import TCPServer
from threading import BoundedSemaphore
from typing import Any

from wizloop.loop.serving import moderation
from wizloop.loop.serving.judging import Judging, NotJudged
from wizloop.loop.serving.moderation import Refused

CONNECTIONS = 64
"""Connections at a time; a further one is answered 503."""
READ_SECONDS = 15.0
"""Time for a body to arrive."""
DRAIN_BYTES = 32_000_000
"""Bytes of a refused body that are read and dropped, so that its sender reads the answer."""
_PATHS = {"/v1/moderations": "POST", "/v1/models": "GET", "/health": "GET"}
_LOCAL = {"localhost", "127.0.0.1", "[::1]"}


def address_of(host: str, port: int) -> tuple[socket.AddressFamily, Any]:
    """Return the family and address of a host to listen on. Raises OSError."""
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    return family, address


class Endpoint(ThreadingHTTPServer):
    """A server for one guard. `about` is how it names its model. Raises OSError if it cannot listen."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self, host: str, port: int, judging: Judging, about: Mapping[str, Any], connections: int = CONNECTIONS
    ) -> None:
        self.address_family, address = address_of(host, port)
        self.judging, self.about = judging, about
        self.is_local = ip_address(address[0]).is_loopback
        self._connections, self._free = connections, BoundedSemaphore(connections)
        super().__init__(address, _Handler)

    @property
    def url(self) -> str:
        """Where it listens."""
        host, port = self.server_address[:2]
        return f"http://{f'[{host!s}]' if ':' in str(host) else host!s}:{port}"

    def server_bind(self) -> None:
        """Bind without looking up a name, for which HTTPServer would ask the network."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer on a thread, or at once that there are too many."""
        if not self._free.acquire(blocking=False):
            with suppress(OSError):
                request.settimeout(0.05)
                request.sendall(_BUSY)
                # Unread bytes would reset the connection under the answer.
                request.recv(65_536)
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer, and give the place back."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that hung up is no event, and a traceback could hold what it sent."""

    def wait(self, seconds: float) -> None:
        """Wait until every connection is answered, at most so long."""
        until = time.monotonic() + seconds
        for _ in range(self._connections):
            self._free.acquire(timeout=max(0.0, until - time.monotonic()))


class _Handler(BaseHTTPRequestHandler):
    server: Endpoint
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "wizloop", ""
    timeout = 10.0
    """Seconds without a byte after which a client is given up."""

    def do_GET(self) -> None:
        """Answer what runs here."""
        self._answered(self._get)

    def do_POST(self) -> None:
        """Answer verdicts."""
        self._answered(self._post)

    def _answered(self, of_path: Any) -> None:
        try:
            self._check()
            self._put(HTTPStatus.OK, of_path())
        except Refused as refused:
            self._put(refused.status, refused.to_json())
            self._drain()
        except NotJudged as error:
            status = (
                HTTPStatus.SERVICE_UNAVAILABLE if self.server.judging.stopping else HTTPStatus.INTERNAL_SERVER_ERROR
            )
            self._put(status, moderation.error_of(status, str(error)))

    def _check(self) -> None:
        """Raise Refused for another path, method or Host."""
        host = str(self.headers.get("Host", "localhost")).lower()
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        if self.server.is_local and name not in {*_LOCAL, str(self.server.server_name)}:
            raise Refused(HTTPStatus.FORBIDDEN, "this server answers its own machine only")
        asked = self.path.partition("?")[0]
        if asked not in _PATHS:
            raise Refused(HTTPStatus.NOT_FOUND, f"no such path: there are {', '.join(_PATHS)}")
        if self.command != _PATHS[asked]:
            raise Refused(HTTPStatus.METHOD_NOT_ALLOWED, f"{asked} takes {_PATHS[asked]}")

    def _get(self) -> dict[str, Any]:
        about, judging = self.server.about, self.server.judging
        if self.path.startswith("/health"):
            return {"status": "ok", "model": about, "judged": judging.judged, "unlogged": judging.unlogged}
        made = {"id": about["name"], "object": "model", "created": about["created"], "owned_by": "wizloop"}
        return {"object": "list", "data": [made]}

    def _post(self) -> dict[str, Any]:
        verdicts = self.server.judging.ask(moderation.texts_of(self._body()))
        return moderation.answer(f"modr-{uuid.uuid4().hex}", self.server.about, verdicts, self.server.judging.declared)

    def _body(self) -> bytes:
        """Return the body, whole and in time. Raises Refused."""
        if self.headers.get_content_type() != "application/json" or "Content-Type" not in self.headers:
            raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "the Content-Type must be application/json")
        size = self._size()
        body = bytearray()
        until = time.monotonic() + READ_SECONDS
        while len(body) < size:
            if time.monotonic() > until or not (piece := self._piece(size - len(body))):
                raise Refused(HTTPStatus.REQUEST_TIMEOUT, "the body did not arrive whole and in time")
            body += piece
        return bytes(body)

    def _piece(self, most: int) -> bytes:
        """Return what has arrived, nothing if nothing comes."""
        try:
            return self.rfile.read1(min(65_536, most))
        except TimeoutError:
            return b""

    def _size(self) -> int:
        """Return the length of the body. Raises Refused."""
        given = self.headers.get_all("Content-Length") or []
        if not given or "Transfer-Encoding" in self.headers:
            raise Refused(HTTPStatus.LENGTH_REQUIRED, "send a Content-Length and the body as it is")
        if len(given) > 1 or not (given[0].isascii() and given[0].isdigit()):
            raise Refused(HTTPStatus.BAD_REQUEST, "the Content-Length is not a number")
        if len(given[0]) > 12 or int(given[0]) > moderation.MOST_BYTES:
            message = f"the body is larger than {moderation.MOST_BYTES:,} bytes"
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message)
        return int(given[0])

    def _drain(self) -> None:
        """Read what is left of a refused request: closing before would reset the connection under the answer."""
        self.connection.settimeout(0.5)
        until, left = time.monotonic() + 5.0, DRAIN_BYTES
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            while left > 0 and time.monotonic() < until and (piece := self.rfile.read1(65_536)):
                left -= len(piece)

    def _put(self, status: int, content: Mapping[str, Any]) -> None:
        body = json.dumps(content, allow_nan=False).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": len(body)}.items():
            self.send_header(name, str(value))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer what `http.server` refuses itself, as JSON and without what was sent."""
        self._put(code, moderation.error_of(code, HTTPStatus(code).phrase))

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: a path may hold a text."""


_BUSY_BODY = json.dumps(moderation.error_of(503, "too many connections: try again")).encode()
_BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(_BUSY_BODY), _BUSY_BODY)
)
