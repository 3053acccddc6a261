"""What happened on the wire in one request: what came back, and where it broke off. It sends nothing."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Exchange:
    """One request and its reply, as far as it came."""

    until: float
    """When it is given up, in seconds of time.monotonic."""
    most_bytes: int
    """A longer reply is given up."""
    hands_on: bool = False
    """Whether the SDK is to see the reply, which it needs for steps that follow from it."""
    sent: bool = False
    """Whether a byte of the request left: from then on it may have been taken, and billed."""
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    """By name in small letters."""
    body: bytes = b""
    fault: str | None = None
    """Why it broke off; None: the reply is whole."""

    @property
    def text(self) -> str:
        """The body as text; bytes that are none are replaced."""
        return self.body.decode("utf-8", "replace")

    def told(self) -> dict[str, Any] | None:
        """The body as a JSON object; None where it is no such thing."""
        try:
            found = json.loads(self.body)
        except (ValueError, RecursionError):
            return None
        return found if isinstance(found, dict) else None


def dig(told: object, *path: str | int) -> Any:
    """What stands at a path of keys and places in parsed JSON, or None."""
    for part in path:
        if isinstance(told, dict) and isinstance(part, str):
            told = told.get(part)
        elif isinstance(told, list) and isinstance(part, int) and part < len(told):
            told = told[part]
        else:
            return None
    return told
