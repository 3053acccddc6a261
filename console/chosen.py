"""Champions that a person chose over the gate, in words, from what their round recorded. Pure."""

from collections.abc import Mapping
from typing import Any, Final

KEY: Final = "chosen"
"""Key of a round's record: each choice after it, oldest first."""


def lines(record: Mapping[str, Any], model: str | None = None) -> list[str]:
    """Return a sentence for each choice, or for those of one model."""
    return [_line(one) for one in record.get(KEY, ()) if model in (None, one["model"])]


def _line(one: Mapping[str, str]) -> str:
    what = "the base stands" if one["model"] == "base" else f"{one['model']} is the champion"
    before = "the base" if one["before"] == "base" else one["before"]
    return f"{what} instead of {before}, chosen by {one['by']} at {one['at']}: {one['why']}"
