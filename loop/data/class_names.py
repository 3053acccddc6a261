"""Put class names in the place of class numbers, as the features of a Hugging Face dataset tell them.

The features are a file's own metadata or the hub's, as `datasets.Features.to_dict` writes them: {"label": {"names":
["harmful", "unharmful"], "_type": "ClassLabel"}}, also inside of structs and lists. `class_encode_column` numbers names
by the alphabet, so that a number alone says nothing.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from wizloop.loop.data.records import BadRow

Named = Callable[[Any], Any]
"""Returns a value with names for class numbers; -1 means no class and becomes None. Raises BadRow."""
_DEEPEST = 20


def of_metadata(metadata: Mapping[bytes, bytes] | None) -> dict[str, Named]:
    """Return what names the classes of each column, by the metadata of a Parquet file; none if it has no features."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return {}
    return of_features(features)


def of_features(features: Any) -> dict[str, Named]:
    """Return what names the classes of each column that has any."""
    if not isinstance(features, dict):
        return {}
    found = {column: _namer(kind, column, 0) for column, kind in features.items()}
    return {column: named for column, named in found.items() if named is not None}


def applied(row: dict[str, Any], named: Mapping[str, Named]) -> dict[str, Any] | BadRow:
    """Return the row with names for class numbers, or why it cannot be named."""
    try:
        return row | {column: name(row[column]) for column, name in named.items() if column in row}
    except BadRow as bad:
        return bad


def _namer(kind: Any, column: str, depth: int) -> Named | None:
    if depth > _DEEPEST or not isinstance(kind, dict | list):
        return None
    if isinstance(kind, list):
        return _of_list(_namer(kind[0], column, depth + 1)) if kind else None
    names = kind.get("names")
    if kind.get("_type") == "ClassLabel":
        # Without names only the number is known. A dataset's card numbers them.
        names = [*names.values()] if isinstance(names, dict) and [*names] == [*map(str, range(len(names)))] else names
        return _of_class(names, column) if isinstance(names, list) and names else None
    if isinstance(kind.get("_type"), str):
        return _of_list(_namer(kind.get("feature"), column, depth + 1))
    inner = {name: _namer(each, f"{column}.{name}", depth + 1) for name, each in kind.items()}
    return _of_struct({name: named for name, named in inner.items() if named is not None})


def _of_class(names: list[Any], column: str) -> Named:
    def named(value: Any) -> Any:
        if isinstance(value, list):
            # A list of structs may be stored as a struct of lists.
            return [named(one) for one in value]
        if value is None or value == -1:
            return None
        if not isinstance(value, int) or not 0 <= value < len(names):
            raise BadRow(f"the column {column!r} holds the class {value}, of {len(names)}")
        return names[value]

    return named


def _of_list(inner: Named | None) -> Named | None:
    if inner is None:
        return None
    return lambda value: [inner(one) for one in value] if isinstance(value, list) else inner(value)


def _of_struct(inner: Mapping[str, Named]) -> Named | None:
    def named(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {name: inner[name](one) if name in inner else one for name, one in value.items()}

    return named if inner else None
