"""The ways in which a guard answers, in words: the linear head and the answer at once beside its verdicts. Pure."""

from collections.abc import Mapping
from typing import Any

from wizloop.console.words import TASKS

NAMES = {"linear": "linear head", "direct": "at once"}
"""The ways that are measured beside the verdicts, as headings, in the order in which they are shown."""
_WHAT = {
    "linear": "a logistic regression on the base and the words, which tells nothing of what the guard has learned",
    "direct": "the guard's own answer, where the linear head gives its verdict",
}
_LABEL = "the verdicts on {} are the linear head's: their figures tell nothing of what the guard has learned."


def lines(record: Mapping[str, Any], speeds: Mapping[str, Any]) -> list[str]:
    """Return a line for each way that stands beside a guard's verdicts: its figures by set and task, and its latency.

    `record` is a round's, `speeds` what was timed when it was evaluated.
    """
    linear = [task for task in TASKS if record.get("evaluate", {}).get("source", {}).get(task) == "linear"]
    said = [_LABEL.format(" and ".join(linear))] if linear else []
    for way, name in NAMES.items():
        places = {
            f"{benchmark} {task}": figures
            for benchmark, by_task in _measured(record.get("baselines", {}).get(way, {})).items()
            for task, figures in sorted(by_task.items(), key=lambda one: TASKS.index(one[0]))
        }
        if places:
            told = "; ".join(f"{place} {_figures(figures)}" for place, figures in places.items())
            said.append(f"{name} ({_WHAT[way]}): {told}{_timed(way, speeds)}.")
    return said


def latency(found: Mapping[str, Any]) -> str:
    """Return the latency of the linear head as a sentence."""
    return f"Linear head: latency {_milliseconds(found)}."


def _measured(by_benchmark: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Mapping[str, Any]]:
    """Leave dev out where there is a test set."""
    found = {name: by_task for name, by_task in by_benchmark.items() if by_task}
    return {name: by_task for name, by_task in found.items() if name != "dev"} or found


def _figures(found: Mapping[str, Any]) -> str:
    low, high = found.get("low"), found.get("high")
    interval = "" if low is None or high is None else f" ({100 * low:.0f}-{100 * high:.0f})"
    auroc = found.get("auroc")
    return (
        f"F1 {_percent(found.get('f1'))}{interval}, macro-F1 {_percent(found.get('macro_f1'))}, "
        f"AUROC {'-' if auroc is None else f'{auroc:.3f}'}"
    )


def _timed(way: str, speeds: Mapping[str, Any]) -> str:
    """Return the latency of the linear head, beside that of the verdict or of the way that it replaces."""
    found = speeds.get("linear_speed")
    if not found:
        return ""
    if way != "linear":
        return f"; the linear head's latency is {_milliseconds(found)}"
    verdict = speeds.get("speed", {}).get("p50_ms")
    return f"; latency {_milliseconds(found)}" + ("" if verdict is None else f", of the verdict {_ms(verdict)}")


def _milliseconds(found: Mapping[str, Any]) -> str:
    return f"p50 {_ms(found['p50_ms'])} and p95 {_ms(found['p95_ms'])}"


def _ms(value: float) -> str:
    return f"{value:,.1f} ms" if value < 10 else f"{value:,.0f} ms"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"
