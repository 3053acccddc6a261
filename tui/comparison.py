"""The rounds side by side, and one round in full, as text. It asks nothing and reads no file."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from wizloop.store.evaluations import Evaluation
from wizloop.store.overview import RoundSummary
from wizloop.tui.dialogs import paragraphs
from wizloop.tui.tables import figure, gate_word, plain

_TASKS = ("request", "completion", "response")


def side_by_side(rounds: Sequence[RoundSummary], chosen: int) -> Table:
    """F1 of each benchmark and task, a column a round: the figure, and the change from the round before."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column(plain("F1 on"))
    for at, summary in enumerate(rounds):
        name = f"round {summary.round.number}"
        table.add_column(Text(f">{name}<" if at == chosen else f" {name} ", "reverse" if at == chosen else ""))
    for benchmark, task in _measured(rounds):
        values = [_f1(summary, benchmark, task) for summary in rounds]
        cells = [_with_change(values[at], values[at - 1] if at else None) for at in range(len(values))]
        table.add_row(*map(plain, (f"{benchmark} {task}", *cells)))
    for name, of in (("gate", gate_word), ("picked", _picked), ("taught", _taught), ("spent", _spent)):
        table.add_row(*map(plain, (name, *(of(summary) for summary in rounds))))
    return table


def in_brief(summary: RoundSummary) -> Text:
    """One round: the gate's reason, the intervals, what was picked and exported."""
    reason = summary.round.gate_reason or "the round is not over yet"
    intervals = [f"{row.benchmark} {row.task}: {figure(row)} of {row.n:,}" for row in _in_order(summary.evaluations)]
    picked = ", ".join(f"{n} {reason.replace('_', ' ')}" for reason, n in summary.selected.items())
    return paragraphs(
        (f"Round {summary.round.number}: {gate_word(summary)}", reason),
        ("F1 with 95 % intervals", "\n".join(intervals)),
        ("Picked", picked),
        ("Exports", "\n".join(export.path for export in summary.exports)),
    )


def in_full(summary: RoundSummary, card: str) -> Text:
    """One round's whole report: every figure that was measured, all of its record, and the model's card."""
    figures = [
        f"{row.benchmark} {row.task}: {_flat_line(json.loads(row.metrics_json))}"
        for row in _in_order(summary.evaluations)
    ]
    record = "\n".join(f"{name}: {value}" for name, value in _flat(summary.round.record))
    text = in_brief(summary)
    text.append("\n\n")
    text.append(paragraphs(("All figures", "\n".join(figures)), ("The round's record", record), ("Model card", card)))
    return text


def _measured(rounds: Sequence[RoundSummary]) -> list[tuple[str, str]]:
    found = {(row.benchmark, row.task) for summary in rounds for row in summary.evaluations}
    return sorted(found, key=lambda pair: (pair[0] != "dev", pair[0], _TASKS.index(pair[1])))


def _in_order(rows: Sequence[Evaluation]) -> list[Evaluation]:
    return sorted(rows, key=lambda row: (row.benchmark != "dev", row.benchmark, _TASKS.index(row.task)))


def _f1(summary: RoundSummary, benchmark: str, task: str) -> float | None:
    for row in summary.evaluations:
        if (row.benchmark, row.task) == (benchmark, task):
            value: float | None = json.loads(row.metrics_json).get("f1")
            return value
    return None


def _with_change(value: float | None, before: float | None) -> str:
    if value is None:
        return "-"
    change = "" if before is None else f" {100 * (value - before):+.1f}"
    return f"{100 * value:.1f}{change}"


def _picked(summary: RoundSummary) -> str:
    return f"{sum(summary.selected.values()):,}"


def _taught(summary: RoundSummary) -> str:
    return f"{summary.answers:,}"


def _spent(summary: RoundSummary) -> str:
    return f"${summary.spent_micro / 1e6:.2f}"


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested values with dotted names, numbers to four places."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", f"{value:.4g}" if isinstance(value, float) else str(value)


def _flat_line(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in _flat(values))
