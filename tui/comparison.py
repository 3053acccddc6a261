"""The base and the rounds side by side, and one of them in full, as text. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.text import Text

from wizloop.console import by_policy, category_figures, chosen, label_gains
from wizloop.console.standing import NAMES, by_label, sentences
from wizloop.console.tables import aligned, baselines_on, figure, figure_of, gate_word, operating_lines, plain
from wizloop.console.words import TASKS
from wizloop.store.evaluations import Evaluation
from wizloop.store.overview import BaseSummary, Summary
from wizloop.tui.dialogs import paragraphs
from wizloop.tui.workspace import Compared

UNTOLD = "cannot be told apart"
"""The conclusion of the paired test where neither is better."""


def side_by_side(rounds: Sequence[Summary], chosen: int, width: int, told: Sequence[Compared] = ()) -> Text:
    """Build F1 of each benchmark and task, a column per round: F1, its 95 % interval and its change, if they fit.

    The baselines' F1 is below that of each test set. `told` is the chosen round against the one before.

    If not every round fits in `width` cells, shows those around the chosen one.
    """
    forms = [(len(rounds), True), *((n, False) for n in range(len(rounds), 0, -1))]
    for n, wide in forms:
        table = _columns(rounds, chosen, n, wide, told)
        if max(line.cell_len for line in table.split()) <= width:
            break
    return table


def _columns(rounds: Sequence[Summary], chosen: int, n: int, wide: bool, told: Sequence[Compared]) -> Text:
    """Build the table of n rounds, with the intervals if `wide`."""
    first = min(max(chosen - n // 2, 0), len(rounds) - n)
    seen = range(first, first + n)
    untold = {(one.benchmark, one.task) for one in told if one.conclusion == UNTOLD}
    lines = [[Text("F1 on", "bold"), Text("n", "bold"), *(_head(rounds, at, chosen, seen) for at in seen)]]
    for benchmark, task, size in _measured(rounds):
        rows = [_evaluation(summary, benchmark, task) for summary in rounds]
        marks = {chosen: " ~"} if (benchmark, task) in untold else {}
        cells = [_cell(rows[at], rows[at - 1] if at else None, wide, marks.get(at, "")) for at in seen]
        lines.append([*map(plain, (f"{benchmark} {task}", f"{size:,}", *cells))])
        for name, values in _baselines(rounds, benchmark, task):
            lines.append([*map(plain, (f"  {name}", "", *(values[at] for at in seen)))])
    for name, values in (*_category_rows(rounds), *_other_rows(rounds)):
        lines.append([*map(plain, (name, "", *(values[at] for at in seen)))])
    return aligned(lines, right=frozenset([1]))


def _head(rounds: Sequence[Summary], at: int, chosen: int, seen: range) -> Text:
    """Build the heading of a round, with an ellipsis if there are more on that side."""
    before = "…" if at == seen[0] > 0 else ""
    after = "…" if at == seen[-1] < len(rounds) - 1 else ""
    name = f"{before}{title(rounds[at]).lower()}{after}"
    return Text(f">{name}<" if at == chosen else f" {name} ", "bold reverse" if at == chosen else "bold")


def title(summary: Summary) -> str:
    """Return the name of a round, or of the base."""
    return "Base" if isinstance(summary, BaseSummary) else f"Round {summary.name}"


def in_brief(summary: Summary, held: str = "", told: Sequence[Compared] = ()) -> Text:
    """Build the summary of one round: gate's reason, F1 with intervals, baselines, selections, exports.

    `told` is it against the round `held`, on the same rows.
    """
    measured = ("F1 with 95 % intervals", "\n".join(map(_measured_line, _in_order(summary.evaluations))))
    named = (
        "Categories, F1 with 95 % intervals",
        "\n".join(category_figures.lines(summary.record.get("categories", {}))),
    )
    beside = ("Beside its baselines", "\n".join(_baseline_lines(summary)))
    of_policies = ("By policy", "\n".join(by_policy.lines(summary.record.get(by_policy.KEY, {}))))
    point = ("Operating point", "\n".join(operating_lines(summary)))
    if isinstance(summary, BaseSummary):
        return paragraphs(("Base", "the guard before anything was taught"), measured, named, of_policies, beside, point)
    reason = "\n".join([summary.round.gate_reason or "the round is not finished", *chosen.lines(summary.record)])
    selected = ", ".join(f"{n} {reason.replace('_', ' ')}" for reason, n in summary.selected.items())
    return paragraphs(
        (f"Round {summary.round.number}: {gate_word(summary)}", reason),
        measured,
        (
            f"Against {held} (points of F1 on the same rows, paired test)",
            "\n".join(f"{one.benchmark} {one.task}: {one.difference}: {one.conclusion}" for one in told),
        ),
        named,
        of_policies,
        beside,
        point,
        ("Picked", "\n".join([selected, *label_gains.lines(summary.record)])),
        (
            "Exports",
            "\n".join(
                export.path if export.failed is None else f"{export.format} failed: {export.failed}"
                for export in summary.exports
            ),
        ),
    )


def in_full(summary: Summary, card: str) -> Text:
    """Build the whole report of one round: all figures, its record, and the model card."""
    figures = [
        f"{row.benchmark} {row.task}: {', '.join(f'{name} {value}' for name, value in _flat(row.metrics))}"
        for row in _in_order(summary.evaluations)
    ]
    record = "\n".join(f"{name}: {value}" for name, value in _flat(summary.record))
    text = in_brief(summary)
    text.append("\n\n")
    text.append(paragraphs(("All figures", "\n".join(figures)), ("The round's record", record), ("Model card", card)))
    return text


def _measured_line(row: Evaluation) -> str:
    """Format `test request: 82.1 (76-88) of 300; 5.9 % of the benign blocked, 2 unparsed`."""
    fpr = row.metrics.get("fpr")
    what = {"completion": "of the compliances classified as refusals"}.get(row.task, "of the benign blocked")
    more = [] if fpr is None else [f"{100 * fpr:.1f} % {what}"]
    more += [f"{row.unparsed:,} unparsed"] if row.unparsed else []
    more += [f"by label: {labels}"] if (labels := by_label(row.metrics)) else []
    return f"{row.benchmark} {row.task}: {figure(row)} of {row.n:,}" + (f"; {', '.join(more)}" if more else "")


def _baseline_lines(summary: Summary) -> list[str]:
    """Return the baselines' F1 by test set, and where the round's guard does not beat them."""
    figures = [
        f"{benchmark} {task}: {name} {figure_of(by_task[task])}"
        for benchmark in dict.fromkeys(row.benchmark for row in _in_order(summary.evaluations))
        for name, by_task in baselines_on(summary, benchmark)
        for task in TASKS
        if task in by_task
    ]
    return figures + sentences(title(summary), summary.record.get("compared", {}))


def _baselines(rounds: Sequence[Summary], benchmark: str, task: str) -> Iterator[tuple[str, list[str]]]:
    """Yield a row for each baseline of a test set: its name, and its F1 by round."""
    by_round = [dict(baselines_on(summary, benchmark)) for summary in rounds]
    for name in dict.fromkeys((*NAMES.values(), *(name for by_name in by_round for name in by_name))):
        found = [by_name.get(name, {}).get(task, {}).get("f1") for by_name in by_round]
        if any(f1 is not None for f1 in found):
            yield name, ["" if f1 is None else f"{100 * f1:.1f}" for f1 in found]


def _measured(rounds: Sequence[Summary]) -> list[tuple[str, str, int]]:
    """Return each benchmark and task with its largest number of rows, dev first."""
    found: dict[tuple[str, str], int] = {}
    for row in _in_order([row for summary in rounds for row in summary.evaluations]):
        found[row.benchmark, row.task] = max(row.n, found.get((row.benchmark, row.task), 0))
    return [(*pair, n) for pair, n in found.items()]


def _in_order(rows: Sequence[Evaluation]) -> list[Evaluation]:
    return sorted(rows, key=lambda row: (row.benchmark != "dev", row.benchmark, TASKS.index(row.task)))


def _evaluation(summary: Summary, benchmark: str, task: str) -> Evaluation | None:
    rows = (row for row in summary.evaluations if (row.benchmark, row.task) == (benchmark, task))
    return next(rows, None)


def _cell(row: Evaluation | None, before: Evaluation | None, wide: bool, mark: str = "") -> str:
    """Format `82.1 (76-88) +2.7`, with the interval if `wide`, and a mark behind the change."""
    value, last = _metric(row, "f1"), _metric(before, "f1")
    if value is None:
        return "-"
    f1 = figure(row) if wide else f"{100 * value:.1f}"
    return f1 if last is None else f"{f1} {100 * (value - last):+.1f}{mark}"


def _metric(row: Evaluation | None, name: str) -> float | None:
    return None if row is None else row.metrics.get(name)


def _category_rows(rounds: Sequence[Summary]) -> Iterator[tuple[str, list[str]]]:
    """Yield macro-F1, exact match and each category's F1 by round, for each benchmark with categories."""
    by_round = [dict(category_figures.of_summary(summary)) for summary in rounds]
    for benchmark in dict.fromkeys(name for found in by_round for name in found):
        figures = [found.get(benchmark, {}) for found in by_round]
        for title, key in ((category_figures.MACRO, "macro_f1"), (category_figures.EXACT, "exact")):
            yield f"{benchmark} {title} of categories", [_short(found.get(key)) for found in figures]
        for name in dict.fromkeys(name for found in figures for name in found.get("by_category", {})):
            yield f"  {name}", [_short(found.get("by_category", {}).get(name, {}).get("f1")) for found in figures]


def _short(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _other_rows(rounds: Sequence[Summary]) -> Iterator[tuple[str, list[str]]]:
    """Yield the rows below F1: over-refusal (benign requests blocked), gate, unparsed, selected and taught, cost."""
    for benchmark, task, _ in _measured(rounds):
        if task == "request" and benchmark in ("dev", "test"):
            shares = [_metric(_evaluation(summary, benchmark, task), "fpr") for summary in rounds]
            yield f"{benchmark} over-refusal", ["-" if share is None else f"{100 * share:.1f} %" for share in shares]
    yield "gate", [gate_word(summary) or "-" for summary in rounds]
    yield (
        "unparsed",
        [f"{sum(row.unparsed for row in one.evaluations):,}" if one.evaluations else "-" for one in rounds],
    )
    yield "picked, taught", [_work(one, "{picked:,}, {taught:,}") for one in rounds]
    yield "spent", [_work(one, "${usd:.2f}") for one in rounds]


def _work(summary: Summary, form: str) -> str:
    """Format what a round picked, was taught and spent; a dash for the base."""
    if isinstance(summary, BaseSummary):
        return "-"
    picked, usd = sum(summary.selected.values()), summary.spent_micro / 1e6
    return form.format(picked=picked, taught=summary.answers, usd=usd)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield nested values with dotted names, floats to four digits."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", f"{value:.4g}" if isinstance(value, float) else str(value)
