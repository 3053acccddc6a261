"""Report an evaluation: table rows, averages, and a folder with a Markdown report.

Figures are in points of 100; an undefined one is a dash.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from wizloop.console import operating
from wizloop.loop.evaluation import published
from wizloop.loop.evaluation.answered_rows import NO_POLICY, ErrorCount
from wizloop.loop.evaluation.scoring import COUNTINGS, WIDE, BenchmarkResult, Rate
from wizloop.loop.measures.metrics import Score
from wizloop.loop.measures.operating_points import FPRS
from wizloop.loop.words import TASKS, Task

F1_HEADS = ("benchmark", "task", "rows", "parsed", "official", "strict", "parsed only")
RATE_HEADS = ("benchmark", "task", "over-refusal", "let through")
CONFIDENCE_HEADS = ("benchmark", "task", "AUROC", "ECE", "Brier")
DASH = "-"
RECALL_HEADS = ("benchmark", "task", *(f"recall at FPR {100 * fpr:g} %" for fpr in FPRS))
PROMISE_HEADS = ("benchmark", "task", *operating.CELLS)
ERROR_HEADS = ("benchmark", "task", "error", "rows", "of", "mostly")
MOST_POLICIES = 3
"""Policies named beside a kind of error; report.json and --json have all."""
LABEL_HEADS = ("benchmark", "task", "label", "rows", "F1", "precision", "recall")
GROUP_HEADS = ("group", "rows", "F1", "over-refusal", "let through")


class Section(NamedTuple):
    """What a report shows beside the figures of its benchmarks."""

    figures: Mapping[str, Any]
    """Of report.json, beside the others."""
    tables: Sequence[tuple[str, Sequence[str], Sequence[Sequence[str]]]]
    """Heading, heads and rows."""
    notes: Sequence[str]
    """Lines below the tables."""


def f1_lines(found: Sequence[BenchmarkResult]) -> Iterator[tuple[str, ...]]:
    """Yield a row for each benchmark and task, in the order of F1_HEADS."""
    for one in found:
        parsed = DASH if one.parsed.rate is None else f"{100 * one.parsed.rate:.1f} %"
        scores = f1(one.official, with_interval=False), f1(one.strict), f1(one.parsed_only, with_interval=False)
        yield (one.name, one.task, f"{one.n:,}", parsed, *scores)


def rate_lines(found: Sequence[BenchmarkResult]) -> Iterator[tuple[str, ...]]:
    """Yield a row for each benchmark and task, in the order of RATE_HEADS."""
    for one in found:
        yield one.name, one.task, *_shares(one.task, one.blocked_benign, one.passed_harmful)


def averages(found: Sequence[BenchmarkResult]) -> dict[str, Any]:
    """Return F1 (points of 100) by way of counting: of each task, weighted by published rows, and the mean of tasks.

    A benchmark without a published count is weighted by its own rows; `weighted_by_rows` does so for all.
    """
    weights: dict[str, dict[str, Any]] = {}
    for counting in COUNTINGS:
        by_task, by_rows = {}, {}
        for task in TASKS:
            rows = [(one, getattr(one, counting).f1) for one in found if one.task == task]
            defined = [(one, 100 * value) for one, value in rows if value is not None]
            if defined:
                by_task[task] = published.weighted([(value, _weight(one)) for one, value in defined])
                by_rows[task] = published.weighted([(value, one.n) for one, value in defined])
        means = [value for value in by_task.values() if value is not None]
        mean = sum(means) / len(means) if means else None
        weights[counting] = {"by_task": by_task, "weighted_by_rows": by_rows, "mean_of_tasks": mean}
    return weights


def outputs(found: Sequence[BenchmarkResult]) -> dict[str | None, list[BenchmarkResult]]:
    """Group results by output: averages are over the benchmarks of one."""
    return {name: [one for one in found if one.output == name] for name in dict.fromkeys(one.output for one in found)}


def to_json(found: Sequence[BenchmarkResult], notes: Mapping[str, Any]) -> dict[str, Any]:
    """Return all figures, undefined ones as None. With several outputs of a benchmark, averages are by output."""
    rows = [_row_json(one) for one in found]
    by_output = {name: averages(each) for name, each in outputs(found).items() if name is not None}
    several = {"averages_by_output": by_output} if by_output else {}
    whole = {"benchmarks": rows, "averages": averages([] if by_output else found)}
    # For one benchmark, a script need not search a list.
    return {**(rows[0] if len(rows) == 1 else {}), **whole, **several, **notes}


def write(
    folder: Path,
    found: Sequence[BenchmarkResult],
    pictures: Mapping[str, Path],
    title: str,
    errors: Sequence[ErrorCount] = (),
    sections: Sequence[Section] = (),
) -> Path:
    """Write report.md and report.json into a folder and return the report's path; `pictures` in it are by heading.

    It has no text of a row, so that it can be passed on.
    """
    beside = {name: value for one in sections for name, value in one.figures.items()}
    figures = to_json(found, {"errors": [asdict(one) for one in errors], **beside})
    (folder / "report.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    lines = [f"# {_cell(title)}", "", *_table(F1_HEADS, f1_lines(found)), "", *_table(RATE_HEADS, rate_lines(found))]
    lines += ["", *_reading_aid(found), ""]
    for one in found:
        if one.by_group:
            lines += [
                f"## {_cell(one.name)}, {one.task}, by group",
                "",
                *_table(GROUP_HEADS, group_lines(one)),
                "",
            ]
    if labels := label_lines(found):
        lines += ["## By label", "", *_table(LABEL_HEADS, labels), ""]
    if probabilities := confidence_lines(found):
        lines += ["## Probability", "", *_table(CONFIDENCE_HEADS, probabilities), ""]
    if recalls := recall_lines(found):
        lines += [*_table(RECALL_HEADS, recalls), ""]
    if promises := promise_lines(found):
        lines += ["## Promised error", "", *_table(PROMISE_HEADS, promises), ""]
    if errors:
        lines += ["## Errors by kind and policy", "", *_table(ERROR_HEADS, error_lines(errors)), ""]
    for section in sections:
        for heading, heads, rows in section.tables:
            lines += [f"## {_cell(heading)}", "", *_table(heads, rows), ""]
        for note in section.notes if section.tables else ():
            lines += [note, ""]
    for heading, path in pictures.items():
        lines += [f"## {_cell(heading)}", "", f"![{_cell(heading)}]({path.name})", ""]
    report = folder / "report.md"
    report.write_text("\n".join(lines), encoding="utf-8")
    return report


def label_lines(found: Sequence[BenchmarkResult]) -> list[tuple[str, ...]]:
    """Return a row for each label of each task with more than two, and one for all of them, as LABEL_HEADS has them.

    All of them have macro-F1, and accuracy in place of precision.
    """
    rows: list[tuple[str, ...]] = []
    for one in (each for each in found if each.strict.by_label):
        for label, scored in one.strict.by_label.items():
            value = _figure(scored.f1, scored.f1_low, scored.f1_high, scale=100, digits=(1, 0))
            rates = (DASH if rate is None else f"{100 * rate:.1f}" for rate in (scored.precision, scored.recall))
            rows.append((one.benchmark, one.task, label, f"{scored.n:,}", value, *rates))
        all_of = one.strict
        macro = _figure(all_of.macro_f1, all_of.macro_f1_low, all_of.macro_f1_high, scale=100, digits=(1, 0))
        accuracy = DASH if all_of.accuracy is None else f"exact {100 * all_of.accuracy:.1f}"
        rows.append((one.benchmark, one.task, "all (macro)", f"{one.n:,}", macro, accuracy, ""))
    return rows


def error_lines(errors: Sequence[ErrorCount]) -> Iterator[tuple[str, ...]]:
    """Yield a row for each kind of error, in the order of ERROR_HEADS, with the policies that most of them are of."""
    for one in errors:
        kind = "over-refusal" if one.kind == "over_refusal" else one.kind.replace("_", " ")
        yield one.benchmark, one.task, kind, f"{one.n:,}", f"{one.of:,}", _mostly(one.by_policy)


def _mostly(by_policy: Mapping[str, int]) -> str:
    named = [(policy, n) for policy, n in by_policy.items() if policy != NO_POLICY]
    return ", ".join(f"{' '.join(policy.split())} {n:,}" for policy, n in named[:MOST_POLICIES]) or DASH


def f1(found: Score, *, with_interval: bool = True) -> str:
    """Return F1 in points with its interval: `89.3 (86.1-92.2)`."""
    ends = (found.f1_low, found.f1_high) if with_interval else (None, None)
    return _figure(found.f1, *ends, scale=100, digits=(2, 1))


def interval(found: Score) -> str:
    """Return the 95 % interval of F1 in points: `86.1-92.2`."""
    if found.f1_low is None or found.f1_high is None:
        return DASH
    return f"{100 * found.f1_low:.1f}-{100 * found.f1_high:.1f}"


def share(found: Rate) -> str:
    """Return a rate with its sample size, `12.0 % of 250`, and a note if the rows are too few to tell."""
    if found.rate is None:
        return DASH
    note = "" if found.is_clear else ", too few to tell"
    return f"{100 * found.rate:.1f} % of {found.n:,}{note}"


def _row_json(one: BenchmarkResult) -> dict[str, Any]:
    row = asdict(one) | {"unparsed": one.strict.unparsed, "too_few_to_tell": _untold(one)}
    if one.promise is None:
        del row["promise"]
    for counting in COUNTINGS:
        found: Score = getattr(one, counting)
        row[counting] = found.to_json() | {"low": found.f1_low, "high": found.f1_high}
    return row


def _untold(one: BenchmarkResult) -> list[str]:
    rates = {"blocked_benign": one.blocked_benign, "passed_harmful": one.passed_harmful, "parsed": one.parsed}
    return [name for name, found in rates.items() if found.n and not found.is_clear]


def _weight(one: BenchmarkResult) -> int:
    known = published.benchmark(one.benchmark, one.task)
    return one.n if known is None else known.rows


def _reading_aid(found: Sequence[BenchmarkResult]) -> Iterator[str]:
    yield (
        "F1 is of the positive label (harmful, refusal), in percent; in brackets its 95 % interval, bootstrapped by "
        "prompt. *official* counts unparsed rows like the published evaluator (left out if the label is harmful, else "
        "wrong twice), *strict* as wrong once, *parsed only* leaves them out. *over-refusal* is the share of benign "
        "rows that were blocked, *let through* the share of harmful rows that passed; neither applies to completions. "
        f"If Wilson's interval is wider than {100 * WIDE:.0f} points, the rows are too few to tell."
    )
    skipped = {one.name: one.skipped for one in found if one.skipped}
    if skipped:
        yield ""
        yield "Rows without a label for the task: " + ", ".join(f"{_cell(k)} {n:,}" for k, n in skipped.items()) + "."


def group_lines(one: BenchmarkResult) -> Iterator[tuple[str, ...]]:
    """Yield a row for each policy or attack, in the order of GROUP_HEADS."""
    for name, group in one.by_group.items():
        value = _figure(group.f1, group.f1_low, group.f1_high, scale=100, digits=(1, 0))
        yield name, f"{group.n:,}", value, *_shares(one.task, group.blocked_benign, group.passed_harmful)


def _shares(task: Task, blocked: Rate, passed: Rate) -> tuple[str, str]:
    # A completion taken for a refusal blocks nobody, and one that is let through harms nobody.
    return (DASH, DASH) if task == "completion" else (share(blocked), share(passed))


def confidence_lines(found: Sequence[BenchmarkResult]) -> list[tuple[str, ...]]:
    """Return a row for each benchmark and task with probabilities, in the order of CONFIDENCE_HEADS."""
    given = [one for one in found if one.auroc.value is not None or one.ece.value is not None]
    return [
        (
            one.name,
            one.task,
            *(_figure(each.value, each.low, each.high) for each in (one.auroc, one.ece, one.brier)),
        )
        for one in given
    ]


def recall_lines(found: Sequence[BenchmarkResult]) -> list[tuple[str, ...]]:
    """Return a row for each benchmark and task with recall at a false-positive rate, in the order of RECALL_HEADS."""
    return [
        (
            one.name,
            one.task,
            *(_figure(at.value, at.low, at.high, 100, (1, 0)) for at in one.recall_at_fpr.values()),
        )
        for one in found
        if any(at.value is not None for at in one.recall_at_fpr.values())
    ]


def promise_lines(found: Sequence[BenchmarkResult]) -> list[tuple[str, ...]]:
    """Return a row for each benchmark and task under a promised error, in the order of PROMISE_HEADS."""
    return [(one.name, one.task, *operating.cells(one.promise)) for one in found if one.promise is not None]


def _figure(
    value: float | None, low: float | None, high: float | None, scale: float = 1, digits: tuple[int, int] = (3, 3)
) -> str:
    """Format a value and its interval, if any, with these decimals."""
    if value is None:
        return DASH
    text, end = f"{scale * value:.{digits[0]}f}", digits[1]
    return text if low is None or high is None else f"{text} ({scale * low:.{end}f}-{scale * high:.{end}f})"


def _table(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> Iterator[str]:
    yield from map(_row, (heads, ["---"] * len(heads)))
    yield from map(_row, lines)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(map(_cell, cells)) + " |"


def _cell(text: str) -> str:
    """Escape text from a file for a Markdown table: no markup, line breaks or control characters."""
    from wizloop.store.display import shown

    flat = " ".join(shown(text, 120).split())
    return "".join(f"\\{mark}" if mark in "\\`*_{}[]<>|#!" else mark for mark in flat)
