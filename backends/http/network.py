"""TCP connections under an SDK, in which every wait, name resolution included, ends at the exchange's deadline.

Knows no HTTP. The system's resolver has no deadline, so it runs in a thread that may be abandoned.
"""

import contextlib
import socket
import threading
import time
from concurrent.futures import Future
from typing import Any

import httpcore2

from wizloop.backends.http.exchange import Exchange

CONNECT_S = 10.0
"""For resolving a host name and connecting, together."""
MAX_UNSENT = 65_536
"""Bytes held back until the rest of a request is written."""


class Backend(httpcore2.NetworkBackend):
    """TCP whose waits end at the deadline of the waiting thread's exchange, `local.exchange`."""

    def __init__(self, local: threading.local) -> None:
        self._local, self._plain = local, httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Any = None,
    ) -> httpcore2.NetworkStream:
        """Connect to the first address of a host that answers."""
        until = time.monotonic() + min(CONNECT_S, _remaining(self._local.exchange))
        left = addresses(host, port, until)
        while True:
            # An address that does not answer leaves the others their share of the time.
            address, share = left.pop(0), (until - time.monotonic()) / (len(left) + 1)
            try:
                plain = self._plain.connect_tcp(address, port, max(share, 0.001), local_address, socket_options)
                return _Stream(plain, self._local)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                if not left:
                    raise


class _Stream(httpcore2.NetworkStream):
    """A connection that sends a request's head and body together, before its reply is read."""

    def __init__(self, plain: httpcore2.NetworkStream, local: threading.local) -> None:
        self._plain, self._local, self._unsent = plain, local, bytearray()

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        # A server may answer and close before it has read everything: its answer is still read.
        with contextlib.suppress(httpcore2.WriteError):
            self._flush()
        while True:
            try:
                return self._plain.read(max_bytes, _remaining(self._local.exchange))
            except httpcore2.ReadTimeout:
                # Another of the server's answers may have moved the deadline meanwhile.
                _remaining(self._local.exchange)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._unsent += buffer
        if len(self._unsent) > MAX_UNSENT:
            self._flush()

    def _flush(self) -> None:
        if self._unsent:
            remaining, together = _remaining(self._local.exchange), bytes(self._unsent)
            self._unsent.clear()
            self._local.exchange.sent = True
            self._plain.write(together, remaining)

    def close(self) -> None:
        self._plain.close()

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        remaining = _remaining(self._local.exchange)
        return _Stream(self._plain.start_tls(ssl_context, server_hostname, remaining), self._local)

    def get_extra_info(self, info: str) -> Any:
        return self._plain.get_extra_info(info)


def addresses(host: str, port: int, until: float) -> list[str]:
    """Resolve a host to its addresses (one or more), in the resolver's order, until a time of time.monotonic.

    Raises httpcore2.ConnectError if the name cannot be resolved in time.
    """
    found: Future[list[str]] = Future()

    def resolve() -> None:
        try:
            infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            found.set_result(list(dict.fromkeys(str(info[4][0]) for info in infos)))
        except (OSError, UnicodeError) as error:
            found.set_exception(error)

    # Not a pool's thread: the interpreter waits for those when it exits.
    threading.Thread(target=resolve, name="resolver", daemon=True).start()
    try:
        return found.result(timeout=max(0.0, until - time.monotonic()))
    except TimeoutError:
        raise httpcore2.ConnectError(f"the host name {host[:80]!r} is not resolved in time") from None
    except UnicodeError as error:
        raise httpcore2.ConnectError(f"{host[:80]!r} is not a host name") from error
    except OSError as error:
        raise httpcore2.ConnectError(str(error)) from error


def _remaining(exchange: Exchange) -> float:
    """Return the seconds until the deadline. Raises httpcore2.ReadTimeout after it."""
    remaining = exchange.ends_at - time.monotonic()
    if remaining <= 0:
        raise httpcore2.ReadTimeout("the deadline has passed")
    return remaining
