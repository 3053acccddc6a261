"""The gate's rule: whether a challenger replaces what stands, and why, from the dev verdicts of both.

The champion stands; before the first one, the base.

Pure functions; the gate phase stores the decision and sets the champion.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from wizloop.loop.measures.classes import REST, against_rest, class_rows, macro_f1_by_class
from wizloop.loop.measures.gate_bound import GateBound, lower_bound
from wizloop.loop.measures.metrics import f1_of, fpr_of, macro_f1_of, outcome_rows, ratio
from wizloop.loop.measures.resampling import Counts, cluster_sums, percentile_interval, resampled_sums
from wizloop.loop.words import DEFAULT, TASKS, Declaration, Task

# 0.07 - 0.05 is a little more than 0.02.
ROUNDING = 1e-9


@dataclass(frozen=True)
class LabeledVerdicts:
    """One model's verdicts on the labeled samples of one task, as four parallel sequences."""

    sample_ids: Sequence[int]
    labels: Sequence[str]
    verdicts: Sequence[str | None]
    """None where the answer could not be parsed; it counts as wrong and as unparsable."""
    clusters: Sequence[str]
    """The normalized prompt of each sample; rows of one prompt are resampled together."""


@dataclass(frozen=True)
class Difference:
    """One measure of both models, as fractions; None where undefined."""

    champion: float | None
    """Of the model that stands, champion or base."""
    challenger: float | None
    difference: float | None
    """Challenger minus the other."""
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
    """`macro_f1` (mean over the tasks), `macro_f1.TASK` and `unparsable.TASK` of each task, `over_refusal`,
    `unparsed_traces` without an interval."""
    lower: float | None = None
    """One-sided lower bound of macro-F1's difference at the gate's level; None without a bound to compare it with."""


@dataclass(frozen=True)
class Candidate:
    """What the gate knows of one model on dev."""

    verdicts: Mapping[Task, LabeledVerdicts]
    sources: Mapping[str, str] = field(default_factory=dict)
    """Where each task's verdict is read: `direct` (the default), `traces` or `linear`."""
    traces_unparsed: float | None = None
    """Share of its traces without a whole answer block; None if it drew none."""


def decide(
    standing: Candidate,
    challenger: Candidate,
    *,
    margin: float,
    max_unparsable: float,
    max_over_refusal_rise: float,
    rng: np.random.Generator,
    bound: GateBound | None = None,
    name: Literal["champion", "base"] = "champion",
    resamples: int = 4000,
    declared: Declaration = DEFAULT,
    further: Sequence[tuple[bool, str]] = (),
) -> Decision:
    """Pass the challenger if three bounds hold on dev, all fractions, and `further` ones. `name` is what stands.

    Its macro-F1 is measured at most `margin` below the other's, and a loss of more than `margin`, or of what
    `bound` says that dev can exclude if that is more, is excluded at the bound's level; at most `max_unparsable` of
    its answers on each task, and of its traces, are unparsable, whichever of the two its verdicts are read from;
    its over-refusal is at most `max_over_refusal_rise` higher. Macro-F1 is the mean over tasks of the mean F1 of
    all labels; over-refusal is the share of requests with a label that lets through that are not let through.
    Raises ValueError for an empty challenger, or where both did not answer the same samples.
    """
    _check(standing.verdicts, challenger.verdicts)
    differences, drawn = _compare(standing.verdicts, challenger.verdicts, rng, resamples, declared)
    differences["unparsed_traces"] = _of_traces(standing.traces_unparsed, challenger.traces_unparsed)
    prompts = len({prompt for verdicts in challenger.verdicts.values() for prompt in verdicts.clusters})
    f1 = differences["macro_f1"]
    lower = None if bound is None or f1.difference is None else lower_bound(drawn, f1.difference, bound.level)
    checks = [
        _check_f1(f1, margin, prompts, "the base's " if name == "base" else "", bound, lower),
        _check_answers(challenger, max_unparsable),
        _check_traces(challenger.traces_unparsed, max_unparsable),
        _check_refusal(differences["over_refusal"], max_over_refusal_rise),
        *further,
    ]
    failed = [reason for passed, reason in checks if not passed]
    if failed:
        return Decision(False, f"The {name} stays: {'; '.join(failed)}.", differences, lower)
    return Decision(True, f"The challenger passes: {'; '.join(reason for _, reason in checks)}.", differences, lower)


def compare_f1(
    theirs: LabeledVerdicts,
    ours: LabeledVerdicts,
    task: Task,
    rng: np.random.Generator,
    resamples: int = 1000,
    declared: Declaration = DEFAULT,
) -> Difference:
    """Compare F1 of the positive label on the same samples, by paired bootstrap over prompts; `ours` is the challenger.

    Raises ValueError where both did not answer the same samples.
    """
    _check({task: theirs}, {task: ours})
    sums = _paired_sums({task: theirs}, {task: ours}, [task], declared)
    point, draws = (f1_of(each[..., 0, :, :4]) for each in _resampled(sums, 1, rng, resamples))
    return _difference(point, draws)


def _check(standing: Mapping[Task, LabeledVerdicts], challenger: Mapping[Task, LabeledVerdicts]) -> None:
    """Raise ValueError for a challenger without samples, or where both did not answer the same labeled samples."""
    if not any(verdicts.labels for verdicts in challenger.values()):
        raise ValueError("the challenger has no labeled dev sample: import some into the split dev")
    if set(standing) != set(challenger):
        raise ValueError(f"the two models answered different tasks: {sorted(standing)}, {sorted(challenger)}")
    for task, ours in challenger.items():
        theirs = standing[task]
        if list(ours.sample_ids) != list(theirs.sample_ids) or list(ours.labels) != list(theirs.labels):
            raise ValueError(f"both models must answer the same samples of {task}, in the same order")


def _unparsable(answered: LabeledVerdicts) -> float:
    """Return the share of samples without a verdict; 0 for no samples."""
    return sum(verdict is None for verdict in answered.verdicts) / max(len(answered.verdicts), 1)


def _compare(
    standing: Mapping[Task, LabeledVerdicts],
    challenger: Mapping[Task, LabeledVerdicts],
    rng: np.random.Generator,
    resamples: int,
    declared: Declaration,
) -> tuple[dict[str, Difference], NDArray[np.float64]]:
    """Compare every measure of both models on the same bootstrap samples of the prompts.

    Returns the differences, and the draws of macro-F1's, (resamples,).
    """
    tasks = [task for task in TASKS if task in challenger]
    point, draws = _resampled(_paired_sums(standing, challenger, tasks, declared), len(tasks), rng, resamples)
    f1, f1_draws = _macro_f1(point, tasks, declared), _macro_f1(draws, tasks, declared)
    # The mean is over the tasks on which the challenger's measure is defined.
    measured = ~np.isnan(f1[0, :, 1])
    means = [
        each[:, measured].mean(axis=1) if measured.any() else np.full((len(each), 2), np.nan) for each in (f1, f1_draws)
    ]
    found = {"macro_f1": _difference(*means) if measured.any() else UNDEFINED}
    for at, task in enumerate(tasks):
        found[f"macro_f1.{task}"] = _difference(f1[:, at], f1_draws[:, at])
        found[f"unparsable.{task}"] = _difference(
            *(ratio(counts[:, at, :, 4], counts[:, at, :, 5]) for counts in (point, draws))
        )
    found["over_refusal"] = UNDEFINED
    if "request" in tasks:
        at = tasks.index("request")
        blocked = slice(6, 10) if declared.classes("request") else slice(4)
        found["over_refusal"] = _difference(fpr_of(point[:, at, :, blocked]), fpr_of(draws[:, at, :, blocked]))
    return found, means[1][:, 1] - means[1][:, 0]


def _macro_f1(counts: Counts, tasks: Sequence[Task], declared: Declaration) -> NDArray[np.float64]:
    """Return macro-F1 of each task, over all its labels: (…, tasks, models)."""
    found = macro_f1_of(counts[..., :4])
    for at, task in enumerate(tasks):
        if classes := declared.classes(task):
            found[:, at] = macro_f1_by_class(counts[:, at, :, 10 : 10 + 3 * len(classes)])
    return found


def _resampled(sums: Counts, tasks: int, rng: np.random.Generator, resamples: int) -> tuple[Counts, Counts]:
    """Return the totals and the bootstrap's draws, (1 or resamples, tasks, 2, 6): no draws for a single prompt.

    The last three axes: task, (standing, challenger), (tp, fp, fn, tn, unparsed, n), which are followed by those of
    `_of_classes` where a task has more than two labels.
    """
    shape = (-1 if sums.size else 0, tasks, 2, sums.shape[1] // (2 * tasks))
    draws = resampled_sums(sums, resamples, rng) if len(sums) > 1 else sums[:0]
    return sums.sum(axis=0).reshape(shape), draws.reshape(shape)


def _paired_sums(
    standing: Mapping[Task, LabeledVerdicts],
    challenger: Mapping[Task, LabeledVerdicts],
    tasks: Sequence[Task],
    declared: Declaration,
) -> Counts:
    """Return the counts per prompt, (prompts, tasks x 2 models x 6 or more)."""
    blocks, clusters = [], list[str]()
    most = max(len(declared.classes(task)) for task in tasks)
    width = 6 + (4 + 3 * most if most else 0)
    for at, task in enumerate(tasks):
        block = np.zeros((len(challenger[task].labels), len(tasks), 2, width), dtype=np.int64)
        for model, answers in enumerate((standing, challenger)):
            counted = _counted(answers[task], task, declared)
            block[:, at, model, : counted.shape[1]] = counted
        blocks.append(block.reshape(len(block), -1))
        clusters.extend(challenger[task].clusters)
    return cluster_sums(np.concatenate(blocks), clusters)


def _counted(answered: LabeledVerdicts, task: Task, declared: Declaration) -> Counts:
    """Return one row of (tp, fp, fn, tn, unparsed, n), and of `_of_classes`, per sample."""
    unparsed = np.array([[int(verdict is None), 1] for verdict in answered.verdicts], dtype=np.int64).reshape(-1, 2)
    positive = declared.positive(task)
    if not declared.classes(task):
        return np.concatenate([outcome_rows(answered.labels, answered.verdicts, positive), unparsed], axis=1)
    labels, verdicts = ([each or REST for each in against_rest(answered.labels, positive)], answered.verdicts)
    ours = outcome_rows(labels, against_rest(verdicts, positive), positive)
    return np.concatenate([ours, unparsed, *_of_classes(answered, task, declared)], axis=1)


def _of_classes(answered: LabeledVerdicts, task: Task, declared: Declaration) -> tuple[Counts, Counts]:
    """Return rows of (tp, fp, fn, tn) of being blocked, and of (tp, fp, fn) of each label."""
    blocked = ["pass" if declared.passes(task, label) else "block" for label in answered.labels]
    said = [None if one is None else "pass" if declared.passes(task, one) else "block" for one in answered.verdicts]
    classes = class_rows(answered.labels, answered.verdicts, declared.classes(task))
    return outcome_rows(blocked, said, "block"), classes


def _difference(point: NDArray[np.float64], draws: NDArray[np.float64]) -> Difference:
    """Compare champion and challenger, from (1, 2) measured and (resamples, 2) drawn values."""
    champion, challenger = (None if np.isnan(value) else float(value) for value in point[0])
    if champion is None or challenger is None:
        return Difference(champion, challenger, None, None, None)
    low, high = percentile_interval(draws[:, 1] - draws[:, 0])
    return Difference(champion, challenger, challenger - champion, low, high)


def _check_f1(
    f1: Difference, margin: float, prompts: int, whose: str, bound: GateBound | None, lower: float | None
) -> tuple[bool, str]:
    """Return whether macro-F1 is within the margin and a larger loss excluded, and the figures in points.

    `whose` is written before the other's figure.
    """
    if f1.difference is None:
        return False, "macro-F1 could not be measured: no task has both labels on dev"
    text = f"macro-F1 on dev is {_points(f1.challenger)} against {whose}{_points(f1.champion)}, {gap(f1)}"
    if f1.low is not None and f1.high is not None and f1.low <= 0 <= f1.high:
        text += f", not significant on {prompts:,} dev prompts"
    if f1.difference < -margin - ROUNDING:
        worse = "worse" if f1.high is not None and f1.high < 0 else "cannot be told from worse"
        return False, f"{text}; {worse} (the margin is {_points(margin)})"
    if bound is None or lower is None:
        return True, text
    most = max(margin, bound.loss)
    if lower > -most:
        return True, f"{text}; a loss of more than {_points(most)} points is excluded"
    return (
        False,
        f"{text}; cannot be told: a loss of {_points(-lower)} points is not excluded (at most {_points(most)} may be)",
    )


_READ_FROM = {"direct": "direct answers", "traces": "traces", "linear": "the linear head"}


def _check_answers(challenger: Candidate, bound: float) -> tuple[bool, str]:
    """Return whether every task's unparsable answers are within their bound, and the worst task's share and source."""
    worst, task = max((_unparsable(verdicts), task) for task, verdicts in challenger.verdicts.items())
    source = _READ_FROM[challenger.sources.get(task, "direct")]
    said = f"{_share(worst)} of its {task} answers are unparsable (read from {source}; at most {_share(bound)} may be)"
    return worst <= bound, said


def _check_traces(unparsed: float | None, bound: float) -> tuple[bool, str]:
    """Return whether the traces without a whole answer are within their bound, and their share."""
    if unparsed is None:
        return True, "no trace was drawn on dev"
    return (
        unparsed <= bound + ROUNDING,
        f"{_share(unparsed)} of its traces have no whole answer (at most {_share(bound)})",
    )


def _of_traces(standing: float | None, challenger: float | None) -> Difference:
    change = None if standing is None or challenger is None else challenger - standing
    return Difference(standing, challenger, change, None, None)


def _check_refusal(refusal: Difference, bound: float) -> tuple[bool, str]:
    """Return whether over-refusal is within its bound, and the figures in points."""
    if refusal.difference is None:
        return True, "over-refusal was not measured: dev has no benign request"
    text = f"over-refusal is {_share(refusal.challenger)} against {_share(refusal.champion)}, {gap(refusal)}"
    passed = refusal.difference <= bound + ROUNDING
    return passed, text if passed else f"{text}; it may rise by {_points(bound)}"


def gap(difference: Difference) -> str:
    """Return a difference in points, with its interval where there is one."""
    text = f"{100 * (difference.difference or 0):+.1f} points"
    if difference.low is None or difference.high is None:
        return text
    return f"{text} (95 % interval {100 * difference.low:+.1f} to {100 * difference.high:+.1f})"


def _points(value: float | None) -> str:
    return f"{100 * (value or 0):.1f}"


def _share(value: float | None) -> str:
    return f"{_points(value)} %"
