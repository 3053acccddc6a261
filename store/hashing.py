"""What makes two texts the same: exactly, or but for case, punctuation and spacing. Knows text, and no table."""

import hashlib
import re
import unicodedata
from itertools import takewhile

_ASCII = {code: chr(code).lower() if chr(code).isalnum() or chr(code) == "_" else " " for code in range(128)}
_BETWEEN = re.compile(r"[^\w\s]+")


def content_digest(prompt: str, response: str | None) -> bytes:
    """SHA-256 over the exact prompt and response.

    The prompt's length stands before it, so that no two different pairs make the same bytes.
    Raises UnicodeEncodeError for a lone surrogate.
    """
    first = prompt.encode()
    second = b"\0" if response is None else b"\1" + response.encode()
    return hashlib.sha256(len(first).to_bytes(8, "big") + first + second).digest()


def words(text: str) -> str:
    """NFKC, case-folded, word characters only, single spaces; empty for a text without any.

    Combining marks behind a word character belong to the word: in Indic scripts they are the vowels.
    """
    if text.isascii():
        return " ".join(text.translate(_ASCII).split())
    return " ".join(_BETWEEN.sub(_marks, unicodedata.normalize("NFKC", text).casefold()).split())


def _marks(between: re.Match[str]) -> str:
    """What is kept of what is no word: the marks right behind one."""
    found, at = between[0], between.start()
    if at == 0 or between.string[at - 1].isspace():
        return " "
    marks = "".join(takewhile(lambda character: unicodedata.category(character)[0] == "M", found))
    return marks if len(marks) == len(found) else f"{marks} "
