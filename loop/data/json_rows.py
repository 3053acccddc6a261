"""JSON by the letter: no NaN, no key twice in one object, no depth that exhausts the stack. Lists come item by item.

It knows text and no file.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, TextIO

PIECE = 1 << 16
"""Characters that are read at once."""
MAX_DIGITS = 400
"""Of one integer: Python itself refuses to read some thousands."""

_SPACE = re.compile(r"[ \t\r\n]*")


class NotAList(ValueError):
    """The text is JSON of another kind, or none; nothing of it was read."""


class Doubtful(ValueError):
    """A value that is no JSON, or JSON that two readers would read differently; the message says where."""


class Parser:
    """Reads values one after the other."""

    def __init__(self) -> None:
        self._fault: str | None = None
        self._decoder = json.JSONDecoder(
            object_pairs_hook=self._object, parse_constant=self._constant, parse_int=self._integer
        )

    def whole(self, text: str) -> Any:
        """The one value of a text that has no white space around it. Raises Doubtful."""
        value, end = self.first(text, 0)
        if isinstance(value, Doubtful):
            raise value
        if end != len(text):
            raise Doubtful(f"not JSON: more after the value at line {text.count(chr(10), 0, end) + 1}")
        return value

    def first(self, text: str, at: int) -> tuple[Any, int]:
        """The value that begins at `at`, and where it ends; a Doubtful where it is JSON, but none to rely on.

        Raises Doubtful where its end cannot be found.
        """
        self._fault = None
        try:
            value, end = self._decoder.raw_decode(text, at)
        except json.JSONDecodeError as error:
            raise Doubtful(f"not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from None
        except RecursionError:
            raise Doubtful("not usable JSON: nested too deeply") from None
        return (value if self._fault is None else Doubtful(self._fault)), end

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            self._fault = f"the key {next(name for name in names if names.count(name) > 1)!r} is there twice"
        return found

    def _constant(self, name: str) -> None:
        self._fault = f"not JSON: {name} is no number"

    def _integer(self, digits: str) -> int:
        if len(digits) > MAX_DIGITS:
            self._fault = f"not usable JSON: an integer of {len(digits):,} digits"
            return 0
        return int(digits)


def elements(stream: TextIO, longest: int) -> Iterator[Any]:
    """The items of a list, each read when it is asked for; one that is not to be relied on comes as a Doubtful.

    Raises Doubtful where the list cannot be followed any further, and where an item has more than `longest` characters;
    NotAList, before anything else, where the text is none.
    """
    parser, text, at = Parser(), stream.read(PIECE), 0
    at = _SPACE.match(text).end()  # type: ignore[union-attr]
    if not text.startswith("[", at):
        raise NotAList
    number, at, wanted = 0, at + 1, "first"
    while True:
        text, at = _at_something(stream, text, at)
        sign = text[at : at + 1]
        if sign == "]" and wanted != "item":
            return _nothing_after(stream, text, at + 1)
        if wanted == "more":
            if sign != ",":
                raise Doubtful(f"not JSON: no comma or ] after item {number}")
            at, wanted = at + 1, "item"
            continue
        number += 1
        value, text, at = _item(stream, parser, text, at, longest, number)
        wanted = "more"
        yield value


def _item(stream: TextIO, parser: Parser, text: str, at: int, longest: int, number: int) -> tuple[Any, str, int]:
    """The item at `at`, with the text that is left and where in it to go on."""
    piece = PIECE
    while True:
        fault = None
        try:
            value, end = parser.first(text, at)
        except Doubtful as doubtful:
            value, end, fault = None, len(text), doubtful
        # At the end of the text an item may be cut; a number may even look whole.
        if end < len(text):
            return value, text, end
        if len(text) - at > longest:
            raise Doubtful(f"item {number}: more than {longest:,} characters, or no JSON")
        more = stream.read(piece)
        if not more and fault is not None:
            raise Doubtful(f"item {number}: {fault}")
        if not more:
            return value, text, end
        # Twice as much each time: a long item is tried a few times, not once a piece.
        text, at, piece = text[at:] + more, 0, 2 * piece


def _at_something(stream: TextIO, text: str, at: int) -> tuple[str, int]:
    """Past the white space."""
    while (at := _SPACE.match(text, at).end()) == len(text):  # type: ignore[union-attr]
        text, at = stream.read(PIECE), 0
        if not text:
            raise Doubtful("not JSON: the list never ends")
    return text, at


def _nothing_after(stream: TextIO, text: str, at: int) -> None:
    while text:
        if _SPACE.match(text, at).end() != len(text):  # type: ignore[union-attr]
            raise Doubtful("not JSON: more after the end of the list")
        text, at = stream.read(PIECE), 0
