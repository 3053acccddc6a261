"""The JSON object in a teacher's text, found where nothing has to be guessed. Knows no verdicts.

Thinking in front of the answer is cut off, fences and sentences around it are ignored, and one comma too many is taken
out. Two different objects, a broken one, or a key that is given twice are no answer: nobody knows what was meant, and
an object inside a broken one may be the sample's own.
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from wizloop.backends.http.scrub import cleaned, storable

MOST = 200_000
"""Characters of a text in which an object is looked for: no answer is as long."""
_TRIES = 50
"""Braces at which an object may begin."""
_BROKEN = re.compile(r"\{\s*(?:[\"'`]|\w+\s*:)")
"""How an object begins, in contrast to braces in a sentence."""
_THINKING = re.compile(r"\s*<(?:think|thinking|thought|reasoning)>", re.IGNORECASE)
_ANSWER = re.compile(r"</(?:think|thinking|thought|reasoning)>", re.IGNORECASE)


MOST_EXPLAINED, LONGEST_LINE = 240, 600
"""Characters of an explanation, and of a step or any other line."""
_SENTENCE = re.compile(r"(?<=[.!?])\s+")


class Unreadable(ValueError):
    """The text holds no answer, or more than one."""


def object_in(text: str, known: Collection[str], words: Mapping[str, Collection[str]]) -> dict[str, Any] | None:
    """Return the one JSON object in a text that has a `known` key, with its known keys and storable texts.

    `words` are the values that some keys may have, which are read in any case. None if there is no object. Raises
    Unreadable.
    """
    found: list[dict[str, Any]] = []
    for whole in _objects(_after_thinking(text[:MOST])):
        each = _unwrapped(whole)
        kept = {name: _as_word(value, words.get(name, ())) for name, value in each.items() if name in known}
        if kept and kept not in found:
            found.append(kept)
    if len(found) > 1:
        raise Unreadable("it holds more than one answer")
    return found[0] if found else None


def sentences(text: str) -> list[str]:
    """Return the sentences of a text."""
    return [part for part in (piece.strip() for piece in _SENTENCE.split(text.strip())) if part]


def shortened(text: str, most: int = MOST_EXPLAINED) -> str:
    """Return as many whole sentences of a text as fit into `most` characters, or the beginning of the first."""
    kept = ""
    for sentence in sentences(text):
        longer = f"{kept} {sentence}".strip()
        if len(longer) > most:
            break
        kept = longer
    return kept or f"{' '.join(text.split())[: most - 1]}\u2026"


def _unwrapped(found: dict[str, Any]) -> dict[str, Any]:
    """Return the object that is the only thing in an object, or the object itself."""
    (only, *more) = found.values() or (None,)
    return only if isinstance(only, dict) and not more else found


def _after_thinking(text: str) -> str:
    """Return what follows the thinking. Raises Unreadable if that has no end."""
    begun, end = _THINKING.match(text), _ANSWER.search(text)
    if begun is None and (end is None or text.lstrip().startswith("{")):
        return text
    if end is None:
        raise Unreadable("its thinking has no end")
    return text[end.end() :]


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects in a text, outermost ones only. Raises Unreadable."""
    at, tries = text.find("{"), 0
    while at >= 0 and tries < _TRIES:
        tries += 1
        found, end = _object_at(text, at)
        if found is not None:
            yield found
        elif _BROKEN.match(text, at):
            raise Unreadable("Invalid JSON: it cannot be read from its beginning to its end")
        at = text.find("{", end)


def _object_at(text: str, at: int) -> tuple[dict[str, Any] | None, int]:
    """Return the object that begins at a brace, or None, and where to go on. Raises Unreadable."""
    try:
        try:
            found, end = _DECODER.raw_decode(text, at)
        except json.JSONDecodeError as error:
            mended = _without_comma(text, at, error.pos)
            if mended is None:
                return None, at + 1
            found, end = _DECODER.raw_decode(mended, at)
            end += 1
        return cleaned(found, storable), end
    except json.JSONDecodeError:
        return None, at + 1
    except (ValueError, RecursionError) as error:
        raise Unreadable(str(error) if isinstance(error, _Twice) else "Invalid JSON") from None


def _without_comma(text: str, at: int, fault: int) -> str | None:
    """Return the text without the comma before a closing bracket at which parsing failed, or None."""
    comma = fault if text[fault : fault + 1] == "," else len(text[at:fault].rstrip()) + at - 1
    closes = text[comma + 1 :].lstrip()[:1] in ("}", "]")
    return text[:comma] + text[comma + 1 :] if comma > at and text[comma] == "," and closes else None


class _Twice(ValueError):
    """A key is given twice."""


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        raise _Twice(f"it gives {next(name for name in names if names.count(name) > 1)[:40]} twice")
    return made


def _no_number(name: str) -> Any:
    raise _Twice(f"{name} is no number")


_DECODER = json.JSONDecoder(object_pairs_hook=_once, parse_constant=_no_number)


def _as_word(value: Any, words: Collection[str]) -> Any:
    """Return a value that is one of `words` in another case, or between blanks, as that word."""
    plain = value.strip().casefold() if isinstance(value, str) else None
    return next((word for word in words if word.casefold() == plain), value)
