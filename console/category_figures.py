"""Figures of categories in words, from what a round recorded: nothing for a guard without categories. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table

from wizloop.console.tables import figure_of, plain
from wizloop.store.overview import BaseSummary, RoundSummary, Summary

MACRO, EXACT = "macro-F1", "exact match"
NOTE = (
    "Categories: F1 of each in percent, on the rows whose labels say which categories they are in; macro-F1 is the "
    "mean over those that occur; exact match is the share of the rows with all and only the right ones."
)
Figures = Mapping[str, Any]
"""The figures of one benchmark."""


def of_summary(summary: Summary) -> list[tuple[str, Figures]]:
    """Return the figures of a round by benchmark, dev first."""
    return in_order(summary.record.get("categories", {}))


def of_exports(summary: Summary) -> list[tuple[str, Figures]]:
    """Return the figures of each lossy export of a round, by benchmark: `dev, mlx-4bit`."""
    return [
        (f"{benchmark}, {export.format}{' (failed)' if export.failed else ''}", figures)
        for export in (() if isinstance(summary, BaseSummary) else summary.exports)
        for benchmark, figures in in_order(export.parity.get("categories", {}))
    ]


def in_order(found: Mapping[str, Figures]) -> list[tuple[str, Figures]]:
    """Return figures by benchmark, dev first."""
    return sorted(found.items(), key=lambda one: (one[0] != "dev", one[0]))


def overall(found: Figures) -> list[tuple[str, str]]:
    """Return macro-F1 and the share of exact matches, each in percent with its interval."""
    return [(MACRO, _percent(found, "macro_f1")), (EXACT, _percent(found, "exact"))]


def by_category(found: Figures) -> list[tuple[str, str, int]]:
    """Return each category with its F1 in percent and its interval, and the rows that are in it."""
    return [(name, _percent(one, "f1"), one["n"]) for name, one in found.get("by_category", {}).items()]


def all_of(found: Figures) -> list[tuple[str, str, int]]:
    """Return macro-F1, the share of exact matches and each category, with their rows."""
    return [*((name, value, found["n"]) for name, value in overall(found)), *by_category(found)]


def lines(found: Mapping[str, Figures]) -> Iterator[str]:
    """Yield a line for each benchmark, `dev: macro-F1 61.2 (50-70), exact match 55.0 (40-69) of 40`, and category."""
    for benchmark, figures in in_order(found):
        yield f"{benchmark}: {', '.join(' '.join(one) for one in overall(figures))} of {figures['n']:,}"
        for name, f1, n in by_category(figures):
            yield f"  {name}: F1 {f1}, {n:,} rows"


def in_short(summaries: Sequence[Summary]) -> str:
    """Return the newest figures in one line, on test or else on dev; empty if no round has any."""
    for summary in reversed(summaries):
        for benchmark, figures in reversed(of_summary(summary)):
            return f"categories on {benchmark}: {', '.join(' '.join(one) for one in overall(figures))}"
    return ""


def table(found: Sequence[RoundSummary], base: BaseSummary | None = None) -> Table | None:
    """Build a table with a row per round, benchmark and category; None if no round measured any."""
    every: list[Summary] = [*([] if base is None else [base]), *found]
    if not any(of_summary(summary) for summary in every):
        return None
    made = Table(box=None, pad_edge=False, header_style="bold")
    for head in ("round", "F1 of categories on", "category", "F1", "rows"):
        made.add_column(plain(head), justify="right" if head in ("round", "rows") else "left", overflow="fold")
    for summary in every:
        number = summary.name
        for benchmark, figures in (*of_summary(summary), *of_exports(summary)):
            for name, value, n in all_of(figures):
                made.add_row(*map(plain, (number, benchmark, name, value, f"{n:,}")))
                number, benchmark = "", ""
    return made


def _percent(found: Figures, name: str) -> str:
    return figure_of({"f1": found.get(name), "low": found.get(f"{name}_low"), "high": found.get(f"{name}_high")})
