"""The candidates for the confidence of a verdict: each is a number of a sample's signals, higher is more confident."""

from collections.abc import Mapping, Sequence
from typing import Final, Literal, Protocol

from wizloop.loop.measures.uncertainty import margin
from wizloop.loop.words import Declaration, Task

Values = Mapping[str, float | None]

OF_TRACES: Final = ("margin_traces", "votes", "deepconf_mean", "deepconf_tail", "deepconf_lowest", "deepconf_bottom")
OF_MEMBERS: Final = ("members_margin", "members_spread")
OF_COMMITTEE: Final = ("committee_p", "committee_margin", "committee_spread")
OF_OTHERS: Final = (*OF_MEMBERS, *OF_COMMITTEE)
"""A guard used alone has none of these."""
OF_LINEAR: Final = "margin_linear"
"""A candidate where some verdict is the linear head's."""
MEASURES: Final = ("margin_direct", *OF_TRACES, *OF_OTHERS, OF_LINEAR)
"""All candidates. Without traces, members or a committee a sample has no value of some."""


class Reads(Protocol):
    """The part of a calibration that a measure needs."""

    @property
    def declared(self) -> Declaration:
        """The label words."""

    @property
    def reads_linear(self) -> bool:
        """Whether the verdict of some task is the linear head's."""

    def threshold(self, task: Task, source: Literal["direct", "traces", "linear"]) -> float:
        """Return the raw probability from which the verdict is the positive label."""

    def verdict(self, signals: Values, task: Task) -> str | None:
        """Return the verdict on a task."""


_MARGINS: Final[Mapping[str, Literal["direct", "traces", "linear"]]] = {
    "margin_direct": "direct",
    "margin_traces": "traces",
    OF_LINEAR: "linear",
}


def value_of(measure: str, signals: Values, task: Task, known: Reads) -> float | None:
    """Return a measure's value for a sample, higher is more confident; None where it has none.

    `margin_*` is the distance of the probability from its threshold: 0 at the threshold, 1 at either end. Raises
    ValueError for an unknown measure.
    """
    if measure in _MARGINS:
        source = _MARGINS[measure]
        p = signals.get(f"p_{source}_{task}")
        return None if p is None else _distance(p, known.threshold(task, source))
    if measure == "members_margin":
        mean = signals.get(f"members_mean_{task}")
        return None if mean is None else margin(mean)
    if measure == "members_spread":
        spread = signals.get(f"members_disagreement_{task}")
        return None if spread is None else -spread
    if measure in OF_COMMITTEE:
        return _of_committee(measure, signals, task, known)
    if measure not in MEASURES:
        raise ValueError(f"unknown measure {measure!r}: use {', '.join(MEASURES)}")
    return signals.get(f"votes_{task}" if measure == "votes" else measure)


def candidates_of(samples: Sequence[tuple[Values, Task]], known: Reads) -> dict[str, list[float | None]]:
    """Return each candidate's values on samples with their main task.

    The committee's are left out without one, and the linear head's unless some verdict is read from it.
    """
    found = {name: [value_of(name, signals, task, known) for signals, task in samples] for name in MEASURES}
    if not known.reads_linear:
        del found[OF_LINEAR]
    return {name: values for name, values in found.items() if name not in OF_COMMITTEE or set(values) != {None}}


def _of_committee(measure: str, signals: Values, task: Task, known: Reads) -> float | None:
    """Return how sure the committee is, or with `committee_p` how likely it finds the guard's own verdict."""
    p, spread = signals.get(f"committee_p_{task}"), signals.get(f"committee_disagreement_{task}")
    if p is None or spread is None:
        return None
    if measure == "committee_p":
        return p if known.verdict(signals, task) == known.declared.positive(task) else 1 - p
    return signals.get(f"committee_margin_{task}") if measure == "committee_margin" else 1 - 2 * spread


def _distance(p: float, threshold: float) -> float:
    return (p - threshold) / (1 - threshold) if p >= threshold else (threshold - p) / threshold
