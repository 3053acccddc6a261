"""The connection under an SDK: it keeps the wall clock, the origin and what came back, and it tries nothing again.

The SDK builds and signs a request. What comes back is kept here, byte for byte, and read by the adapters: an SDK
hides the bill of a reply that it cannot parse. So it is handed an empty object instead, unless it must see the reply.
This and `connecting`, which makes the connections, are the home of httpx2 and httpcore2.
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

from wizloop.backends.http.exchange import Exchange
from wizloop.backends.http.network import Backend

KEPT_OPEN_S = 15.0
MOST_BYTES = 8_000_000
"""Of a reply to one question; a batch's results may be longer."""


class Line:
    """Connections to one origin, for any number of threads."""

    def __init__(self, base_url: str, secret: SecretStr | None) -> None:
        self._secret = "" if secret is None else secret.get_secret_value()
        self._here = threading.local()
        self._transport = _Transport(httpx2.URL(base_url), self._here)
        self.client = httpx2.Client(transport=self._transport, follow_redirects=False, trust_env=False)

    def call(
        self,
        do: Callable[[], object],
        deadline_s: float,
        *,
        faults: tuple[type[Exception], ...] = (),
        most_bytes: int = MOST_BYTES,
        hands_on: bool = False,
    ) -> Exchange:
        """Let an SDK make its request, and give what came of it. `faults` are what it raises when a request breaks."""
        exchange = Exchange(time.monotonic() + deadline_s, most_bytes, hands_on)
        self._here.exchange = exchange
        breaks: tuple[type[Exception], ...] = (*faults, httpx2.HTTPError)
        try:
            do()
        except breaks:
            if exchange.fault is None and exchange.status is None:
                raise
        finally:
            self._here.exchange = None
        # A page that shows the request it got must not carry the key into the ledger.
        if self._secret:
            secret = self._secret.encode()
            exchange.body = exchange.body.replace(b"Bearer " + secret, b"[key]").replace(secret, b"[key]")
        return exchange


class _Transport(httpx2.BaseTransport):
    """Sends a request to the one origin, and keeps the reply in this thread's exchange.

    Each thread has a connection of its own: a pool looks through those it has at every request and reply.
    """

    def __init__(self, base_url: httpx2.URL, here: threading.local) -> None:
        self._origin = _origin(base_url)
        self._here = here
        self._pool = _pool(base_url, Backend(here))
        self._open: set[httpcore2.ConnectionInterface] = set()

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        exchange: Exchange = self._here.exchange
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
            exchange.fault = f"the reply is longer than {exchange.most_bytes} bytes"
            raise httpx2.ReadError(exchange.fault) from error
        except (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.ProxyError) as error:
            where = "reset before the reply" if exchange.status is None else "reset in mid-body"
            exchange.fault = where if exchange.sent else f"no connection: {error}"
            raise httpx2.ReadError(exchange.fault) from error
        if exchange.hands_on:
            plain = {name: value for name, value in exchange.headers.items() if name != "content-encoding"}
            return httpx2.Response(exchange.status or 0, headers=plain, content=exchange.body)
        return httpx2.Response(200, content=b"{}")

    def close(self) -> None:
        while self._open:
            self._open.pop().close()

    def _connection(self, origin: httpcore2.Origin) -> httpcore2.ConnectionInterface:
        """This thread's own, and a fresh one where that is not to be used again."""
        found: httpcore2.ConnectionInterface | None = getattr(self._here, "connection", None)
        if found is not None and (found.is_closed() or found.has_expired()):
            self._open.discard(found)
            found.close()
            found = None
        if found is None:
            found = self._here.connection = self._pool.create_connection(origin)
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
        got = bytearray()
        try:
            for part in reply.stream:
                got += part
                if len(got) > exchange.most_bytes:
                    raise _TooLong
        finally:
            exchange.body = bytes(got)
            reply.close()
        if exchange.headers.get("content-encoding", "").casefold() in ("gzip", "x-gzip"):
            exchange.body = _unpacked(exchange.body, exchange.most_bytes)


class _TooLong(httpcore2.RemoteProtocolError):
    """More came than a reply may have."""


def _unpacked(body: bytes, most_bytes: int) -> bytes:
    """A body that came packed though it was asked for plain, or the body itself where it does not unpack.

    Raises _TooLong where it is more than so many bytes, of which no more are made.
    """
    unpacking = zlib.decompressobj(wbits=31)
    try:
        whole = unpacking.decompress(body, most_bytes)
    except zlib.error:
        return body
    if unpacking.unconsumed_tail:
        raise _TooLong
    return whole


def _origin(url: httpx2.URL) -> tuple[str, str, int]:
    return url.scheme, url.host, url.port or (443 if url.scheme == "https" else 80)


def _pool(base_url: httpx2.URL, backend: httpcore2.NetworkBackend) -> httpcore2.ConnectionPool:
    """What makes connections to an origin, through the proxy that the environment names for it."""
    settings: dict[str, Any] = {
        # Reading the roots of trust takes 50 ms, which nobody needs for a server without TLS.
        "ssl_context": httpx2.create_ssl_context() if base_url.scheme == "https" else None,
        "keepalive_expiry": KEPT_OPEN_S,
        "network_backend": backend,
    }
    proxy = urllib.request.getproxies().get(base_url.scheme)
    if proxy is None or urllib.request.proxy_bypass(base_url.host):
        return httpcore2.ConnectionPool(**settings)
    return httpcore2.HTTPProxy(proxy if "://" in proxy else f"http://{proxy}", **settings)
