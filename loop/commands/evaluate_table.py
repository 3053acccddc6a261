"""What an evaluation came to, on a terminal: tables that fit 80 columns and never cut a benchmark's name.

What the figures are and how one is written is `evaluation.report`'s.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from wizloop.console.tables import console_for_tables, plain
from wizloop.loop.evaluation.report import (
    CONFIDENCE_HEADS,
    DASH,
    GROUP_HEADS,
    averages,
    confidence_lines,
    f1,
    group_lines,
    interval,
    rate_lines,
)
from wizloop.loop.evaluation.scoring import COUNTINGS, BenchmarkResult
from wizloop.loop.words import TASKS

MOST_GROUPS = 12
"""Groups of one benchmark that are shown; a report and --json have all."""
_WORDS = ("benchmark", "task", "group", "average F1")
NAME_WIDTH = 24
"""Columns that a benchmark's name may take; a longer one goes on in the next line."""


def show(found: Sequence[BenchmarkResult], notes: Mapping[str, Any]) -> None:
    """Print the F1 in three ways of counting, what it cost each side, groups and probabilities if any, the averages."""
    console = console_for_tables()
    groups = [_groups(one) for one in found if one.by_group]
    for table in (_f1(found), _rates(found), *groups, *_confidence(found), _averages(found)):
        console.print(table)
        console.print()
    if differing := sum(notes.get("read_otherwise", {}).values()):
        verdicts = "1 verdict would be another" if differing == 1 else f"{differing:,} verdicts would be others"
        console.print(plain(f"{verdicts} with the other --reader."))


def _f1(found: Sequence[BenchmarkResult]) -> Table:
    table = _table(found, "rows", "parsed", "official", "strict", "parsed only")
    for one in found:
        parsed = DASH if one.parsed.rate is None else f"{100 * one.parsed.rate:.1f} %"
        scores = (f1(getattr(one, counting), with_interval=False) for counting in COUNTINGS)
        table.add_row(*map(plain, (one.benchmark, one.task, f"{one.n:,}", parsed, *scores)))
    return table


def _rates(found: Sequence[BenchmarkResult]) -> Table:
    table = _table(found, "strict 95 %", "over-refusal", "let through")
    for one, (name, task, *rates) in zip(found, rate_lines(found), strict=True):
        table.add_row(*map(plain, (name, task, interval(one.strict), *rates)))
    return table


def _groups(one: BenchmarkResult) -> Table:
    """The groups of one benchmark and task, the first so many of them."""
    lines = list(group_lines(one))
    table = _headed(*GROUP_HEADS, title=f"{one.benchmark}, {one.task}, by group")
    table.columns[0].overflow = "fold"
    for line in lines[:MOST_GROUPS]:
        table.add_row(*map(plain, line))
    if len(lines) > MOST_GROUPS:
        table.add_row(plain(f"and {len(lines) - MOST_GROUPS:,} more"))
    return table


def _confidence(found: Sequence[BenchmarkResult]) -> list[Table]:
    lines = confidence_lines(found)
    table = _table(found, *CONFIDENCE_HEADS[2:])
    for line in lines:
        table.add_row(*map(plain, line))
    return [table] if lines else []


def _averages(found: Sequence[BenchmarkResult]) -> Table:
    table = _headed("average F1", *TASKS, "mean of the tasks")
    for counting, figures in averages(found).items():
        by_task = [figures["by_task"].get(task) for task in TASKS]
        told = [DASH if value is None else f"{value:.2f}" for value in (*by_task, figures["mean_of_tasks"])]
        table.add_row(*map(plain, (counting.replace("_", " "), *told)))
    return table


def _table(found: Sequence[BenchmarkResult], *heads: str) -> Table:
    """Benchmark and task, then figures under `heads`, which make room where there is too little."""
    table = _headed("benchmark", "task", *heads)
    longest = max((len(plain(one.benchmark)) for one in found), default=0)
    name, task = table.columns[:2]
    name.no_wrap, task.no_wrap = longest <= NAME_WIDTH, True
    if longest > NAME_WIDTH:
        name.width, name.overflow = NAME_WIDTH, "fold"
    return table


def _headed(*heads: str, title: str | None = None) -> Table:
    """Words are at the left, figures at the right."""
    named = None if title is None else plain(title)
    table = Table(box=None, pad_edge=False, header_style="bold", title=named, title_justify="left")
    for head in heads:
        table.add_column(head, justify="left" if head in _WORDS else "right")
    return table
