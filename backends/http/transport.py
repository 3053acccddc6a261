"""HTTP under an SDK: holds the wall-clock deadline and the origin, keeps the reply, and never retries.

The SDK builds and signs a request. The reply is kept here byte for byte and read by the adapters, since an SDK hides
the bill of a reply that it cannot parse; the SDK gets an empty object instead, unless it must see the reply.
This and `network`, which makes the connections, are the only users of httpx2 and httpcore2.
"""

import threading
import time
import urllib.request
import zlib
from collections.abc import Callable, Iterable
from typing import Any

import httpcore2
import httpx2
from pydantic import SecretStr

from wizloop.backends.http.exchange import Exchange, Progress
from wizloop.backends.http.network import Backend
from wizloop.backends.http.scrub import of_secret

KEEPALIVE_S = 15.0
MAX_BYTES = 8_000_000
"""Limit of a reply to one question; a batch's results may be longer."""


class Session:
    """Connections to one origin, for any number of threads."""

    def __init__(self, base_url: str, secret: SecretStr | None) -> None:
        self._scrub = of_secret(secret)
        self._local = threading.local()
        self._progress = Progress()
        self._transport = _Transport(httpx2.URL(base_url), self._local)
        self.client = httpx2.Client(transport=self._transport, follow_redirects=False, trust_env=False)

    def call(
        self,
        do: Callable[[], object],
        deadline_s: float,
        *,
        faults: tuple[type[Exception], ...] = (),
        max_bytes: int = MAX_BYTES,
        pass_reply: bool = False,
        streaming: bool = False,
    ) -> Exchange:
        """Let an SDK make its request and return the exchange. `faults` are what it raises when a request breaks.

        `streaming` lets the deadline count from the server's last piece of an answer.
        """
        exchange = self._local.exchange = Exchange(time.monotonic() + deadline_s, max_bytes, pass_reply)
        exchange.deadline_s, exchange.progress = deadline_s, self._progress if streaming else None
        # A reply that echoes its request must not carry the key into the ledger.
        exchange.scrub = self._scrub
        breaks: tuple[type[Exception], ...] = (*faults, httpx2.HTTPError)
        try:
            do()
        except breaks:
            if exchange.fault is None and exchange.status is None:
                raise
        finally:
            self._local.exchange = None
        exchange.headers = {name: self._scrub(value) for name, value in exchange.headers.items()}
        return exchange


class _Transport(httpx2.BaseTransport):
    """Sends requests to one origin, and keeps each reply in the thread's exchange.

    Each thread has its own connection: a pool searches all of its connections at every request and reply.
    """

    def __init__(self, base_url: httpx2.URL, local: threading.local) -> None:
        self._origin = _origin(base_url)
        self._local = local
        self._pool = _pool(base_url, Backend(local))
        self._open: set[httpcore2.ConnectionInterface] = set()

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        exchange: Exchange = self._local.exchange
        exchange.status, exchange.body = None, b""
        if _origin(request.url) != self._origin:
            exchange.fault = f"it leads elsewhere: {request.url.host}"
            raise httpx2.UnsupportedProtocol(exchange.fault)
        request.headers["accept-encoding"] = "identity"
        try:
            self._fetch(request, exchange)
        except httpcore2.TimeoutException as error:
            exchange.fault = "timeout" if exchange.status is None else "timeout in mid-body"
            raise httpx2.ReadTimeout(exchange.fault) from error
        except _TooLong as error:
            exchange.fault = f"the reply is longer than {exchange.max_bytes} bytes"
            raise httpx2.ReadError(exchange.fault) from error
        except (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.ProxyError) as error:
            where = "reset before the reply" if exchange.status is None else "reset in mid-body"
            exchange.fault = where if exchange.sent else f"no connection: {error}"
            raise httpx2.ReadError(exchange.fault) from error
        if exchange.pass_reply:
            plain = {name: value for name, value in exchange.headers.items() if name != "content-encoding"}
            return httpx2.Response(exchange.status or 0, headers=plain, content=exchange.body)
        return httpx2.Response(200, content=b"{}")

    def close(self) -> None:
        while self._open:
            self._open.pop().close()

    def _connection(self, origin: httpcore2.Origin) -> httpcore2.ConnectionInterface:
        """Return this thread's connection, a new one if the last has closed or expired."""
        found: httpcore2.ConnectionInterface | None = getattr(self._local, "connection", None)
        if found is not None and (found.is_closed() or found.has_expired()):
            self._open.discard(found)
            found.close()
            found = None
        if found is None:
            found = self._local.connection = self._pool.create_connection(origin)
            self._open.add(found)
        return found

    def _fetch(self, request: httpx2.Request, exchange: Exchange) -> None:
        assert isinstance(request.stream, httpx2.SyncByteStream)
        target = request.url
        sent = httpcore2.Request(
            method=request.method,
            url=httpcore2.URL(scheme=target.raw_scheme, host=target.raw_host, port=target.port, target=target.raw_path),
            headers=request.headers.raw,
            content=request.stream,
        )
        reply = self._connection(sent.url.origin).handle_request(sent)
        exchange.status = reply.status
        exchange.headers = {name.decode("latin-1").casefold(): value.decode("latin-1") for name, value in reply.headers}
        assert isinstance(reply.stream, Iterable)
        received = bytearray()
        try:
            for part in reply.stream:
                received += part
                exchange.arrived(part)
                if len(received) > exchange.max_bytes:
                    raise _TooLong
        finally:
            exchange.body = bytes(received)
            reply.close()
        if exchange.headers.get("content-encoding", "").casefold() in ("gzip", "x-gzip"):
            exchange.body = _unpacked(exchange.body, exchange.max_bytes)


class _TooLong(httpcore2.RemoteProtocolError):
    """The reply is longer than the exchange allows."""


def _unpacked(body: bytes, max_bytes: int) -> bytes:
    """Unpack a gzip body that was requested as plain; return the body itself if it does not unpack.

    Raises _TooLong if the result is longer than `max_bytes`, without making more bytes than that.
    """
    unpacking = zlib.decompressobj(wbits=31)
    try:
        whole = unpacking.decompress(body, max_bytes)
    except zlib.error:
        return body
    if unpacking.unconsumed_tail:
        raise _TooLong
    return whole


def _origin(url: httpx2.URL) -> tuple[str, str, int]:
    return url.scheme, url.host, url.port or (443 if url.scheme == "https" else 80)


def _pool(base_url: httpx2.URL, backend: httpcore2.NetworkBackend) -> httpcore2.ConnectionPool:
    """Build the connection pool of an origin, through the proxy that the environment names for it."""
    settings: dict[str, Any] = {
        # Reading the root certificates takes 50 ms, which a server without TLS does not need.
        "ssl_context": httpx2.create_ssl_context() if base_url.scheme == "https" else None,
        "keepalive_expiry": KEEPALIVE_S,
        "network_backend": backend,
    }
    proxy = urllib.request.getproxies().get(base_url.scheme)
    if proxy is None or urllib.request.proxy_bypass(base_url.host):
        return httpcore2.ConnectionPool(**settings)
    return httpcore2.HTTPProxy(proxy if "://" in proxy else f"http://{proxy}", **settings)
