"""Texts made fit to be kept: a key is replaced, and lone surrogates, which no database or file takes. Sends nothing."""

import re
from collections.abc import Callable
from typing import Any

from pydantic import SecretStr

Scrub = Callable[[str], str]
"""Returns a text without the key."""
_SURROGATE = re.compile("[\ud800-\udfff]")
_SHORT, _LONG = 8, 12
_DUMMY = re.compile(r"no[-_]?key|not[-_]needed|dummy|placeholder|unused", re.IGNORECASE)
"""Long words that stand in for a key."""
MARK = "[key]"


def plain(text: str) -> str:
    """Return the text itself: there is no key in it."""
    return text


def of_secret(secret: SecretStr | None) -> Scrub:
    """Return what replaces a key in a text, also where JSON or an address escapes its characters.

    A word that stands in for a key (`x`, `token`, `not-needed`) is no secret, and may be part of any answer: it stays.
    """
    key = "" if secret is None else secret.get_secret_value()
    if not _is_secret(key):
        return plain
    # A JSON text within a JSON text escapes its backslashes again.
    parts = (rf"(?:\\{{1,8}}u(?i:{ord(one):04x})|%(?i:{ord(one):02x})|\\{{0,8}}{re.escape(one)})" for one in key)
    found = re.compile(rf"(?:Bearer\s+)?{''.join(parts)}")

    def scrub(text: str) -> str:
        # A text of megabytes without an escape is searched at once.
        hidden = "\\" in text or "%" in text
        return found.sub(MARK, text) if hidden or key in text else text

    return scrub


def storable(text: str) -> str:
    """Replace lone surrogates, which UTF-8 cannot encode."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def cleaned(node: Any, clean: Scrub) -> Any:
    """Return parsed JSON with every text in it cleaned, keys of objects included."""
    if isinstance(node, str):
        return clean(node)
    if isinstance(node, list):
        return [cleaned(one, clean) for one in node]
    if isinstance(node, dict):
        return {clean(name): cleaned(one, clean) for name, one in node.items()}
    return node


def _is_secret(key: str) -> bool:
    if _DUMMY.search(key):
        return False
    mixed = any(one.isdigit() for one in key) and any(one.isalpha() for one in key)
    return len(key) >= (_SHORT if mixed else _LONG)
