"""The rounds side by side, as a table: F1 per benchmark with its interval, choices, teacher, gate. It asks nothing."""

import json
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from wizloop.console.words import TASKS
from wizloop.store.display import shown
from wizloop.store.evaluations import Evaluation
from wizloop.store.overview import RoundSummary

LEAST_WIDTH = 80
"""Columns in which a table keeps its words and figures whole."""


def rounds_table(found: Sequence[RoundSummary]) -> Table:
    """A row for each round and benchmark, dev first; a column for each task that was measured."""
    tasks = [task for task in TASKS if any(row.task == task for summary in found for row in summary.evaluations)]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for head in ("round", "F1 on", *tasks, "taught", "gate"):
        table.add_column(plain(head), justify="right" if head == "round" else "left", overflow="fold")
    for summary in found:
        ends = (_taught(summary), gate_word(summary))
        for at, (benchmark, by_task) in enumerate(_by_benchmark(summary)):
            figures = [figure(by_task.get(task)) for task in tasks]
            first = (str(summary.round.number), *ends) if at == 0 else ("", "", "")
            table.add_row(*map(plain, (first[0], benchmark, *figures, *first[1:])))
    return table


def console_for_tables() -> Console:
    """Stdout as wide as the terminal, and 80 columns at least: a line that wraps is better than half a figure."""
    console = Console()
    return console if console.width >= LEAST_WIDTH else Console(width=LEAST_WIDTH)


def rounds_notes(found: Sequence[RoundSummary]) -> list[str]:
    """What a reader of the table needs: what the figures are, and why a round made no champion."""
    measured = any(summary.evaluations for summary in found)
    figures = "F1 in per cent at the threshold that dev chose, with its 95 % interval; taught: the teacher's answers."
    nothing = "no round has been measured yet: `wizloop status` tells how far the run is"
    return [
        figures if measured else nothing,
        *(
            f"round {summary.round.number}, {gate_word(summary)}: {summary.round.gate_reason}"
            for summary in found
            if summary.round.ended_at is not None and not summary.round.passed and summary.round.gate_reason
        ),
    ]


def figure(row: Evaluation | None) -> str:
    """F1 in points with its interval, or a dash: `83.1 (78-88)`."""
    if row is None:
        return "-"
    metrics = json.loads(row.metrics_json)
    if metrics.get("f1") is None:
        return "-"
    interval = ""
    if metrics.get("low") is not None and metrics.get("high") is not None:
        interval = f" ({100 * metrics['low']:.0f}-{100 * metrics['high']:.0f})"
    return f"{100 * metrics['f1']:.1f}{interval}"


def gate_word(summary: RoundSummary) -> str:
    """What the gate let the challenger do, in a word; its reason is longer than a column."""
    if summary.round.ended_at is None:
        return "..."
    return {True: "passed", False: "held", None: "none"}[summary.round.passed]


def exports_of(found: Sequence[RoundSummary]) -> list[str]:
    """Where the exports are, relative to the workspace, in order."""
    return [export.path for summary in found for export in summary.exports]


def plain(text: str, limit: int = 400) -> Text:
    """Text that is content and never markup, with nothing in it that drives a terminal."""
    return Text(shown(text, limit))


def aligned(rows: Sequence[Sequence[Text]], right: frozenset[int] = frozenset()) -> Text:
    """Rows of cells as one text with a column for each, two cells apart; the columns named in `right` end together.

    Rich's own table, which is free to wrap and to fold, takes longer to lay out than a key may take.
    """
    widths = [max(cell.cell_len for cell in column) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        line = Text()
        for at, (cell, width) in enumerate(zip(row, widths, strict=True)):
            gap = " " * (width - cell.cell_len)
            line.append_text(Text.assemble(gap, cell) if at in right else Text.assemble(cell, gap)).append("  ")
        line.rstrip()
        lines.append(line)
    return Text("\n", no_wrap=True).join(lines)


def _by_benchmark(summary: RoundSummary) -> list[tuple[str, dict[str, Evaluation]]]:
    """The challenger's evaluations by benchmark and task; one empty row where nothing was measured."""
    names = sorted({row.benchmark for row in summary.evaluations}, key=lambda name: (name != "dev", name))
    rows = [(name, {row.task: row for row in summary.evaluations if row.benchmark == name}) for name in names]
    return rows or [("-", {})]


def _taught(summary: RoundSummary) -> str:
    """Teacher's answers, and what they cost where they did."""
    return f"{summary.answers:,}" + (f", ${summary.spent_micro / 1e6:.2f}" if summary.spent_micro else "")
