"""Calibration on dev: probability source, Platt scale, threshold and confidence measure.

Pure functions from signals and labels to a calibration; only dev is used, never pool or test.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import median
from typing import Any, Final, Literal, NamedTuple

import numpy as np

from wizloop.loop.measures.answer_choice import Answer, Source, Written, answered_ways, chosen
from wizloop.loop.measures.confidence import OF_LINEAR, OF_OTHERS, OF_TRACES, Values, candidates_of, value_of
from wizloop.loop.measures.deepconf import stop_threshold
from wizloop.loop.measures.operating_points import BEST, DECIDING, reached, threshold_for
from wizloop.loop.measures.platt import UNSCALED, Scale, fit, scaled
from wizloop.loop.measures.promised_error import Cut, Decision, cut_of_prompts, decide
from wizloop.loop.measures.uncertainty import Cell, cell, choose_measure
from wizloop.loop.words import DEFAULT, Declaration, Task, share_of

YOUNGER: Final = ("operating_point", "reached", "let_through", "cuts")
"""The fields that a recipe without their keys leaves as they were."""
_BY_SOURCE: Final = ("thresholds", "scales", "average_precision", "reached", "cuts")
POINTS: Final = 21
"""Quantiles on dev by which one measure's values are read as another's."""


class Reading(NamedTuple):
    """How a task's verdict is read: positive from `threshold` on."""

    source: Source
    threshold: float
    """On the scale of the probabilities that are shown."""
    scale: Literal["raw", "platt"]
    raw: float
    """The threshold as a raw probability."""


@dataclass(frozen=True)
class Calibration:
    """How to read a guard's signals. The default is for a guard that was never measured on dev."""

    source: Mapping[str, Source] = field(default_factory=dict)
    """Source of the verdict by task; the default is direct."""
    thresholds: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """By task and source, the raw probability from which the verdict is the positive label; the default is 0.5."""
    scales: Mapping[str, Mapping[str, Scale]] = field(default_factory=dict)
    """By task and source, the Platt scale of the raw probability; the default changes nothing."""
    measure: str = "margin_direct"
    """The measure used as confidence."""
    cut: float = 0.5
    """The confidence from which a verdict is confident: the median on dev."""
    rest: str = "margin_direct"
    """The best measure of a sample without traces, which ranks it where `measure` needs them."""
    points: Sequence[float] = ()
    """Quantiles of `measure` on dev, empty where it needs no traces."""
    rest_points: Sequence[float] = ()
    """Quantiles of `rest` on dev: a value of it counts as the one of `measure` at the same quantile."""
    own: str = "margin_direct"
    """The best measure of a guard used alone: without members, with traces only where they are the source."""
    own_cut: float = 0.5
    auroc: Mapping[str, float | None] = field(default_factory=dict)
    """AUROC of being right on dev, by candidate."""
    n: Mapping[str, int] = field(default_factory=dict)
    """Dev samples on which the candidate has a value."""
    average_precision: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    """By task and source."""
    window: int = 16
    """DeepConf's group in tokens."""
    cut_below: float | None = None
    """The group confidence below which a trace is cut while it is written."""
    operating_point: str = BEST
    """How dev set the thresholds."""
    reached: Mapping[str, Mapping[str, Mapping[str, Mapping[str, Any]]]] = field(default_factory=dict)
    """By task and source, the rates on dev at the threshold; only for an operating point with a rate."""
    let_through: float | None = None
    """The share of harmful samples that may be let through; None defers nothing."""
    cuts: Mapping[str, Mapping[str, Cut]] = field(default_factory=dict)
    """By task and source, the cut that keeps that promise."""
    categories: Mapping[str, float] = field(default_factory=dict)
    """By category, the probability from which a text is in it; the default is 0.5."""
    declared: Declaration = DEFAULT
    """The label words; the recipe's, and never stored with the calibration."""

    def source_of(self, task: Task) -> Source:
        """Return the source of a task's verdict."""
        return self.source.get(task, "direct")

    def threshold(self, task: Task, source: Source) -> float:
        """Return the raw probability from which the verdict is the positive label."""
        return self.thresholds.get(task, {}).get(source, 0.5)

    def scaled(self, task: Task, source: Source, p: float) -> float:
        """Return the raw probability after Platt scaling."""
        return scaled(p, self.scales.get(task, {}).get(source, UNSCALED))

    def reading(self, task: Task, source: Source | None = None) -> Reading:
        """Return source, threshold and scale of a task, by default of the source of its verdicts."""
        source = source or self.source_of(task)
        raw, scale = self.threshold(task, source), self.scales.get(task, {}).get(source, UNSCALED)
        return Reading(source, scaled(raw, scale), "raw" if scale == UNSCALED else "platt", raw)

    def operating(self) -> dict[str, Any]:
        """Return operating point and promise with what dev says of them, as JSON; empty where neither is asked for."""
        fields = asdict(self)
        return {name: fields[name] for name in YOUNGER if fields[name] != getattr(Calibration, name, {})}

    def decision(self, signals: Values, task: Task) -> Decision | None:
        """Return what is done with a sample by a task; None without a promise, or for a task that decides nothing."""
        if self.let_through is None or task not in DECIDING:
            return None
        source = self.source_for(signals, task)
        cut = self.cuts.get(task, {}).get(source)
        p, below = signals.get(f"p_{source}_{task}"), 0.0 if cut is None else cut.below
        return decide(p, self.threshold(task, source), below)

    def source_for(self, signals: Values, task: Task) -> Source:
        """Return the source of a sample's verdict: without traces, or without a head's answer, the direct one."""
        source = self.source_of(task)
        given = f"p_linear_{task}" in signals if source == "linear" else _has_traces(signals)
        return source if given else "direct"

    def verdict(self, signals: Values, task: Task) -> str | None:
        """Return the verdict on a task; None where its source has no probability."""
        return self.verdict_by(signals, task, self.source_for(signals, task))

    def direct_verdict(self, signals: Values, task: Task) -> str:
        """Return the verdict of the direct answer alone."""
        return self.verdict_by(signals, task, "direct") or self.declared[task][-1]

    def verdict_by(self, signals: Values, task: Task, source: Source) -> str | None:
        """Return the verdict on a task as one source gives it; None where it has no probability."""
        p, words = signals.get(f"p_{source}_{task}"), self.declared[task]
        if p is None or p >= self.threshold(task, source):
            return None if p is None else words[0]
        # Of more than two labels the likeliest of the others, the stricter one of equals.
        shares = [signals.get(f"p_{source}_{share_of(task, label)}") or 0.0 for label in words[1:]]
        return words[-1] if len(words) == 2 else words[1 + shares.index(max(shares))]

    def apply(self, signals: Values, tasks: Sequence[Task], main: Task, *, alone: bool = False) -> "Judgement":
        """Turn a sample's signals into verdicts, probabilities, confidence and cell; `alone` ignores the members."""
        verdict: dict[str, str | None] = {task: self.verdict(signals, task) for task in tasks}
        sources = {task: self.source_for(signals, task) for task in tasks}
        ps = {task: signals.get(f"p_{source}_{task}") for task, source in sources.items()}
        probability: dict[str, float] = {
            task: self.scaled(task, sources[task], p) for task, p in ps.items() if p is not None
        }
        measure, cut = (self.own, self.own_cut) if alone else (self.measure, self.cut)
        if measure in OF_TRACES and not _has_traces(signals):
            confidence = self.without_traces(signals, main)
        else:
            # A sample without a value (no readable trace) is as unsure as possible: no measure of traces is below 0.
            confidence = value_of(measure, signals, main, self) or 0.0
        passed = verdict[main]
        where = None if passed is None else cell(confidence, self.declared.passes(main, passed), cut)
        decisions: dict[str, Decision] = {
            task: found for task in tasks if (found := self.decision(signals, task)) is not None
        }
        return Judgement(verdict, probability, confidence, where, decisions)

    def without_traces(self, signals: Values, task: Task) -> float:
        """Return the confidence of a sample that was given no traces, on the scale of `measure`."""
        measure = self.rest if self.measure in OF_TRACES else self.measure
        value = value_of(measure, signals, task, self) or 0.0
        if measure == self.measure or not self.points:
            return value
        return float(np.interp(value, self.rest_points, self.points))

    @property
    def votes(self) -> bool:
        """Whether the verdict of some task is the vote of traces."""
        return "traces" in self.source.values()

    @property
    def reads_linear(self) -> bool:
        """Whether the verdict of some task is the linear head's."""
        return "linear" in self.source.values()

    def is_only_linear(self, tasks: Collection[Task]) -> bool:
        """Return whether these tasks' verdicts, and the confidence of a guard alone, are the linear head's."""
        return self.own == OF_LINEAR and all(self.source_of(task) == "linear" for task in tasks)

    @property
    def needs_traces(self) -> bool:
        """Whether a verdict or the confidence needs traces."""
        return self.measure in OF_TRACES or self.votes

    def to_json(self) -> str:
        """Return the calibration as JSON, without the keys that are younger than most runs where they say nothing."""
        left = (*YOUNGER, "categories", "declared")
        fields = {name: value for name, value in asdict(self).items() if name not in left}
        named = {"categories": dict(self.categories)} if self.categories else {}
        return json.dumps(fields | self.operating() | named, sort_keys=True)

    @classmethod
    def from_json(cls, text: str | None, declared: Declaration = DEFAULT) -> "Calibration":
        """Read what `to_json` wrote; None gives the default."""
        if text is None:
            return cls(declared=declared)
        fields = json.loads(text)
        scales = fields.pop("scales", {})
        pairs = {task: {source: tuple(pair) for source, pair in by.items()} for task, by in scales.items()}
        fields |= {name: tuple(fields.get(name, ())) for name in ("points", "rest_points")}
        cuts = fields.pop("cuts", {})
        fields["cuts"] = {task: {source: Cut(**cut) for source, cut in by.items()} for task, by in cuts.items()}
        return cls(**fields, scales=pairs, declared=declared)


@dataclass(frozen=True)
class DevRow:
    """A dev sample: its signals, its known labels, and the task that decides whether it is let through."""

    signals: Values
    labels: Mapping[Task, str]
    main: Task
    prompt: str | None = None
    """Rows of one prompt are not independent; None is a prompt of its own."""


@dataclass(frozen=True)
class Judgement:
    """A calibrated judgement of one sample. A task whose verdict is None is unparsed."""

    verdict: dict[str, str | None]
    probability: dict[str, float]
    """P(positive) by task, scaled."""
    confidence: float
    cell: Cell | None
    """None where the main task has no verdict."""
    decisions: Mapping[str, Decision] = field(default_factory=dict)
    """What is done with the sample by task; empty without a promise."""


def calibrate(
    rows: Sequence[DevRow],
    *,
    lowest_groups: Sequence[float],
    window: int,
    keep_top_percent: float,
    verdict: Written = "auto",
    answer: Answer = "written",
    max_unparsable: float = 0.05,
    operating_point: str = BEST,
    let_through: float | None = None,
    declared: Declaration = DEFAULT,
) -> Calibration:
    """Learn a calibration from dev; `lowest_groups` are those of all its traces (DeepConf's warm-up).

    Raises ValueError for no rows.
    """
    if not rows:
        raise ValueError("no dev sample to calibrate on: import some into the split dev")
    source: dict[str, Source] = {}
    thresholds: dict[str, dict[str, float]] = {}
    scales: dict[str, dict[str, Scale]] = {}
    rates: dict[str, dict[str, dict[str, dict[str, Any]]]] = {}
    cuts: dict[str, dict[str, Cut]] = {}
    precision: dict[str, dict[str, float | None]] = {}
    for task in declared.tasks:
        labeled = [row for row in rows if task in row.labels]
        if not labeled:
            continue
        ways = answered_ways([row.signals for row in labeled], task)
        known = {name: _known(labeled, task, name, declared) for name in ways}
        precision[task] = {name: _average_precision(*pairs) for name, pairs in known.items()}
        thresholds[task] = {name: threshold_for(operating_point, task, *pairs) for name, pairs in known.items()}
        if operating_point != BEST and task in DECIDING:
            rates[task] = {name: reached(*pairs, thresholds[task][name]) for name, pairs in known.items() if pairs[0]}
        if let_through is not None and task in DECIDING:
            positive = declared.positive(task)
            cuts[task] = {
                name: _cut(labeled, task, name, let_through, positive) for name, pairs in known.items() if pairs[0]
            }
        scales[task] = {name: fit(*pairs) for name, pairs in known.items()}
        unread = sum(row.signals.get(f"p_traces_{task}") is None for row in labeled) / len(labeled)
        source[task] = chosen(answer, verdict, precision[task], unread=unread, max_unparsable=max_unparsable)
    cut_below = stop_threshold(lowest_groups, keep_top_percent) if lowest_groups else None
    learned = Calibration(
        source,
        thresholds,
        scales,
        average_precision=precision,
        window=window,
        cut_below=cut_below,
        operating_point=operating_point,
        reached=rates,
        let_through=let_through,
        cuts=cuts,
        declared=declared,
    )
    return _with_measure(learned, rows)


def without_linear(known: Calibration, rows: Sequence[DevRow]) -> Calibration:
    """Return a calibration as of a guard without the linear head: what that answered is answered at once."""
    source: dict[str, Source] = {task: "direct" if one == "linear" else one for task, one in known.source.items()}
    left: dict[str, Any] = {
        name: {task: {way: one for way, one in by.items() if way != "linear"} for task, by in of.items()}
        for name, of in ((name, getattr(known, name)) for name in _BY_SOURCE)
    }
    found = replace(known, source=source, **left)
    return _with_measure(found, rows) if known.reads_linear else found


def traces_agree(signals: Values, calibration: Calibration, task: Task) -> bool | None:
    """Return whether traces and direct answer give the same verdict; None where no trace has a verdict."""
    direct, traces = signals.get(f"p_direct_{task}"), signals.get(f"p_traces_{task}")
    if direct is None or traces is None:
        return None
    return (direct >= calibration.threshold(task, "direct")) == (traces >= calibration.threshold(task, "traces"))


def _with_measure(known: Calibration, rows: Sequence[DevRow]) -> Calibration:
    """Choose the confidence measure by its AUROC of separating right from wrong verdicts on the main task."""
    labeled = [row for row in rows if row.main in row.labels]
    right = [known.verdict(row.signals, row.main) == row.labels[row.main] for row in labeled]
    candidates = candidates_of([(row.signals, row.main) for row in labeled], known)
    least = max(1, len(labeled) // 2)
    best = choose_measure(candidates, right, least=least)
    # Alone a guard has nobody beside it, and draws traces only where they are the source.
    lacking = OF_OTHERS if known.votes else (*OF_OTHERS, *OF_TRACES)
    own = choose_measure({name: candidates[name] for name in candidates if name not in lacking}, right, least=least)
    rest = choose_measure({name: candidates[name] for name in candidates if name not in OF_TRACES}, right, least=least)
    usual = OF_LINEAR if set(known.source.values()) == {"linear"} else "margin_direct"
    measure, alone, without = (one.measure or usual for one in (best, own, rest))
    needs = measure in OF_TRACES
    return replace(
        known,
        measure=measure,
        cut=_median(candidates[measure]),
        rest=without,
        points=_quantiles(candidates[measure]) if needs else (),
        rest_points=_quantiles(candidates[without]) if needs else (),
        own=alone,
        own_cut=_median(candidates[alone]),
        auroc=best.auroc,
        n=best.n,
    )


def _median(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None]
    return median(known) if known else 0.5


def _quantiles(values: Sequence[float | None]) -> tuple[float, ...]:
    known = [value for value in values if value is not None]
    return tuple(map(float, np.quantile(known, np.linspace(0, 1, POINTS)))) if known else ()


def _has_traces(signals: Values) -> bool:
    """Return whether a sample was given traces, readable or not."""
    return any(name.startswith("p_traces_") for name in signals)


def _known(rows: Sequence[DevRow], task: Task, source: str, declared: Declaration) -> tuple[list[int], list[float]]:
    """Return labels (1 is positive) and probabilities of the rows that have a probability of this source."""
    pairs = [(row.labels[task], row.signals.get(f"p_{source}_{task}")) for row in rows]
    known = [(int(label == declared.positive(task)), p) for label, p in pairs if p is not None]
    return [label for label, _ in known], [p for _, p in known]


def _cut(rows: Sequence[DevRow], task: Task, source: str, promise: float, positive: str) -> Cut:
    known = ((row, row.signals.get(f"p_{source}_{task}")) for row in rows)
    given = [(row.prompt, row.labels[task] == positive, p) for row, p in known if p is not None]
    return cut_of_prompts(given, promise)


def _both(labels: Sequence[int]) -> bool:
    """Return whether both classes occur."""
    return 0 < sum(labels) < len(labels)


def _average_precision(labels: Sequence[int], ps: Sequence[float]) -> float | None:
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(labels, ps)) if _both(labels) else None
