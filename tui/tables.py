"""The rounds side by side, as a table: F1 per benchmark with its interval, choices, teacher, gate. It asks nothing."""

import json
from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from wizloop.store.display import shown
from wizloop.store.evaluations import Evaluation
from wizloop.store.overview import RoundSummary


def rounds_table(found: Sequence[RoundSummary]) -> Table:
    """One row a round; a column for each benchmark and task, dev first."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    measured = _columns(found)
    heads = [_head(benchmark, task) for benchmark, task in measured]
    for head in ("round", *heads, "chosen", "teacher", "gate"):
        table.add_column(plain(head), justify="right" if head == "round" else "left")
    for summary in found:
        by_name = {(row.benchmark, row.task): row for row in summary.evaluations}
        figures = [figure(by_name.get(name)) for name in measured]
        answers = f"{summary.answers:,}" + (f", ${summary.spent_micro / 1e6:.2f}" if summary.spent_micro else "")
        chosen = f"{sum(summary.selected.values()):,}"
        table.add_row(*map(plain, (str(summary.round.number), *figures, chosen, answers, gate_word(summary))))
    return table


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
    """The gate's decision in a word; its reason is longer than a column."""
    if summary.round.ended_at is None:
        return "..."
    return {True: "passed", False: "stayed out", None: "no challenger"}[summary.round.passed]


def exports_of(found: Sequence[RoundSummary]) -> list[str]:
    """Where the exports are, relative to the workspace, in order."""
    return [export.path for summary in found for export in summary.exports]


def plain(text: str, limit: int = 400) -> Text:
    """Text that is content and never markup, with nothing in it that drives a terminal."""
    return Text(shown(text, limit))


def _columns(found: Sequence[RoundSummary]) -> list[tuple[str, str]]:
    names = {(row.benchmark, row.task) for summary in found for row in summary.evaluations}
    return sorted(names, key=lambda name: (name[0] != "dev", *name))


def _head(benchmark: str, task: str) -> str:
    return f"{benchmark} F1" if task == "request" else f"{benchmark} {task} F1"
