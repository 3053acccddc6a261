"""The sanitizer between stored text and any screen. Text is stored as it is and sanitized only for display.

Control characters can drive a terminal (clipboard, title, cursor), and invisible or bidirectional ones can disguise a
text: all become visible. Callers show the result as plain content, never as markup.
"""

import re
import unicodedata
from functools import lru_cache

CUT = "⟨cut⟩"
MOST_MARKS = 4
"""Limit of combining marks per character: more would cover the lines above."""

# Joiner and zero-width fillers, then Mongolian and other variation selectors.
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2065\u3164\ufe00-\ufe0f\uffa0\U000e0000-\U000e0fff]"
)
_HIDDEN = frozenset(("Cc", "Cf", "Co", "Cs", "Zl", "Zp"))
_PLAIN = re.compile(r"[\n -~]*")


def shown(text: str, limit: int = 4000) -> str:
    """Return `text` safe for a screen, in at most `limit` bytes of UTF-8. Idempotent.

    The line feed is the only control character that is kept. Raises ValueError if `limit` is below 16.
    """
    if limit < 16:
        raise ValueError(f"a limit of {limit} bytes has no room for the mark of a cut: use 16 or more")
    if len(text) <= limit and _PLAIN.fullmatch(text):
        return text
    # Later characters cannot fit, however many marks are dropped: this bounds the work on a hostile text.
    head = text[: 4 * limit]
    visible = _fewer_marks([_visible(character) for character in head])
    return _capped(visible, limit, cut_already=len(head) < len(text))


@lru_cache(maxsize=4096)
def _visible(character: str) -> str:
    code = ord(character)
    if character == "\n":
        return character
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "␡"
    if unicodedata.category(character) in _HIDDEN or _INVISIBLE.match(character):
        return f"⟨U+{code:04X}⟩"
    return character


def _fewer_marks(pieces: list[str]) -> list[str]:
    kept: list[str] = []
    run = 0
    for piece in pieces:
        run = run + 1 if unicodedata.category(piece[0]) in ("Mn", "Me") else 0
        if run <= MOST_MARKS:
            kept.append(piece)
    return kept


def _capped(pieces: list[str], limit: int, cut_already: bool) -> str:
    sizes = [len(piece.encode()) for piece in pieces]
    if not cut_already and sum(sizes) <= limit:
        return "".join(pieces)
    room = limit - len(CUT.encode())
    kept: list[str] = []
    for piece, size in zip(pieces, sizes, strict=True):
        room -= size
        if room < 0:
            break
        kept.append(piece)
    return "".join(kept) + CUT
