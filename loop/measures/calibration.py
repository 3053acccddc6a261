"""What dev teaches of a guard's answers: which probability to believe and how far, its threshold, and which measure is
confidence.

Pure: signals and labels in, a calibration out. Nothing is asked of a guard here, and pool and test are never looked at.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import median
from typing import Final, Literal

from wizloop.loop.measures.deepconf import stop_threshold
from wizloop.loop.measures.platt import AS_IT_IS, Scale, fit, scaled, threshold
from wizloop.loop.measures.uncertainty import Cell, cell, choose_measure, margin
from wizloop.loop.words import LABELS, LETS_THROUGH, TASKS, Task

Source = Literal["direct", "traces"]
Values = Mapping[str, float | None]

OF_TRACES: Final = ("margin_traces", "votes", "deepconf_mean", "deepconf_tail", "deepconf_lowest", "deepconf_bottom")
OF_MEMBERS: Final = ("members_margin", "members_spread")
MEASURES: Final = ("margin_direct", *OF_TRACES, *OF_MEMBERS)
"""The candidates for the confidence. A sample without a trace, or a guard without members, has no value of some."""
TRACES_MUST_GAIN: Final = 0.01
"""Average precision by which the traces must beat the direct answer: they cost many times as much."""


@dataclass(frozen=True)
class Calibration:
    """What a guard's signals mean. The default is for a guard that was never measured on dev."""

    source: Mapping[str, Source] = field(default_factory=dict)
    """By task, which probability is the verdict's; direct where nothing is said."""
    thresholds: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """By task and source, the guard's own probability from which the positive label is the verdict; else 0.5."""
    scales: Mapping[str, Mapping[str, Scale]] = field(default_factory=dict)
    """By task and source, what makes the guard's own probability one to believe; else it is taken as it is."""
    measure: str = "margin_direct"
    """The confidence."""
    cut: float = 0.5
    """The confidence from which a verdict is confident: the median on dev."""
    own: str = "margin_direct"
    """The best measure of what a guard has that is used alone: no members, traces only where they are a verdict."""
    own_cut: float = 0.5
    auroc: Mapping[str, float | None] = field(default_factory=dict)
    """Of being right on dev, by candidate."""
    n: Mapping[str, int] = field(default_factory=dict)
    """Dev samples on which the candidate had a value."""
    average_precision: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    """By task and source."""
    window: int = 16
    """DeepConf's group in tokens."""
    cut_below: float | None = None
    """The group confidence below which a trace is cut while it is written."""

    def source_of(self, task: Task) -> Source:
        return self.source.get(task, "direct")

    def threshold(self, task: Task, source: Source) -> float:
        return self.thresholds.get(task, {}).get(source, 0.5)

    def believed(self, task: Task, source: Source, p: float) -> float:
        """The guard's own probability, scaled as dev taught."""
        return scaled(p, self.scales.get(task, {}).get(source, AS_IT_IS))

    @property
    def votes(self) -> bool:
        """Whether a verdict of some task is the vote of traces."""
        return "traces" in self.source.values()

    @property
    def needs_traces(self) -> bool:
        """Whether no verdict or no confidence can be had without traces."""
        return self.measure in OF_TRACES or self.votes

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str | None) -> "Calibration":
        """The calibration that `to_json` wrote; the default for None."""
        if text is None:
            return cls()
        said = json.loads(text)
        scales = said.pop("scales", {})
        pairs = {task: {source: tuple(pair) for source, pair in by.items()} for task, by in scales.items()}
        return cls(**said, scales=pairs)


@dataclass(frozen=True)
class DevRow:
    """A dev sample: its signals, the labels that are known, and which task decides whether it is let through."""

    signals: Values
    labels: Mapping[Task, str]
    main: Task


@dataclass(frozen=True)
class Judged:
    """The verdicts on one sample. A task without one is unparsed."""

    verdict: dict[str, str | None]
    probability: dict[str, float]
    """Of the positive label by task, scaled."""
    confidence: float
    cell: Cell | None
    """None where the main task has no verdict."""


def calibrate(
    rows: Sequence[DevRow],
    *,
    lowest_groups: Sequence[float],
    window: int,
    keep_top_percent: float,
    verdict: Literal["auto", "direct", "traces"] = "auto",
    max_unparsable: float = 0.05,
) -> Calibration:
    """Learn a calibration from dev. `lowest_groups` are those of all of its traces (DeepConf's warm-up).

    Raises ValueError for no rows.
    """
    if not rows:
        raise ValueError("there is no dev sample to calibrate on: import some into the split dev")
    source: dict[str, Source] = {}
    thresholds: dict[str, dict[str, float]] = {}
    scales: dict[str, dict[str, Scale]] = {}
    precision: dict[str, dict[str, float | None]] = {}
    for task in TASKS:
        labelled = [row for row in rows if task in row.labels]
        if not labelled:
            continue
        precision[task] = {name: _average_precision(labelled, task, name) for name in ("direct", "traces")}
        thresholds[task] = {name: _threshold(labelled, task, name) for name in ("direct", "traces")}
        scales[task] = {name: fit(*_known(labelled, task, name)) for name in ("direct", "traces")}
        source[task] = _source(labelled, task, precision[task], verdict, max_unparsable)
    known = Calibration(source, thresholds, scales, average_precision=precision, window=window)
    cut_below = stop_threshold(lowest_groups, keep_top_percent) if lowest_groups else None
    return _with_measure(known, rows, cut_below)


def traces_agree(found: Values, calibration: Calibration, task: Task) -> bool | None:
    """Whether a sample's traces and its direct answer come to the same verdict; None where it has no trace with one."""
    p = {source: found.get(f"p_{source}_{task}") for source in ("direct", "traces")}
    if p["direct"] is None or p["traces"] is None:
        return None
    return (p["direct"] >= calibration.threshold(task, "direct")) == (
        p["traces"] >= calibration.threshold(task, "traces")
    )


def judge(
    signals: Values, calibration: Calibration, tasks: Sequence[Task], main: Task, *, alone: bool = False
) -> Judged:
    """The verdicts on a sample, how sure they are, and the cell; `alone` is without the members."""
    verdict: dict[str, str | None] = {}
    probability: dict[str, float] = {}
    for task in tasks:
        source = calibration.source_of(task)
        p = signals.get(f"p_{source}_{task}")
        verdict[task] = None if p is None else _label(p, task, calibration.threshold(task, source))
        if p is not None:
            probability[task] = calibration.believed(task, source, p)
    measure, cut = (calibration.own, calibration.own_cut) if alone else (calibration.measure, calibration.cut)
    # Without a value (no trace could be read) a sample is as unsure as can be: no measure of traces goes below 0.
    confidence = value_of(measure, signals, main, calibration) or 0.0
    passed = verdict[main]
    where = None if passed is None else cell(confidence, passed == LETS_THROUGH[main], cut)
    return Judged(verdict, probability, confidence, where)


def value_of(measure: str, signals: Values, task: Task, calibration: Calibration) -> float | None:
    """One candidate's value for a sample, higher is surer; None where it has none. Raises ValueError for no candidate.

    `margin_*` is how far the probability is from its threshold, 0 at it and 1 at either end.
    """
    if measure in ("margin_direct", "margin_traces"):
        source: Source = "direct" if measure == "margin_direct" else "traces"
        p = signals.get(f"p_{source}_{task}")
        return None if p is None else _distance(p, calibration.threshold(task, source))
    if measure == "members_margin":
        mean = signals.get(f"members_mean_{task}")
        return None if mean is None else margin(mean)
    if measure == "members_spread":
        spread = signals.get(f"members_disagreement_{task}")
        return None if spread is None else -spread
    if measure not in MEASURES:
        raise ValueError(f"{measure!r} is no measure: use {', '.join(MEASURES)}")
    return signals.get(f"votes_{task}" if measure == "votes" else measure)


def _with_measure(known: Calibration, rows: Sequence[DevRow], cut_below: float | None) -> Calibration:
    """Choose the confidence by its AUROC of telling right verdicts on the main task from wrong ones."""
    judged = [(row, row.labels[row.main]) for row in rows if row.main in row.labels]
    right = [_verdict(row, row.main, known) == label for row, label in judged]
    candidates = {name: [value_of(name, row.signals, row.main, known) for row, _ in judged] for name in MEASURES}
    least = max(1, len(judged) // 2)
    best = choose_measure(candidates, right, least=least)
    # Alone a guard has no members, and draws traces only where they are the verdict.
    lacking = OF_MEMBERS if known.votes else (*OF_MEMBERS, *OF_TRACES)
    own = choose_measure({name: candidates[name] for name in MEASURES if name not in lacking}, right, least=least)
    measure, alone = best.measure or "margin_direct", own.measure or "margin_direct"
    return replace(
        known,
        measure=measure,
        cut=_median(candidates[measure]),
        own=alone,
        own_cut=_median(candidates[alone]),
        auroc=best.auroc,
        n=best.n,
        cut_below=cut_below,
    )


def _verdict(row: DevRow, task: Task, known: Calibration) -> str | None:
    source = known.source_of(task)
    p = row.signals.get(f"p_{source}_{task}")
    return None if p is None else _label(p, task, known.threshold(task, source))


def _label(p: float, task: Task, threshold: float) -> str:
    return LABELS[task][0 if p >= threshold else 1]


def _distance(p: float, threshold: float) -> float:
    return (p - threshold) / (1 - threshold) if p >= threshold else (threshold - p) / threshold


def _median(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None]
    return median(known) if known else 0.5


def _known(rows: Sequence[DevRow], task: Task, source: str) -> tuple[list[int], list[float]]:
    """Labels (1 is positive) and probabilities of the rows that have one of this source."""
    pairs = [(row.labels[task], row.signals.get(f"p_{source}_{task}")) for row in rows]
    known = [(int(label == LABELS[task][0]), p) for label, p in pairs if p is not None]
    return [label for label, _ in known], [p for _, p in known]


def _average_precision(rows: Sequence[DevRow], task: Task, source: str) -> float | None:
    from sklearn.metrics import average_precision_score

    labels, ps = _known(rows, task, source)
    return float(average_precision_score(labels, ps)) if 0 < sum(labels) < len(labels) else None


def _threshold(rows: Sequence[DevRow], task: Task, source: str) -> float:
    """The best threshold for the macro-F1 that dev lets expect; one half where dev has one class only."""
    labels, ps = _known(rows, task, source)
    return threshold(labels, ps) if 0 < sum(labels) < len(labels) else 0.5


def _source(
    rows: Sequence[DevRow], task: Task, precision: Mapping[str, float | None], asked: str, max_unparsable: float
) -> Source:
    if asked != "auto":
        return "direct" if asked == "direct" else "traces"
    unread = sum(row.signals.get(f"p_traces_{task}") is None for row in rows) / len(rows)
    direct, traces = precision["direct"], precision["traces"]
    if direct is None or traces is None or unread > max_unparsable:
        return "direct"
    return "traces" if traces > direct + TRACES_MUST_GAIN else "direct"
