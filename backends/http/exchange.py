"""One request and its reply on the wire, and where it broke off. Sends nothing."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


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

    @property
    def text(self) -> str:
        """Body decoded as UTF-8; invalid bytes are replaced."""
        return self.body.decode("utf-8", "replace")

    def json(self) -> dict[str, Any] | None:
        """Return the body as a JSON object, or None if it is not one."""
        return json_object(self.body)


def json_object(text: str | bytes) -> dict[str, Any] | None:
    """Parse a JSON object; return None for anything else."""
    try:
        found = json.loads(text)
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
