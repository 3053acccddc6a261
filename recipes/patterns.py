"""Check a regular expression of a recipe: it must be small enough to compile, and match something."""

import re
from math import prod

MOST_REPEATS = 10_000
"""Bound of the product of all repeat counts: a nested repeat unrolls into as many nodes."""
_COUNT = re.compile(r"\{(\d*)(?:,(\d*))?\}")
_RECURSION = re.compile(r"\(\?(?:R|&|P>|[+-]?\d)")


def check_pattern(pattern: str) -> None:
    """Raise ValueError, with what to do, for a regular expression that cannot be used to mask a text."""
    import regex

    counts = [int(number) for pair in _COUNT.findall(pattern) for number in pair if number]
    if prod(max(count, 1) for count in counts) > MOST_REPEATS or _RECURSION.search(pattern) is not None:
        raise ValueError(f"the pattern {pattern!r} repeats too much: use smaller counts and no recursion")
    try:
        empty = regex.compile(pattern).search("") is not None
    except (regex.error, RecursionError, MemoryError) as error:
        raise ValueError(f"the pattern {pattern!r} is no regular expression: {error}") from None
    if empty:
        raise ValueError(f"the pattern {pattern!r} matches an empty text: it would mask everything")
