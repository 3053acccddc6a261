"""A chat completion that arrived as server-sent events, joined to the one object that it would have been."""

import json
from collections.abc import Iterator
from typing import Any

from wizloop.backends.http.exchange import dig, json_object, text_at

_TEXTS = ("content", "refusal", "reasoning_content", "reasoning")


def joined(body: bytes) -> bytes | None:
    """Return the completion in a stream as JSON, or its error; None if the stream broke off before its end."""
    whole: dict[str, Any] = {}
    texts: dict[str, list[str]] = {name: [] for name in _TEXTS}
    reason, ended = None, False
    for event in _events(body):
        if event is None:
            ended = True
            continue
        if "error" in event:
            return json.dumps(event).encode()
        whole |= {name: event[name] for name in ("id", "model", "usage") if event.get(name)}
        delta = dig(event, "choices", 0, "delta") or dig(event, "choices", 0, "message")
        for name in _TEXTS:
            texts[name].append(text_at(delta, name) or "")
        reason = text_at(event, "choices", 0, "finish_reason") or reason
    if not ended and reason is None:
        return None
    message = {name: "".join(parts) for name, parts in texts.items() if any(parts)}
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": reason}
    return json.dumps({**whole, "choices": [choice]}).encode()


def _events(body: bytes) -> Iterator[dict[str, Any] | None]:
    """Yield the objects of a stream, and None for its end; what is neither is left out."""
    for line in body.decode("utf-8-sig", "replace").splitlines():
        if not line.startswith("data:"):
            continue
        said = line.removeprefix("data:").strip()
        found = None if said == "[DONE]" else json_object(said)
        if said == "[DONE]" or found is not None:
            yield found
