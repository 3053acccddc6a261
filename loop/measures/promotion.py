"""The gate's rule: whether a challenger replaces the champion, and why, from the dev verdicts of both.

Pure functions; the gate phase stores the decision and sets the champion.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wizloop.loop.measures.metrics import fpr_of, macro_f1_of, outcome_rows, ratio
from wizloop.loop.measures.resampling import Counts, cluster_sums, percentile_interval, resampled_sums
from wizloop.loop.words import LABELS, TASKS, Task

# 0.07 - 0.05 is a little more than 0.02.
ROUNDING = 1e-9


@dataclass(frozen=True)
class DevVerdicts:
    """One model's verdicts on the labeled dev samples of one task, as four parallel sequences."""

    sample_ids: Sequence[int]
    labels: Sequence[str]
    verdicts: Sequence[str | None]
    """None where the answer could not be parsed; it counts as wrong and as unparsable."""
    clusters: Sequence[str]
    """The normalized prompt of each sample; rows of one prompt are resampled together."""


@dataclass(frozen=True)
class Difference:
    """One measure of both models, as fractions; None where undefined or without a champion."""

    champion: float | None
    challenger: float | None
    difference: float | None
    """Challenger minus champion."""
    low: float | None
    """95 % interval of the difference, paired bootstrap over prompts."""
    high: float | None


UNDEFINED = Difference(None, None, None, None, None)


@dataclass(frozen=True)
class Decision:
    """The gate's decision, its reason in one sentence, and the compared figures."""

    passed: bool
    reason: str
    differences: Mapping[str, Difference]
    """`macro_f1` (mean over the tasks), `macro_f1.TASK` and `unparsable.TASK` of each task, `over_refusal`."""


def decide(
    champion: Mapping[Task, DevVerdicts] | None,
    challenger: Mapping[Task, DevVerdicts],
    *,
    margin: float,
    max_unparsable: float,
    max_over_refusal_rise: float,
    rng: np.random.Generator,
    resamples: int = 1000,
) -> Decision:
    """Pass the challenger if three bounds hold on dev; all three are fractions.

    Its macro-F1 is at most `margin` below the champion's; on every task at most `max_unparsable` of its answers are
    unparsable; its over-refusal is at most `max_over_refusal_rise` higher. Macro-F1 is the mean over tasks of the mean
    F1 of both labels; over-refusal is the false-positive rate on benign requests. The measured difference decides, not
    its interval: published gains are below one point, which most dev sets cannot resolve. Without a champion only the
    unparsable bound applies. Raises ValueError for an empty challenger, or where both did not answer the same samples.
    """
    _check(champion, challenger)
    unparsable, worst = max((_unparsable(verdicts), task) for task, verdicts in challenger.items())
    readable = unparsable <= max_unparsable
    unread = f"{_share(unparsable)} of its {worst} answers are unparsable (at most {_share(max_unparsable)} may be)"
    differences = _compare(champion, challenger, rng, resamples)
    if champion is None:
        opening = "There is no champion yet and the challenger passes" if readable else "The challenger does not pass"
        return Decision(readable, f"{opening}: {unread}.", differences)
    f1, refusal = differences["macro_f1"], differences["over_refusal"]
    prompts = len({prompt for verdicts in challenger.values() for prompt in verdicts.clusters})
    checks = [_check_f1(f1, margin, prompts), (readable, unread), _check_refusal(refusal, max_over_refusal_rise)]
    failed = [reason for passed, reason in checks if not passed]
    if failed:
        return Decision(False, f"The champion stays: {'; '.join(failed)}.", differences)
    return Decision(True, f"The challenger passes: {'; '.join(reason for _, reason in checks)}.", differences)


def _check(champion: Mapping[Task, DevVerdicts] | None, challenger: Mapping[Task, DevVerdicts]) -> None:
    """Raise ValueError for a challenger without samples, or where both did not answer the same labeled samples."""
    if not any(verdicts.labels for verdicts in challenger.values()):
        raise ValueError("the challenger has no labeled dev sample: import some into the split dev")
    if champion is None:
        return
    if set(champion) != set(challenger):
        raise ValueError(f"champion and challenger answered different tasks: {sorted(champion)}, {sorted(challenger)}")
    for task, ours in challenger.items():
        theirs = champion[task]
        if list(ours.sample_ids) != list(theirs.sample_ids) or list(ours.labels) != list(theirs.labels):
            raise ValueError(f"champion and challenger must answer the same dev samples of {task}, in the same order")


def _unparsable(answered: DevVerdicts) -> float:
    """Return the share of samples without a verdict; 0 for no samples."""
    return sum(verdict is None for verdict in answered.verdicts) / max(len(answered.verdicts), 1)


def _compare(
    champion: Mapping[Task, DevVerdicts] | None,
    challenger: Mapping[Task, DevVerdicts],
    rng: np.random.Generator,
    resamples: int,
) -> dict[str, Difference]:
    """Compare every measure of both models on the same bootstrap samples of the prompts."""
    tasks = [task for task in TASKS if task in challenger]
    sums = _paired_sums(champion, challenger, tasks)
    # The last three axes: task, (champion, challenger), (tp, fp, fn, tn, unparsed, n).
    shape = (-1, len(tasks), 2, 6)
    point = sums.sum(axis=0).reshape(shape)
    draws = (resampled_sums(sums, resamples, rng) if len(sums) > 1 else sums[:0]).reshape(shape)
    f1, f1_draws = macro_f1_of(point[..., :4]), macro_f1_of(draws[..., :4])
    found = {"macro_f1": _mean_difference(f1, f1_draws)}
    for at, task in enumerate(tasks):
        found[f"macro_f1.{task}"] = _difference(f1[:, at], f1_draws[:, at])
        found[f"unparsable.{task}"] = _difference(
            *(ratio(counts[:, at, :, 4], counts[:, at, :, 5]) for counts in (point, draws))
        )
    found["over_refusal"] = UNDEFINED
    if "request" in tasks:
        at = tasks.index("request")
        found["over_refusal"] = _difference(fpr_of(point[:, at, :, :4]), fpr_of(draws[:, at, :, :4]))
    return found


def _paired_sums(
    champion: Mapping[Task, DevVerdicts] | None, challenger: Mapping[Task, DevVerdicts], tasks: Sequence[Task]
) -> Counts:
    """Return the counts per prompt, (prompts, tasks x 2 models x 6); a missing champion is all zeros."""
    blocks, clusters = [], list[str]()
    for at, task in enumerate(tasks):
        block = np.zeros((len(challenger[task].labels), len(tasks), 2, 6), dtype=np.int64)
        for model, answers in enumerate((champion, challenger)):
            if answers is not None:
                block[:, at, model] = _counted(answers[task], LABELS[task][0])
        blocks.append(block.reshape(len(block), -1))
        clusters.extend(challenger[task].clusters)
    return cluster_sums(np.concatenate(blocks), clusters)


def _counted(answered: DevVerdicts, positive: str) -> Counts:
    """Return one row of (tp, fp, fn, tn, unparsed, n) per sample."""
    unparsed = np.array([[int(verdict is None), 1] for verdict in answered.verdicts], dtype=np.int64).reshape(-1, 2)
    return np.concatenate([outcome_rows(answered.labels, answered.verdicts, positive), unparsed], axis=1)


def _mean_difference(point: NDArray[np.float64], draws: NDArray[np.float64]) -> Difference:
    """Compare the means over the tasks (axis 1) on which the challenger's measure is defined."""
    measured = ~np.isnan(point[0, :, 1])
    if not measured.any():
        return UNDEFINED
    return _difference(point[:, measured].mean(axis=1), draws[:, measured].mean(axis=1))


def _difference(point: NDArray[np.float64], draws: NDArray[np.float64]) -> Difference:
    """Compare champion and challenger, from (1, 2) measured and (resamples, 2) drawn values."""
    champion, challenger = (None if np.isnan(value) else float(value) for value in point[0])
    if champion is None or challenger is None:
        return Difference(champion, challenger, None, None, None)
    low, high = percentile_interval(draws[:, 1] - draws[:, 0])
    return Difference(champion, challenger, challenger - champion, low, high)


def _check_f1(f1: Difference, margin: float, prompts: int) -> tuple[bool, str]:
    """Return whether macro-F1 is within the margin, and the figures in points."""
    if f1.difference is None:
        return False, "macro-F1 could not be measured: no task has both labels on dev"
    text = f"macro-F1 on dev is {_points(f1.challenger)} against {_points(f1.champion)}, {_gap(f1)}"
    if f1.low is not None and f1.high is not None and f1.low <= 0 <= f1.high:
        text += f", not significant on {prompts:,} dev prompts"
    passed = f1.difference >= -margin - ROUNDING
    return passed, text if passed else f"{text}; the margin is {_points(margin)}"


def _check_refusal(refusal: Difference, bound: float) -> tuple[bool, str]:
    """Return whether over-refusal is within its bound, and the figures in points."""
    if refusal.difference is None:
        return True, "over-refusal was not measured: dev has no benign request"
    text = f"over-refusal is {_share(refusal.challenger)} against {_share(refusal.champion)}, {_gap(refusal)}"
    passed = refusal.difference <= bound + ROUNDING
    return passed, text if passed else f"{text}; it may rise by {_points(bound)}"


def _gap(difference: Difference) -> str:
    """Return the difference in points, with its interval where there is one."""
    text = f"{100 * (difference.difference or 0):+.1f} points"
    if difference.low is None or difference.high is None:
        return text
    return f"{text} (95 % interval {100 * difference.low:+.1f} to {100 * difference.high:+.1f})"


def _points(value: float | None) -> str:
    return f"{100 * (value or 0):.1f}"


def _share(value: float | None) -> str:
    return f"{_points(value)} %"
