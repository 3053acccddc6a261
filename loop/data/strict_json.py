"""Parse JSON strictly: no duplicate keys, no deep nesting. Lists are streamed item by item."""

import json
import re
from collections.abc import Iterator
from typing import Any, TextIO

BLOCK = 1 << 16
"""Characters read from the stream at a time."""
MAX_DIGITS = 400
"""Most digits of an integer; Python itself refuses a few thousand."""

_SPACE = re.compile(r"[ \t\r\n]*")


class NotAList(ValueError):
    """The text does not begin with a list; nothing of it was consumed."""


class Malformed(ValueError):
    """A value that is not JSON, or that two parsers would read differently; the message says where."""


class Parser:
    """Parse one value after another; `with_nan` reads NaN as null and Infinity as a float, as Python writes them."""

    def __init__(self, *, with_nan: bool = False) -> None:
        self._fault: str | None = None
        constant = _missing if with_nan else self._constant
        self._decoder = json.JSONDecoder(
            object_pairs_hook=self._object, parse_constant=constant, parse_int=self._integer
        )

    def whole(self, text: str) -> Any:
        """Return the one value of a text without white space around it. Raises Malformed."""
        value, end = self.first(text, 0)
        if isinstance(value, Malformed):
            raise value
        if end != len(text):
            raise Malformed(f"not JSON: more after the value at line {text.count(chr(10), 0, end) + 1}")
        return value

    def first(self, text: str, at: int) -> tuple[Any, int]:
        """Return the value that begins at `at`, and its end; the value is a Malformed if it is valid but ambiguous.

        Raises Malformed if the end cannot be found.
        """
        self._fault = None
        try:
            value, end = self._decoder.raw_decode(text, at)
        except json.JSONDecodeError as error:
            raise Malformed(f"not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from None
        except RecursionError:
            raise Malformed("not usable JSON: nested too deeply") from None
        return (value if self._fault is None else Malformed(self._fault)), end

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) < len(pairs):
            names = [name for name, _ in pairs]
            self._fault = f"the key {next(name for name in names if names.count(name) > 1)!r} occurs twice"
        return value

    def _constant(self, name: str) -> None:
        self._fault = f"not JSON: {name} is not a number"

    def _integer(self, digits: str) -> int:
        if len(digits) > MAX_DIGITS:
            self._fault = f"not usable JSON: an integer of {len(digits):,} digits"
            return 0
        return int(digits)


def _missing(name: str) -> float | None:
    """Return None for NaN, which is how pandas writes a missing value, and the float for an infinity."""
    return None if name == "NaN" else float(name)


def elements(stream: TextIO, longest: int) -> Iterator[Any]:
    """Yield the items of a list, with NaN, one at a time; one that is valid but ambiguous is yielded as a Malformed.

    Raises NotAList, before anything else, if the text is not a list, and Malformed where the list breaks off or an item
    has more than `longest` characters.
    """
    text, at = _skip_space(stream, stream.read(BLOCK), 0)
    if not text.startswith("[", at):
        raise NotAList
    parser, number = Parser(with_nan=True), 0
    text, at = _next_sign(stream, text, at + 1)
    while text[at] != "]":
        if number:
            if text[at] != ",":
                raise Malformed(f"not JSON: no comma or ] after item {number}")
            text, at = _next_sign(stream, text, at + 1)
        number += 1
        value, text, at = _item(stream, parser, text, at, longest, number)
        yield value
        text, at = _next_sign(stream, text, at)
    if _skip_space(stream, text, at + 1)[0]:
        raise Malformed("not JSON: more after the end of the list")


def _item(stream: TextIO, parser: Parser, text: str, at: int, longest: int, number: int) -> tuple[Any, str, int]:
    """Return the item at `at`, with the rest of the text and the position after the item."""
    size = BLOCK
    while True:
        fault = None
        try:
            value, end = parser.first(text, at)
        except Malformed as error:
            value, end, fault = None, len(text), error
        # At the end of the text an item may be cut; a number may even look whole.
        if end < len(text):
            return value, text, end
        if len(text) - at > longest:
            raise Malformed(f"item {number}: more than {longest:,} characters, or not JSON")
        more = stream.read(size)
        if not more and fault is not None:
            raise Malformed(f"item {number}: {fault}")
        if not more:
            return value, text, end
        # Twice as much each time: a long item is parsed a few times, not once per block.
        text, at, size = text[at:] + more, 0, 2 * size


def _next_sign(stream: TextIO, text: str, at: int) -> tuple[str, int]:
    """Skip white space. Raises Malformed at the end of the stream."""
    text, at = _skip_space(stream, text, at)
    if not text:
        raise Malformed("not JSON: the list never ends")
    return text, at


def _skip_space(stream: TextIO, text: str, at: int) -> tuple[str, int]:
    """Return the text and the position of its next character that is not white space; an empty text at the end."""
    while text and (at := _SPACE.match(text, at).end()) == len(text):  # type: ignore[union-attr]
        text, at = stream.read(BLOCK), 0
    return text, at
