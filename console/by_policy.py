"""Figures of a guard by policy, in words: above all on policies that it was never trained on. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from wizloop.store.steps import Round

KEY = "by_policy"
"""Key of a round's record."""


def lines(record: Mapping[str, Any]) -> list[str]:
    """Return a line for each benchmark and task: F1 in points with its interval, and the harmful rows caught."""
    names = ", ".join(record.get("never_trained_on", ()))
    groups = {"never_trained_on": f"policies never trained on ({names})", "trained_on": "policies trained on"}
    return [
        f"{benchmark} {task}: {'; '.join(_group(words, by[key]) for key, words in groups.items() if key in by)}"
        for benchmark, by_task in record.get("figures", {}).items()
        for task, by in by_task.items()
    ]


def of_newest(rounds: Sequence[Round]) -> list[str]:
    """Return the lines of the newest round that was measured by policy."""
    measured = [one for one in rounds if one.record.get(KEY, {}).get("figures")]
    return [f"round {measured[-1].number}, {line}" for line in lines(measured[-1].record[KEY])] if measured else []


def shown(rounds: Sequence[Round]) -> list[str]:
    """Say which policies a run's guard has in its prompts, and which it is not trained on; nothing without any."""
    kept = next((one.record["policies"] for one in rounds if "policies" in one.record), None)
    if kept is None:
        return []
    left_out = [one["name"] for one in kept["policies"] if one["id"] in kept["left_out"]]
    names = ", ".join(one["name"] for one in kept["policies"])
    how = "policies, each alone" if kept["ask"] == "each" else "policies"
    return [f"{how}: {names}", *([f"never trained on: {', '.join(left_out)}"] if left_out else [])]


def _group(words: str, found: Mapping[str, Any]) -> str:
    low, high = found["low"], found["high"]
    interval = "" if low is None or high is None else f" ({100 * low:.0f}-{100 * high:.0f})"
    f1 = "undefined" if found["f1"] is None else f"{100 * found['f1']:.1f}{interval}"
    return f"{words} F1 {f1}, {found['caught']:,} of {found['n']:,} caught"
