"""Where the verdict of a task is read: the guard's answer at once, the vote of its traces, or the linear head."""

from collections.abc import Mapping, Sequence
from typing import Final, Literal

from wizloop.loop.measures.confidence import Values
from wizloop.loop.words import Task

Source = Literal["direct", "traces", "linear"]
Written = Literal["auto", "direct", "traces"]
Answer = Literal["written", "direct", "traces", "linear", "auto"]

TRACES_MUST_GAIN: Final = 0.01
"""The gain in average precision that makes traces the source: they cost many times as much as a direct answer."""
NAMES: Final[Mapping[str, str]] = {
    "direct": "at once",
    "traces": "by its traces",
    "linear": "by the linear head",
}
"""How a guard answers, in words."""


def answered_ways(rows: Sequence[Values], task: Task) -> tuple[Source, ...]:
    """Return the ways that dev is calibrated for: the linear one only where it has answered every row."""
    linear = bool(rows) and all(row.get(f"p_linear_{task}") is not None for row in rows)
    return ("direct", "traces", "linear") if linear else ("direct", "traces")


def chosen(
    answer: Answer,
    written: Written,
    precision: Mapping[str, float | None],
    *,
    unread: float,
    max_unparsable: float,
) -> Source:
    """Return the source of a task's verdict, from the average precision of each way on dev.

    `written` chooses between direct answer and traces, of which the share `unread` could not be read; `answer` decides
    whether the linear head stands in their place. `auto` of both takes what is best.
    """
    own = _written(written, precision, unread, max_unparsable)
    if answer not in ("linear", "auto") or "linear" not in precision:
        return own
    linear, other = precision["linear"], precision[own]
    leads = linear is not None and (other is None or linear > other)
    return "linear" if answer == "linear" or leads else own


def _written(
    setting: Written, precision: Mapping[str, float | None], unread: float, max_unparsable: float
) -> Literal["direct", "traces"]:
    if setting != "auto":
        return setting
    direct, traces = precision["direct"], precision["traces"]
    if direct is None or traces is None or unread > max_unparsable:
        return "direct"
    return "traces" if traces > direct + TRACES_MUST_GAIN else "direct"
