"""List every key of a recipe: default, allowed words and meaning, read from the schema. Checks no recipe."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from inspect import cleandoc
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

NEEDED = "needed"
"""In place of a default if there is none."""
LEFT_OUT = "left out"
"""In place of the default None, for which TOML has no word."""


@dataclass(frozen=True, slots=True)
class Key:
    """One key, or one section, whose `default` is then None."""

    name: str
    """With its dots: guard.base, data.path (of every [[data]])."""
    default: str | None
    """In TOML, or NEEDED or LEFT_OUT."""
    words: tuple[str, ...]
    """Allowed values, if they are a closed set."""
    about: str
    """Unit and reason, in one line."""


def every_key(model: type[BaseModel], prefix: str = "") -> Iterator[Key]:
    """Yield all keys in the order of the schema: those of a table before its sections, as TOML needs them."""
    sections = {name: _section(field) for name, field in model.model_fields.items()}
    for name, field in model.model_fields.items():
        if sections[name] is None:
            yield _key(f"{prefix}{field.alias or name}", field)
    for name, section in sections.items():
        if section is not None:
            about = f"{cleandoc(section.__doc__ or '')} {model.model_fields[name].description or ''}"
            yield Key(f"{prefix}{name}", None, (), " ".join(about.split()))
            yield from every_key(section, f"{prefix}{name}.")


def _key(name: str, field: FieldInfo) -> Key:
    default = NEEDED if field.is_required() else _toml(field.get_default(call_default_factory=True))
    return Key(name, default, tuple(_words(field.annotation)), " ".join((field.description or "").split()))


def _section(field: FieldInfo) -> type[BaseModel] | None:
    """Return the section that a field holds: itself, or None, or any number of it."""
    for one in (field.annotation, *get_args(field.annotation)):
        if isinstance(one, type) and issubclass(one, BaseModel):
            return one
    return None


def _words(annotation: Any) -> Iterator[str]:
    """Yield the words of every Literal in a type."""
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
