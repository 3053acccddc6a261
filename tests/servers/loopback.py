"""A server on the loopback that lasts as long as its context. Imports nothing of wizloop."""

import threading
from http.server import ThreadingHTTPServer


class Loopback:
    """The base of the fake servers: each makes its own HTTP server in `__enter__` and gives it to `begin`."""

    _server: ThreadingHTTPServer

    def begin(self, server: ThreadingHTTPServer) -> None:
        """Serve from a thread."""
        self._server = server
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def address(self) -> str:
        """The host and port."""
        return f"127.0.0.1:{self._server.server_address[1]}"
