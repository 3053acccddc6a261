"""How a connection under an SDK is made: every wait, that for a name too, ends with the deadline of its exchange.

It knows no HTTP. The system's resolver has no deadline, so a thread asks it that may be left behind.
"""

import contextlib
import ipaddress
import socket
import threading
import time
from queue import Empty, SimpleQueue
from typing import Any

import httpcore2

from wizloop.backends.http.exchange import Exchange

CONNECT_S = 10.0
"""For a host's name and a connection to it together."""
MOST_UNSENT = 65_536
"""Bytes that wait for the rest of a request."""


class Backend(httpcore2.NetworkBackend):
    """TCP whose every wait ends with the exchange of the thread that waits, which is `here.exchange`."""

    def __init__(self, here: threading.local) -> None:
        self._here, self._plain = here, httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Any = None,
    ) -> httpcore2.NetworkStream:
        until = time.monotonic() + min(CONNECT_S, _left(self._here.exchange))
        left = addresses(host, port, until)
        while True:
            # An address that does not answer leaves the others their share of the time.
            address, share = left.pop(0), (until - time.monotonic()) / (len(left) + 1)
            try:
                plain = self._plain.connect_tcp(address, port, max(share, 0.001), local_address, socket_options)
                return _Stream(plain, self._here)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                if not left:
                    raise


class _Stream(httpcore2.NetworkStream):
    """A connection that sends the head and the body of a request together, before its reply is read."""

    def __init__(self, plain: httpcore2.NetworkStream, here: threading.local) -> None:
        self._plain, self._here, self._unsent = plain, here, bytearray()

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        # A server may answer, and close, before it has read everything: its answer is read then.
        with contextlib.suppress(httpcore2.WriteError):
            self._flush()
        return self._plain.read(max_bytes, _left(self._here.exchange))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._unsent += buffer
        if len(self._unsent) > MOST_UNSENT:
            self._flush()

    def _flush(self) -> None:
        if self._unsent:
            left, together = _left(self._here.exchange), bytes(self._unsent)
            self._unsent.clear()
            self._here.exchange.sent = True
            self._plain.write(together, left)

    def close(self) -> None:
        self._plain.close()

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        left = _left(self._here.exchange)
        return _Stream(self._plain.start_tls(ssl_context, server_hostname, left), self._here)

    def get_extra_info(self, info: str) -> Any:
        return self._plain.get_extra_info(info)


def addresses(host: str, port: int, until: float) -> list[str]:
    """The addresses of a host, in the resolver's order, one at least; `until` is a moment of time.monotonic.

    Raises httpcore2.ConnectError for a name that leads nowhere, or whose addresses are not told in time.
    """
    if _is_address(host):
        return [host]
    told: SimpleQueue[list[str] | Exception] = SimpleQueue()

    def ask() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            told.put(list(dict.fromkeys(str(one[4][0]) for one in found)))
        except (OSError, UnicodeError) as error:
            told.put(error)

    # Not a pool's thread: an interpreter that ends waits for those.
    threading.Thread(target=ask, name="resolver", daemon=True).start()
    try:
        answer = told.get(timeout=max(0.0, until - time.monotonic()))
    except Empty:
        raise httpcore2.ConnectError(f"nobody says in time where {host[:80]!r} is") from None
    if isinstance(answer, UnicodeError):
        raise httpcore2.ConnectError(f"{host[:80]!r} is not the name of a host") from answer
    if isinstance(answer, Exception):
        raise httpcore2.ConnectError(str(answer)) from answer
    return answer


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _left(exchange: Exchange) -> float:
    """Seconds until the deadline. Raises httpcore2.ReadTimeout after it."""
    left = exchange.until - time.monotonic()
    if left <= 0:
        raise httpcore2.ReadTimeout("the deadline has passed")
    return left
