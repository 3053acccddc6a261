"""One request and its reply on the wire, and where it broke off. Sends nothing."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from wizloop.backends.http.scrub import Scrub, cleaned, plain, storable

MOST_DEADLINES = 30
"""Times that a deadline may begin again: a reply without an end has one."""


@dataclass
class Progress:
    """When a server last sent a piece of any of its answers, in seconds of time.monotonic."""

    at: float = 0.0


@dataclass
class Exchange:
    """One request and its reply, as far as it arrived."""

    until: float
    """Deadline, in seconds of time.monotonic."""
    max_bytes: int
    """A longer reply is abandoned."""
    pass_reply: bool = False
    """Whether the SDK sees the reply, which it needs for requests that follow from it."""
    sent: bool = False
    """Whether a byte of the request was sent: from then on it may be processed and billed."""
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    """Values by lower-case name."""
    body: bytes = b""
    fault: str | None = None
    """Why the exchange broke off; None if the reply is complete."""
    scrub: Scrub = plain
    """Removes the key from a text of the reply."""
    deadline_s: float = 0.0
    """Seconds from the request to `until`."""
    progress: Progress | None = None
    """Given for an answer that streams: each piece of any of the server's answers begins the deadline again."""

    @property
    def ends_at(self) -> float:
        """When the exchange is abandoned: a server that works, on this request or on one before it, gets more time."""
        if self.progress is None:
            return self.until
        return min(max(self.until, self.progress.at + self.deadline_s), self.until + MOST_DEADLINES * self.deadline_s)

    def arrived(self, part: bytes) -> None:
        """Note a piece of an answer that streams. A comment, by which a server keeps a connection open, is none."""
        if self.progress is not None and self.streams and b"data:" in part:
            self.progress.at = time.monotonic()

    @property
    def streams(self) -> bool:
        """Whether the reply is a stream of events."""
        return self.headers.get("content-type", "").startswith("text/event-stream")

    @property
    def text(self) -> str:
        """Body decoded as UTF-8, without the key; invalid bytes are replaced."""
        return self.scrub(self._decoded)

    def json(self) -> dict[str, Any] | None:
        """Return the body as a JSON object whose texts can be stored and hold no key, or None if it is not one."""
        return self._object(self._decoded)

    def lines(self) -> list[dict[str, Any] | None]:
        """Return the body's lines that are not blank, each like `json`."""
        return [self._object(line) for line in self._decoded.split("\n") if line.strip()]

    @property
    def _decoded(self) -> str:
        return self.body.decode("utf-8-sig", "replace")

    def _object(self, text: str) -> dict[str, Any] | None:
        # Scrubbed after parsing: a key that is replaced in the text could break the JSON.
        return json_object(text, plain if self.scrub(text) == text else self.scrub)


def json_object(text: str, scrub: Scrub = plain) -> dict[str, Any] | None:
    """Parse a JSON object whose texts can be stored, and are scrubbed; return None for anything else."""
    try:
        found = json.loads(text)
        # Only an escape can make a lone surrogate of decoded text.
        if scrub is not plain or "\\u" in text:
            found = cleaned(found, lambda one: scrub(storable(one)))
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def dig(node: object, *path: str | int) -> Any:
    """Return the value at a path of keys and indices in parsed JSON, or None."""
    for part in path:
        if isinstance(node, dict) and isinstance(part, str):
            node = node.get(part)
        elif isinstance(node, list) and isinstance(part, int) and part < len(node):
            node = node[part]
        else:
            return None
    return node


def text_at(node: object, *path: str | int) -> str | None:
    """Return the text at a path in parsed JSON; None for anything else."""
    found = dig(node, *path)
    return found if isinstance(found, str) else None


def list_at(node: object, *path: str | int) -> list[Any]:
    """Return the list at a path in parsed JSON; an empty one for anything else."""
    found = dig(node, *path)
    return found if isinstance(found, list) else []
