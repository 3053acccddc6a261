"""The section of a model card on the categories that a guard names."""

from collections.abc import Iterator, Mapping
from typing import Any

from wizloop.console.category_figures import by_category, in_order, overall

_ABOUT = (
    "What it blocks it also puts into categories. Macro-F1 is the mean over the categories that occur in a set, exact",
    "match the share of the rows with all and only the right ones; both and each F1 in percent, with 95 % intervals.",
)
_USAGE = (
    "To ask for them, append to the answer block of the final verdicts a line `Categories:` and then, for one category",
    "after the other, a line with its name and a colon: the probability is that of ` yes` against ` no` as the next",
    "token, and the likelier word stays in the prompt. A trace names them itself, in a last line `Categories: a, b`.",
)


def section(found: Mapping[str, Any], thresholds: Mapping[str, float], *, rounded: bool) -> Iterator[str]:
    """Yield the lines of the section; none for a guard without categories. Names are shown as code."""
    if not thresholds:
        return
    yield from (
        "## Categories",
        "",
        *_ABOUT,
        *(("They are those of the guard before its weights were rounded.",) if rounded else ()),
        "",
    )
    yield from ("| set | category | rows | F1 (95 % interval) |", "| --- | --- | --- | --- |")
    for benchmark, figures in in_order(found):
        for name, value in overall(figures):
            yield f"| {_code(benchmark)} | {name} | {figures['n']} | {value} |"
        for name, value, n in by_category(figures):
            yield f"| {_code(benchmark)} | {_code(name)} | {n} | {value} |"
    yield from ("", *_USAGE, "")
    yield from (f"- {_code(name)}: from a probability of {cut:.3f}" for name, cut in thresholds.items())
    yield ""


def _code(text: str) -> str:
    clean = "".join(c if c.isprintable() and c not in "`|" else " " for c in text)
    return f"`{clean}`"
