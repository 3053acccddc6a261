"""What makes two texts the same: exactly, or but for case, punctuation and spacing. Knows text, and no table."""

import hashlib
import unicodedata

_ASCII = {code: chr(code).lower() if chr(code).isalnum() else " " for code in range(128)}


def content_digest(prompt: str, response: str | None) -> bytes:
    """SHA-256 over the exact prompt and response.

    The prompt's length stands before it, so that no two different pairs make the same bytes.
    Raises UnicodeEncodeError for a lone surrogate.
    """
    first = prompt.encode()
    second = b"\0" if response is None else b"\1" + response.encode()
    return hashlib.sha256(len(first).to_bytes(8, "big") + first + second).digest()


def normal_digest(prompt: str, response: str | None) -> bytes:
    """The content digest of the normalised prompt and response."""
    return content_digest(normalised(prompt), None if response is None else normalised(response))


def normalised(text: str) -> str:
    """NFKC, case-folded, words with single spaces between; a text without any word stays as it is.

    Combining marks count as parts of words: in Indic scripts they are the vowels.
    """
    if text.isascii():
        return " ".join(text.translate(_ASCII).split()) or text
    folded = unicodedata.normalize("NFKC", text).casefold()
    kept = (c if unicodedata.category(c)[0] in "LNM" else " " for c in folded)
    return " ".join("".join(kept).split()) or text
