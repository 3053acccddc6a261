"""Identity of texts: exact (a digest), or ignoring case, punctuation and spacing (normalized words)."""

import hashlib
import re
import unicodedata
from itertools import takewhile

_ASCII = {code: chr(code).lower() if chr(code).isalnum() or chr(code) == "_" else " " for code in range(128)}
_BETWEEN = re.compile(r"[^\w\s]+")


def content_digest(prompt: str, response: str | None) -> bytes:
    """Return the SHA-256 of the exact prompt and response.

    The prompt is prefixed with its length, so that different pairs never give the same bytes.
    Raises UnicodeEncodeError for a lone surrogate.
    """
    first = prompt.encode()
    second = b"\0" if response is None else b"\1" + response.encode()
    return hashlib.sha256(len(first).to_bytes(8, "big") + first + second).digest()


def words(text: str) -> str:
    """Normalize a text to words: NFKC, case-folded, word characters only, separated by single spaces.

    Combining marks after a word character belong to the word: in Indic scripts they are the vowels.
    """
    if text.isascii():
        return " ".join(text.translate(_ASCII).split())
    return " ".join(_BETWEEN.sub(_marks, unicodedata.normalize("NFKC", text).casefold()).split())


def _marks(between: re.Match[str]) -> str:
    """Keep the combining marks directly after a word, out of a run of non-word characters."""
    found, at = between[0], between.start()
    if at == 0 or between.string[at - 1].isspace():
        return " "
    marks = "".join(takewhile(lambda character: unicodedata.category(character)[0] == "M", found))
    return marks if len(marks) == len(found) else f"{marks} "
