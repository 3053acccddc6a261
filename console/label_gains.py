"""What choosing saved and what more labels bring, in words, from what a round recorded. Pure."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    # SQLAlchemy is not loaded for words.
    from wizloop.store.steps import Round

KEY: Final = "labels"
"""Key of a round's record."""


def lines(record: Mapping[str, Any]) -> list[str]:
    """Return what a round says of its labels; nothing where it recorded none."""
    found = record.get(KEY)
    return [] if found is None else [_saved(found["saved"]), next_hundred(found["next"])]


def of_newest(rounds: "Sequence[Round]") -> list[str]:
    """Return the lines of the newest round that has some."""
    measured = [one for one in rounds if one.record.get(KEY)]
    return [f"round {measured[-1].number}, {line}" for line in lines(measured[-1].record)] if measured else []


def next_hundred(found: Mapping[str, Any] | None) -> str:
    """Return what the next hundred labels are expected to bring, in points of average precision, and their cost."""
    if found is None:
        return "next 100 labels: what they bring cannot be told yet"
    gain, low, high = (100 * found[name] for name in ("gain", "low", "high"))
    cost = f"for about ${found['usd']:.2f}" if found["usd"] else "at no cost"
    return (
        f"next 100 labels: expected to add {gain:+.1f} points of average precision on dev "
        f"(95 % interval {low:+.1f} to {high:+.1f}), {cost}"
    )


def _saved(found: Mapping[str, Any]) -> str:
    if found["why"] is not None:
        return f"choosing: what it saved cannot be told yet: {found['why']}"
    head = f"choosing: the {found['labels']:,} labels so far reach an average precision of {found['figure']:.3f} on dev"
    if found["high"] is None:
        told = "" if found["low"] > found["labels"] else "; whether that is a saving cannot be told yet"
        return f"{head}; chance would have needed {found['low']:,.0f} or more{told}"
    between = f"{found['low']:,.0f} to {found['high']:,.0f}"
    told = "" if found["low"] > found["labels"] else "; a saving cannot be told from none"
    return f"{head}; chance would have needed about {found['needed']:,.0f} (95 % interval {between}){told}"
