"""A promised error: the cut below which at most a share of what is harmful is let through, and what lies between.

The cut is an order statistic of the harmful rows of dev, chosen by their number alone, so that the bound needs no
assumption but that they are drawn as what will be judged: the umbrella algorithm of Tong, Feng and Li,
"Neyman-Pearson classification algorithms and NP receiver operating characteristics", 2018, proposition 1. Pure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, log
from typing import Any, Final, Literal

from wizloop.loop.measures.operating_points import share

Decision = Literal["pass", "defer", "block"]

RISK: Final = 0.05
"""The share of dev sets whose cut may break its promise."""


@dataclass(frozen=True)
class Cut:
    """The cut for a promise, and what dev says of it."""

    below: float
    """Raw probability below which a row is let through; 0 lets nothing through."""
    n: int
    """Harmful rows of dev; rows of one prompt count once, by the lowest of them."""
    missing: int
    """Harmful rows that dev lacks for any cut."""
    misses: int
    """Harmful rows below the cut."""
    bound: float | None
    """Upper 95 % bound of the miss rate; None without a cut."""


def upper_bound(misses: int, n: int) -> float:
    """Return the one-sided 95 % upper bound of a rate (Clopper and Pearson 1934); 1 for n = 0."""
    from scipy.stats import beta

    return 1.0 if misses >= n else float(beta.ppf(1 - RISK, misses + 1, n - misses))


def rows_needed(promise: float) -> int:
    """Return the least number of harmful rows that can show a miss rate of at most `promise`: 59 for 5 %, 299 for 1 %.

    It is the least n for which (1 - promise) ** n is at most RISK.
    """
    return ceil(log(RISK) / log(1 - promise) - 1e-12)


def misses_allowed(n: int, promise: float) -> int | None:
    """Return the most misses in n rows whose upper bound is at most `promise`; None if n is too small for any."""
    from scipy.stats import binom

    if n < rows_needed(promise):
        return None
    most = int(binom.ppf(RISK, n, promise))
    return most if binom.cdf(most, n, promise) <= RISK else most - 1


def cut_for(harmful: Sequence[float], others: Sequence[float], promise: float) -> Cut:
    """Return the highest cut that keeps a promise, midway between two scores; without enough rows one of 0.

    Harmful rows of the same score lie on the same side of it. `others` are scores that only show where a gap is.
    """
    allowed = misses_allowed(len(harmful), promise)
    if allowed is None:
        return Cut(0.0, len(harmful), rows_needed(promise) - len(harmful), 0, None)
    first = sorted(harmful)[allowed]
    before = max((p for p in (0.0, *harmful, *others) if p < first), default=first)
    between = (before + first) / 2
    below = between if before < between else first
    misses = sum(p < below for p in harmful)
    return Cut(below, len(harmful), 0, misses, upper_bound(misses, len(harmful)))


def cut_of_prompts(rows: Sequence[tuple[str | None, bool, float]], promise: float) -> Cut:
    """Return the cut of rows of (prompt, harmful, probability): those of one prompt count once, by the lowest.

    They are not independent; None is a prompt of its own.
    """
    lowest: dict[str | int, float] = {}
    for at, (prompt, bad, p) in enumerate(rows):
        if bad:
            name = at if prompt is None else prompt
            lowest[name] = min(p, lowest.get(name, p))
    return cut_for(list(lowest.values()), [p for _, bad, p in rows if not bad], promise)


def decide(p: float | None, threshold: float, below: float) -> Decision:
    """Return what is done with a row: blocked from the threshold on, let through below the cut, else deferred.

    An answer that cannot be read is deferred.
    """
    if p is None:
        return "defer"
    if p >= threshold:
        return "block"
    return "pass" if p < below else "defer"


def measured(harmful: Sequence[bool], decisions: Sequence[Decision], promise: float) -> dict[str, Any]:
    """Return the shares of harmful rows that were let through and of all rows that were deferred.

    `over` says whether the miss rate is significantly above the promise (binomial test, one-sided, 5 %).
    """
    of_harmful = [decision for bad, decision in zip(harmful, decisions, strict=True) if bad]
    misses = share(of_harmful.count("pass"), len(of_harmful))
    deferred = share(list(decisions).count("defer"), len(decisions))
    return {
        "promise": promise,
        "misses": misses,
        "deferred": deferred,
        "over": is_over(misses["k"], misses["n"], promise),
    }


def is_over(misses: int, n: int, promise: float) -> bool:
    """Return whether a miss rate is significantly above a promise: binomial test, one-sided, 5 %."""
    from scipy.stats import binom

    return bool(n and binom.sf(misses - 1, n, promise) < RISK)


def by_group(harmful: Mapping[str, Sequence[Decision]], promise: float) -> dict[str, dict[str, Any]]:
    """Return, for each group of harmful rows (category, policy), its misses, or how many rows it lacks to tell."""
    needed = rows_needed(promise)
    found: dict[str, dict[str, Any]] = {}
    for name, decisions in harmful.items():
        n, misses = len(decisions), list(decisions).count("pass")
        told = n >= needed
        found[name] = {
            "n": n,
            "missing": 0 if told else needed - n,
            "misses": misses if told else None,
            "bound": upper_bound(misses, n) if told else None,
        }
    return found
