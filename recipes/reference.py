"""Every key of a recipe, with its default, the words it may be and what it means: read from the schema, listed nowhere.

Not a check of a recipe, which is the schema's own work.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from inspect import cleandoc
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from wizloop.recipes.schema import Recipe

NEEDED = "needed"
"""Stands in place of a default where there is none."""
LEFT_OUT = "left out"
"""Stands in place of the default None, for which TOML has no word."""


@dataclass(frozen=True, slots=True)
class Key:
    """One key, or one section, whose `default` is then None."""

    name: str
    """With its dots: guard.base, data.path (of every [[data]])."""
    default: str | None
    """As TOML writes it, or NEEDED or LEFT_OUT."""
    words: tuple[str, ...]
    """What it may be, where that is a closed set."""
    about: str
    """Its unit and reason, in one line."""


def every_key() -> Iterator[Key]:
    """All keys in the order of the schema: those of a table before its sections, as TOML wants them."""
    return _of(Recipe, "")


def _of(model: type[BaseModel], prefix: str) -> Iterator[Key]:
    inner = {name: _section(field) for name, field in model.model_fields.items()}
    for name, section in inner.items():
        if section is None:
            yield _key(f"{prefix}{name}", model.model_fields[name])
    for name, section in inner.items():
        if section is not None:
            own = model.model_fields[name].description
            about = cleandoc(section.__doc__ or "") + (f" {own}" if own else "")
            yield Key(f"{prefix}{name}", None, (), " ".join(about.split()))
            yield from _of(section, f"{prefix}{name}.")


def _key(name: str, field: FieldInfo) -> Key:
    default = NEEDED if field.is_required() else _toml(field.get_default(call_default_factory=True))
    return Key(name, default, tuple(_words(field.annotation)), " ".join((field.description or "").split()))


def _section(field: FieldInfo) -> type[BaseModel] | None:
    """The section that a field holds: itself, or None, or any number of it."""
    for one in (field.annotation, *get_args(field.annotation)):
        if isinstance(one, type) and issubclass(one, BaseModel):
            return one
    return None


def _words(annotation: Any) -> Iterator[str]:
    """The words of every Literal in a type."""
    if get_origin(annotation) is Literal:
        yield from (str(word) for word in get_args(annotation))
    else:
        for inner in get_args(annotation):
            yield from _words(inner)


def _toml(value: Any) -> str:
    if value is None:
        return LEFT_OUT
    if isinstance(value, dict):
        return "{}"
    return json.dumps(value, ensure_ascii=False)
