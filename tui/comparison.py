"""The rounds side by side, and one round in full, as text. It asks nothing and reads no file."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from rich.text import Text

from wizloop.console.tables import aligned, figure, gate_word, plain
from wizloop.console.words import TASKS
from wizloop.store.evaluations import Evaluation
from wizloop.store.overview import RoundSummary
from wizloop.tui.dialogs import paragraphs


def side_by_side(rounds: Sequence[RoundSummary], chosen: int, width: int) -> Text:
    """F1 of each benchmark and task, a column a round: the figure, its 95 % interval and the change, as there is room.

    Where not every round fits into `width` cells, those around the chosen one are shown.
    """
    forms = [(len(rounds), True), *((n, False) for n in range(len(rounds), 0, -1))]
    for n, wide in forms:
        table = _columns(rounds, chosen, n, wide)
        if max(line.cell_len for line in table.split()) <= width:
            break
    return table


def _columns(rounds: Sequence[RoundSummary], chosen: int, n: int, wide: bool) -> Text:
    """So many rounds, with the intervals or without."""
    first = min(max(chosen - n // 2, 0), len(rounds) - n)
    seen = range(first, first + n)
    lines = [[Text("F1 on", "bold"), Text("n", "bold"), *(_head(rounds, at, chosen, seen) for at in seen)]]
    for benchmark, task, of in _measured(rounds):
        rows = [_evaluation(summary, benchmark, task) for summary in rounds]
        cells = [_cell(rows[at], rows[at - 1] if at else None, wide) for at in seen]
        lines.append([*map(plain, (f"{benchmark} {task}", f"{of:,}", *cells))])
    for name, said in (*_over_refusal(rounds), *_ALSO):
        lines.append([*map(plain, (name, "", *(said(rounds[at]) for at in seen)))])
    return aligned(lines, right=frozenset([1]))


def _head(rounds: Sequence[RoundSummary], at: int, chosen: int, seen: range) -> Text:
    """The name of a round, with a mark where there are more on that side."""
    before = "…" if at == seen[0] > 0 else ""
    after = "…" if at == seen[-1] < len(rounds) - 1 else ""
    name = f"{before}round {rounds[at].round.number}{after}"
    return Text(f">{name}<" if at == chosen else f" {name} ", "bold reverse" if at == chosen else "bold")


def in_brief(summary: RoundSummary) -> Text:
    """One round: the gate's reason, the intervals, what was picked and exported."""
    reason = summary.round.gate_reason or "the round is not over yet"
    figures = [_measured_line(row) for row in _in_order(summary.evaluations)]
    picked = ", ".join(f"{n} {reason.replace('_', ' ')}" for reason, n in summary.selected.items())
    return paragraphs(
        (f"Round {summary.round.number}: {gate_word(summary)}", reason),
        ("F1 with 95 % intervals", "\n".join(figures)),
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


def _measured_line(row: Evaluation) -> str:
    """`test request: 82.1 (76-88) of 300; 5.9 % of the benign blocked, 2 unparsed`."""
    blocked = json.loads(row.metrics_json).get("fpr")
    benign = {"completion": "of the compliances taken for refusals"}.get(row.task, "of the benign blocked")
    more = [] if blocked is None else [f"{100 * blocked:.1f} % {benign}"]
    more += [f"{row.unparsed:,} unparsed"] if row.unparsed else []
    return f"{row.benchmark} {row.task}: {figure(row)} of {row.n:,}" + (f"; {', '.join(more)}" if more else "")


def _measured(rounds: Sequence[RoundSummary]) -> list[tuple[str, str, int]]:
    """Benchmark, task and its most rows, dev first."""
    found: dict[tuple[str, str], int] = {}
    for summary in rounds:
        for row in summary.evaluations:
            found[row.benchmark, row.task] = max(row.n, found.get((row.benchmark, row.task), 0))
    order = sorted(found, key=lambda pair: (pair[0] != "dev", pair[0], TASKS.index(pair[1])))
    return [(*pair, found[pair]) for pair in order]


def _in_order(rows: Sequence[Evaluation]) -> list[Evaluation]:
    return sorted(rows, key=lambda row: (row.benchmark != "dev", row.benchmark, TASKS.index(row.task)))


def _evaluation(summary: RoundSummary, benchmark: str, task: str) -> Evaluation | None:
    rows = [row for row in summary.evaluations if (row.benchmark, row.task) == (benchmark, task)]
    return rows[0] if rows else None


def _cell(row: Evaluation | None, before: Evaluation | None, wide: bool) -> str:
    """`82.1 (76-88) +2.7`, the interval only where there is room."""
    value, last = _f1(row), _f1(before)
    if value is None:
        return "-"
    told = figure(row) if wide else f"{100 * value:.1f}"
    return told if last is None else f"{told} {100 * (value - last):+.1f}"


def _f1(row: Evaluation | None) -> float | None:
    value: float | None = None if row is None else json.loads(row.metrics_json).get("f1")
    return value


def _over_refusal(rounds: Sequence[RoundSummary]) -> Iterator[tuple[str, Callable[[RoundSummary], str]]]:
    """A row for each of dev and test: the share of the benign requests that were blocked."""

    def blocked(summary: RoundSummary, benchmark: str) -> str:
        row = _evaluation(summary, benchmark, "request")
        share = None if row is None else json.loads(row.metrics_json).get("fpr")
        return "-" if share is None else f"{100 * share:.1f} %"

    for benchmark, task, _ in _measured(rounds):
        if task == "request" and benchmark in ("dev", "test"):
            yield f"{benchmark} over-refusal", partial(blocked, benchmark=benchmark)


def _unparsed(summary: RoundSummary) -> str:
    return f"{sum(row.unparsed for row in summary.evaluations):,}" if summary.evaluations else "-"


def _picked(summary: RoundSummary) -> str:
    return f"{sum(summary.selected.values()):,}, {summary.answers:,}"


def _spent(summary: RoundSummary) -> str:
    return f"${summary.spent_micro / 1e6:.2f}"


_ALSO = (
    ("gate", gate_word),
    ("unparsed", _unparsed),
    ("picked, taught", _picked),
    ("spent", _spent),
)
"""Below the figures, a row each."""


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested values with dotted names, numbers to four places."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", f"{value:.4g}" if isinstance(value, float) else str(value)


def _flat_line(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in _flat(values))
