"""Tables of an evaluation for a terminal of 80 columns; a benchmark's name is never cut.

`evaluation.report` computes and formats the figures.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.table import Table

from wizloop.console import by_policy, category_figures, operating
from wizloop.console.tables import console_for_tables, plain
from wizloop.loop.evaluation.answered_rows import ErrorCount
from wizloop.loop.evaluation.report import (
    CONFIDENCE_HEADS,
    DASH,
    ERROR_HEADS,
    GROUP_HEADS,
    LABEL_HEADS,
    PROMISE_HEADS,
    RECALL_HEADS,
    averages,
    confidence_lines,
    error_lines,
    f1,
    group_lines,
    interval,
    label_lines,
    outputs,
    promise_lines,
    rate_lines,
    recall_lines,
)
from wizloop.loop.evaluation.scoring import COUNTINGS, BenchmarkResult
from wizloop.loop.words import TASKS

MOST_GROUPS = 12
"""Groups of one benchmark to print; a report and --json have all."""
_WORDS = ("benchmark", "task", "label", "group", "average F1", "error", "mostly")
NAME_WIDTH = 24
"""Columns of a benchmark's name; a longer one wraps."""


def show(found: Sequence[BenchmarkResult], notes: Mapping[str, Any], errors: Sequence[ErrorCount] = ()) -> None:
    """Print F1 counted in three ways, error rates, groups, confidence and kinds of errors if any, and averages."""
    console = console_for_tables()
    groups = [_groups(one) for one in found if one.by_group]
    means = [_averages(each, name) for name, each in outputs(found).items()]
    for table in (_f1(found), _rates(found), *_labels(found), *groups, *_confidence(found), *_operating(found), *means):
        console.print(table)
        console.print()
    if errors:
        console.print(errors_table(errors))
        console.print()
    for one in found:
        for line in operating.by_category(f"{one.name} {one.task}", one.promise or {}):
            console.print(plain(line, 2000))
    for line in by_policy.lines(notes.get("by_policy", {})):
        console.print(plain(line))
    for line in category_figures.lines(notes.get("categories", {})):
        console.print(plain(line))
    if "categories" in notes:
        console.print(plain(category_figures.NOTE, 2000))
    if reader := notes.get("reader"):
        console.print(plain(f"Verdicts are read by the reader {reader}."))
    for task, read in notes.get("reading", {}).items():
        console.print(plain(_reading(task, read)))
    for said in operating.sentences(notes.get("operating", {})):
        console.print(plain(said, 2000))
    if speed := notes.get("speed"):
        console.print(plain(operating.speed(speed), 2000))
    if differing := sum(notes.get("read_otherwise", {}).values()):
        verdicts = "1 verdict differs" if differing == 1 else f"{differing:,} verdicts differ"
        console.print(plain(f"{verdicts} with the other --reader."))


def _reading(task: str, read: Mapping[str, Any]) -> str:
    """Say from which probability a task's verdict is the positive label."""
    scale = "" if read["scale"] == "raw" else f", Platt-scaled (raw {read['raw']:.3f})"
    how = "direct answer" if read["source"] == "direct" else "mean over the traces"
    return f"{task}: positive from {read['threshold']:.3f} of the {how}{scale}"


def _f1(found: Sequence[BenchmarkResult]) -> Table:
    rows = []
    for one in found:
        parsed = DASH if one.parsed.rate is None else f"{100 * one.parsed.rate:.1f} %"
        scores = (f1(getattr(one, counting), with_interval=False) for counting in COUNTINGS)
        rows.append((one.name, one.task, f"{one.n:,}", parsed, *scores))
    return _table(found, ("rows", "parsed", "official", "strict", "parsed only"), rows)


def _rates(found: Sequence[BenchmarkResult]) -> Table:
    lines = zip(found, rate_lines(found), strict=True)
    rows = [(name, task, interval(one.strict), *rates) for one, (name, task, *rates) in lines]
    return _table(found, ("strict 95 %", "over-refusal", "let through"), rows)


def _labels(found: Sequence[BenchmarkResult]) -> list[Table]:
    lines = label_lines(found)
    return [_table(found, LABEL_HEADS[2:], lines)] if lines else []


def _groups(one: BenchmarkResult) -> Table:
    lines = list(group_lines(one))
    rows = lines[:MOST_GROUPS]
    if len(lines) > MOST_GROUPS:
        rows.append((f"and {len(lines) - MOST_GROUPS:,} more",))
    table = _headed(GROUP_HEADS, rows, title=f"{one.name}, {one.task}, by group")
    table.columns[0].overflow = "fold"
    return table


def _confidence(found: Sequence[BenchmarkResult]) -> list[Table]:
    lines = confidence_lines(found)
    if not lines:
        return []
    table = _table(found, CONFIDENCE_HEADS[2:], lines)
    # Three figures with intervals fit into 80 columns only this close together.
    table.collapse_padding = True
    return [table]


def _operating(found: Sequence[BenchmarkResult]) -> list[Table]:
    """Build the tables of recall at a false-positive rate, and of what a promised error lets through and defers."""
    both = ((RECALL_HEADS, recall_lines(found)), (PROMISE_HEADS, promise_lines(found)))
    return [_table(found, heads[2:], lines) for heads, lines in both if lines]


def errors_table(errors: Sequence[ErrorCount]) -> Table:
    """Build a table of the errors by kind."""
    table = _headed(ERROR_HEADS, error_lines(errors))
    table.columns[0].overflow = table.columns[-1].overflow = "fold"
    return table


def _averages(found: Sequence[BenchmarkResult], output: str | None) -> Table:
    rows = []
    for counting, figures in averages(found).items():
        values = (*(figures["by_task"].get(task) for task in TASKS), figures["mean_of_tasks"])
        cells = (DASH if value is None else f"{value:.2f}" for value in values)
        rows.append((counting.replace("_", " "), *cells))
    return _headed(("average F1", *TASKS, "mean of the tasks"), rows, title=output)


def _table(found: Sequence[BenchmarkResult], heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """Build a table of benchmark, task and `heads`; long names wrap to leave room for the figures."""
    table = _headed(("benchmark", "task", *heads), rows)
    longest = max((len(plain(one.name)) for one in found), default=0)
    name, task = table.columns[:2]
    name.no_wrap, task.no_wrap = longest <= NAME_WIDTH, True
    if longest > NAME_WIDTH:
        name.width, name.overflow = NAME_WIDTH, "fold"
    return table


def _headed(heads: Sequence[str], rows: Iterable[Sequence[str]], *, title: str | None = None) -> Table:
    """Build a table with words aligned left and figures right."""
    caption = None if title is None else plain(title)
    table = Table(box=None, pad_edge=False, header_style="bold", title=caption, title_justify="left")
    for head in heads:
        table.add_column(head, justify="left" if head in _WORDS else "right")
    for row in rows:
        table.add_row(*map(plain, row))
    return table
