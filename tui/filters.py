"""What a person types after `/`, such as `split:pool how to`, into a filter of the store. It asks nothing."""

import types
from collections.abc import Callable
from dataclasses import Field, fields
from typing import Any, TypeVar, get_args

T = TypeVar("T")


class BadFilter(ValueError):
    """The line cannot be read as this filter; the message says what can be written."""


def parsed(line: str, kind: Callable[..., T]) -> T:
    """The filter that a line asks for: `field:value` for the fields of the dataclass `kind`, all else its `text`.

    Raises BadFilter.
    """
    known: dict[str, Field[Any]] = {field.name: field for field in fields(kind) if field.name != "text"}  # type: ignore[arg-type]
    given: dict[str, Any] = {}
    words = []
    for word in line.split():
        name, colon, value = word.partition(":")
        if not colon or name not in known:
            words.append(word)
            continue
        given[name] = _value(known[name], value)
    return kind(text=" ".join(words), **given)


def _value(field: Field[Any], text: str) -> Any:
    kinds = get_args(field.type) if isinstance(field.type, types.UnionType) else (field.type,)
    for kind in (int, float):
        if kind in kinds:
            try:
                return kind(text)
            except ValueError as error:
                raise BadFilter(f"{field.name}:{text} needs a number after the colon") from error
    return text
