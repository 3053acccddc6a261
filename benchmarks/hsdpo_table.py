"""The figures of hsdpo.py, and its tables: the arms' means, and their paired differences over the seeds."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from scipy.stats import t as student
from sklearn.metrics import f1_score, roc_auc_score

ARMS = ("rsft", "up", "equal", "down", "longer")
NAMES = {
    "rsft": "R-SFT alone",
    "up": "HS-DPO, hard pairs weigh more (the paper)",
    "equal": "HS-DPO, equal weights",
    "down": "HS-DPO, hard pairs weigh less",
    "longer": "more R-SFT in the same time",
}
AGAINST = (("up", "rsft"), ("up", "equal"), ("up", "down"), ("up", "longer"), ("longer", "rsft"))
FIGURES = {"f1": "F1", "macro_f1": "macro-F1", "auroc": "AUROC"}
WAYS = {"traces": "after reasoning", "direct": "at once"}


def figures(truth: Sequence[bool], p: Sequence[float | None]) -> dict[str, float]:
    """Return figures in percent of P(harmful) cut at one half; None, an unparsed trace, is wrong, and 0.5 in AUROC."""
    known = np.array([0.5 if one is None else one for one in p])
    said = np.array([not true if one is None else one > 0.5 for true, one in zip(truth, p, strict=True)])
    found = {
        "f1": f1_score(truth, said, zero_division=0),
        "macro_f1": f1_score(truth, said, average="macro", zero_division=0),
        "auroc": roc_auc_score(truth, known),
        "unparsed": sum(one is None for one in p) / len(p),
    }
    return {name: round(100 * float(value), 2) for name, value in found.items()}


def interval(differences: Sequence[float]) -> tuple[float, float, float] | None:
    """Return mean and 95 % interval (Student's t) of paired differences; None of fewer than two seeds."""
    values = np.array(differences)
    if len(values) < 2:
        return None
    reach = student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean()), float(values.mean() - reach), float(values.mean() + reach)


def table(results: Sequence[dict[str, Any]], cells: Iterable[str]) -> str:
    """Return the tables in Markdown, and which of `cells` have no result yet."""
    guards = list(dict.fromkeys(one["guard"] for one in results))
    parts = [part for guard in guards for part in (_means(results, guard), _differences(results, guard))]
    all_cells = list(cells)
    missing = [name for name in all_cells if name not in {one["cell"] for one in results}]
    if missing:
        parts.append(f"Not yet run: {len(missing)} of {len(all_cells)} cells, from {missing[0]} on.")
    return "\n\n".join(parts)


def _means(results: Sequence[dict[str, Any]], guard: str) -> str:
    own = [one for one in results if one["guard"] == guard]
    lines = [
        f"| {guard}: rows | answer | arm | seeds | steps | F1 | macro-F1 | AUROC | unparsed |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for rows, way, arm in _places(own, ARMS):
        several = [one for one in own if one["arm"] == arm]
        if several:
            steps = np.mean([one["steps"] for one in several])
            of = [one["measured"][rows][way] for one in several]
            shown = " | ".join(f"{np.mean([one[name] for one in of]):.1f}" for name in (*FIGURES, "unparsed"))
            lines.append(f"| {rows} | {WAYS[way]} | {NAMES[arm]} | {len(several)} | {steps:.0f} | {shown} |")
    return "\n".join(lines)


def _differences(results: Sequence[dict[str, Any]], guard: str) -> str:
    own = [one for one in results if one["guard"] == guard]
    lines = [
        f"| {guard}: rows | answer | difference | seeds | F1 | macro-F1 | AUROC |",
        "|---|---|---|---|---|---|---|",
    ]
    for rows, way, (one, other) in _places(own, AGAINST):
        found = {(each["arm"], each["seed"]): each["measured"][rows][way] for each in own}
        seeds = [seed for arm, seed in found if arm == one and (other, seed) in found]
        shown = [_told([found[one, seed][name] - found[other, seed][name] for seed in seeds]) for name in FIGURES]
        if seeds:
            lines.append(f"| {rows} | {WAYS[way]} | {one} minus {other} | {len(seeds)} | {' | '.join(shown)} |")
    return "\n".join(lines)


def _places(own: Sequence[dict[str, Any]], last: Sequence[Any]) -> list[tuple[str, str, Any]]:
    sets = list(own[0]["measured"])
    return [(rows, way, each) for rows in sets for way in WAYS for each in last]


def _told(differences: Sequence[float]) -> str:
    found = interval(differences)
    if found is None:
        return "one seed: no interval"
    # Adding 0 makes a rounded -0.0 plain.
    mean, low, high = (round(one, 1) + 0.0 for one in found)
    apart = ", cannot be told apart" if found[1] <= 0 <= found[2] else ""
    return f"{mean:+.1f} ({low:.1f} to {high:.1f}){apart}"
