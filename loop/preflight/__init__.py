"""Checks and plan of a run, made before it starts."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Check:
    """Result of one check."""

    name: str
    ok: bool
    found: str
    advice: str | None = None
    """What to do; a check that is ok may have advice too."""
