"""The table of rounds: F1 per benchmark with its interval beside the baselines', gate. Also text helpers. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from wizloop.console import answering, by_policy, chosen, label_gains, operating
from wizloop.console.standing import heading, of_champion
from wizloop.console.words import TASKS
from wizloop.store.checked_teacher import Checked, from_table
from wizloop.store.display import shown
from wizloop.store.evaluations import Evaluation
from wizloop.store.overview import BaseSummary, RoundSummary, Summary

LEAST_WIDTH = 80
"""Columns that a table needs to keep its words and figures whole."""
_BASELINES = (
    "base: before anything was taught; all harmful: a guard that calls everything harmful, every response a refusal; "
    "TF-IDF: with logistic regression, on the labels that the round's guard was taught."
)


def rounds_table(found: Sequence[RoundSummary], base: BaseSummary | None = None) -> Table:
    """Build a table with a row per round and benchmark, dev first, and a column per measured task.

    With the base, it comes first, and below each test set are the baselines that were measured on it.
    """
    every: list[Summary] = [*([base] if base is not None and base.evaluations else []), *found]
    tasks = [task for task in TASKS if any(row.task == task for summary in every for row in summary.evaluations)]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for head in ("round", "F1 on", *tasks, "taught", "gate"):
        table.add_column(plain(head), justify="right" if head == "round" else "left", overflow="fold")
    for summary in every:
        number, *ends = summary.name, _taught(summary), gate_word(summary)
        for benchmark, by_task in _by_benchmark(summary):
            figures = [figure(by_task.get(task)) for task in tasks]
            table.add_row(*map(plain, (number, benchmark, *figures, *ends)))
            number, *ends = "", "", ""
            for name, rows in _by_label(by_task):
                table.add_row(
                    *map(plain, ("", f"  {name}", *(figure_of(rows.get(task, {})) for task in tasks), "", ""))
                )
            for name, rows in baselines_on(summary, benchmark) if base is not None else ():
                table.add_row(
                    *map(plain, ("", f"  {name}", *(figure_of(rows.get(task, {})) for task in tasks), "", ""))
                )
        for name, rows in _exported(summary):
            table.add_row(*map(plain, ("", name, *(figure_of(rows.get(task, {})) for task in tasks), "", "")))
    return table


def baselines_on(summary: Summary, benchmark: str) -> list[tuple[str, Mapping[str, Mapping[str, float | None]]]]:
    """Return the baselines that a round measured on a test set: heading, and figures by task.

    "All harmful" is the same in every round, so the base alone has it. Dev has some only without a test set.
    """
    if benchmark == "dev" and any(row.benchmark != "dev" for row in summary.evaluations):
        return []
    found = summary.record.get("baselines", {})
    wanted = ("all_harmful",) if isinstance(summary, BaseSummary) else ("tfidf", *answering.NAMES)
    named = [(name, found[name].get(benchmark, {})) for name in wanted if name in found]
    return [(heading(name, by_task), by_task) for name, by_task in named]


def console_for_tables() -> Console:
    """Return a console on stdout at least 80 columns wide: a wrapped line is better than a truncated figure."""
    console = Console()
    return console if console.width >= LEAST_WIDTH else Console(width=LEAST_WIDTH)


def rounds_notes(found: Sequence[RoundSummary]) -> list[str]:
    """Explain the table: what its figures are, and why a round has no new champion."""
    measured = any(summary.evaluations for summary in found)
    figures = "F1 in percent at the threshold chosen on dev, with its 95 % interval; taught: the teacher's answers."
    nothing = "no round is measured yet: `wizloop status` shows the progress of the run"
    return [
        figures if measured else nothing,
        *([_BASELINES] if any(summary.record.get("baselines") for summary in found) else []),
        *_operating(found),
        *_ways(found),
        *(f"teacher {one.sentence()}" for summary in found for one in _checked(summary)),
        *(
            f"round {summary.round.number}, {gate_word(summary)}: {summary.round.gate_reason}"
            for summary in found
            if summary.round.ended_at is not None and not summary.round.passed and summary.round.gate_reason
        ),
        *(f"round {summary.name}: {line}" for summary in found for line in chosen.lines(summary.record)),
        *(
            f"round {summary.round.number}, {export.format} failed: {export.failed}"
            for summary in found
            for export in summary.exports
            if export.failed is not None
        ),
        *label_gains.of_newest([summary.round for summary in found]),
        *by_policy.of_newest([summary.round for summary in found]),
        *of_champion([summary.round for summary in found]),
    ]


def _checked(summary: RoundSummary) -> Iterable[Checked]:
    """Return the teachers that round 0 measured."""
    return from_table(summary.record.get("teacher_check", {}).get("teachers", {})).values()


def _operating(found: Sequence[RoundSummary]) -> list[str]:
    """Say what the last measured round has of an operating point and of a promised error."""
    measured = [summary for summary in found if summary.evaluations]
    return [f"round {summary.name}, {said}" for summary in measured[-1:] for said in operating_lines(summary)]


def _ways(found: Sequence[RoundSummary]) -> list[str]:
    """Say how the last measured round's guard answers in the ways that give no verdict."""
    measured = [summary for summary in found if summary.evaluations]
    return [
        f"round {summary.name}, {said}"
        for summary in measured[-1:]
        for said in answering.lines(summary.record, summary.speeds)
    ]


def operating_lines(summary: Summary) -> list[str]:
    """Return what dev says of a guard's operating point and promise, and what each set says of the promise."""
    read = summary.record if isinstance(summary, BaseSummary) else summary.record.get("evaluate", {})
    said = operating.sentences(read)
    return said + list(operating.measured({f"{row.benchmark} {row.task}": row.metrics for row in summary.evaluations}))


def figure(row: Evaluation | None) -> str:
    """Format an evaluation's F1; see `figure_of`."""
    return figure_of({} if row is None else row.metrics)


def figure_of(metrics: Mapping[str, float | None]) -> str:
    """Format F1 in percent with its interval, `83.1 (78-88)`, or a dash."""
    f1, low, high = (metrics.get(name) for name in ("f1", "low", "high"))
    if f1 is None:
        return "-"
    interval = "" if low is None or high is None else f" ({100 * low:.0f}-{100 * high:.0f})"
    return f"{100 * f1:.1f}{interval}"


def gate_word(summary: Summary) -> str:
    """Return the gate's decision as one word; empty for the base, which passes none."""
    if isinstance(summary, BaseSummary):
        return ""
    if summary.round.ended_at is None:
        return "..."
    return {True: "passed", False: "held", None: "none"}[summary.round.passed]


def exports_of(found: Sequence[RoundSummary]) -> list[str]:
    """Return the paths of all exports that did not fail, relative to the workspace, in order."""
    return [export.path for summary in found for export in summary.exports if export.failed is None]


def plain(text: str, limit: int = 400) -> Text:
    """Return sanitized text that is content, never markup."""
    return Text(shown(text, limit))


def aligned(rows: Sequence[Sequence[Text]], right: frozenset[int] = frozenset()) -> Text:
    """Lay out rows of cells in columns two spaces apart; columns in `right` are right-aligned.

    Rich's own table can wrap and fold, but laying it out takes longer than the response to a key may.
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


def _by_benchmark(summary: Summary) -> list[tuple[str, dict[str, Evaluation]]]:
    """Group a summary's evaluations by benchmark and task; one empty row if there are none."""
    names = sorted({row.benchmark for row in summary.evaluations}, key=lambda name: (name != "dev", name))
    rows = [(name, {row.task: row for row in summary.evaluations if row.benchmark == name}) for name in names]
    return rows or [("-", {})]


def _by_label(by_task: Mapping[str, Evaluation]) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the figures by task of each label, of tasks with more than two."""
    found: dict[str, dict[str, Any]] = {}
    for task, row in by_task.items():
        for label, one in (row.metrics.get("by_label") or {}).items():
            found.setdefault(label, {})[task] = one | {"low": one["f1_low"], "high": one["f1_high"]}
    return list(found.items())


def _exported(summary: Summary) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the figures by task of each lossy export, by benchmark: `dev, mlx-4bit`."""
    return [
        (f"{benchmark}, {export.format}{' (failed)' if export.failed else ''}", by_task)
        for export in (() if isinstance(summary, BaseSummary) else summary.exports)
        for benchmark, by_task in sorted(export.parity.get("metrics", {}).items(), key=lambda one: one[0] != "dev")
    ]


def _taught(summary: Summary) -> str:
    """Format the number of teachers' answers, and their cost if not zero; empty for the base."""
    if isinstance(summary, BaseSummary):
        return ""
    return f"{summary.answers:,}" + (f", ${summary.spent_micro / 1e6:.2f}" if summary.spent_micro else "")
