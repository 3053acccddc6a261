"""Small text drawings and phrases of the store's contents. Pure: plain text, no markup, no queries."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from rich.text import Text

from wizloop.console.progress import phase_line
from wizloop.console.tables import plain
from wizloop.console.words import CELL_NAMES, TASKS, phases_of
from wizloop.store.browsing import Histogram
from wizloop.store.overview import Overview
from wizloop.tui.workspace import Confidence

_BLOCKS = " ▁▂▃▄▅▆▇█"
_BAR = 8


def phase_lines(now: Overview, at: datetime, width: int, height: int) -> Text:
    """Build a line for each phase of the round, begun or pending, truncated to `width` cells.

    If they are more than `height`, finished ones are left out, the first ones first.
    """
    begun, phases = {step.phase: step for step in now.phases}, phases_of(now.round)
    unfinished = [at for at, phase in enumerate(phases) if phase not in begun or begun[phase].state != "done"]
    first = min(max(len(phases) - max(height, 1), 0), unfinished[0] if unfinished else len(phases))
    return truncated([phase_line(phase, begun.get(phase), at, _BAR) for phase in phases[first:]], width)


def truncated(lines: Sequence[Text], width: int) -> Text:
    """Join lines, each cut to `width` cells with an ellipsis."""
    for line in lines:
        line.truncate(max(width, 10), overflow="ellipsis")
    return Text("\n").join(lines)


def cell_lines(confidence: Confidence | None) -> Text:
    """Build the four cells with their counts and shares, uncertain compliance first."""
    if confidence is None:
        return plain("the pool is not classified yet")
    cells = confidence.cells
    total = sum(cells.values()) or 1
    names = {**CELL_NAMES, **({"": "not judged yet"} if cells.get("") else {})}
    lines = [f"{name:21}{cells.get(cell, 0):>9,}{cells.get(cell, 0) / total:>5.0%}" for cell, name in names.items()]
    text = plain("\n".join(lines))
    text.stylize("bold", 0, len(lines[0]))
    return text


def histogram_lines(confidence: Confidence | None, height: int) -> Text:
    """Draw the pool's confidence as bars, with a mark under the threshold below which the guard is uncertain."""
    if confidence is None or confidence.histogram is None:
        return plain("no confidence measured yet")
    scale, about = confidence.histogram, f"{confidence.measure} of the pool by {confidence.model}"
    return plain("\n".join([*_columns(scale.counts, height), _axis(scale, confidence.cut), about]))


def _columns(counts: Sequence[int], height: int) -> list[str]:
    """Draw counts as upright bars `height` lines high, in steps of an eighth; a count above zero is visible."""
    most = max(counts, default=0) or 1
    eighths = [max(round(n / most * height * 8), 1 if n else 0) for n in counts]
    rows = range(height - 1, -1, -1)
    return ["".join(_BLOCKS[min(max(n - 8 * row, 0), 8)] for n in eighths) for row in rows]


def _axis(scale: Histogram, cut: float) -> str:
    """Draw the axis `0.02---^0.51--------0.99`, with ^ under the threshold."""
    n = len(scale.counts)
    span = scale.high - scale.low
    at = min(max(int((cut - scale.low) / span * n), 0), n - 1) if span else 0
    low, high, mark = f"{scale.low:.2f}", f"{scale.high:.2f}", f"^{cut:.2f}"
    line = list(low + "-" * max(n - len(low) - len(high), 0) + high)
    start = min(at, max(len(line) - len(mark), 0)) if at + len(mark) > len(line) else at
    line[start : start + len(mark)] = mark
    return "".join(line)


def verdicts(verdict: Mapping[str, str | None] | None) -> str:
    """Format a verdict: `request harmful, response unharmful`, `no verdict`, or `unparsed` for None."""
    if verdict is None:
        return "unparsed"
    return ", ".join(f"{task} {verdict[task]}" for task in TASKS if verdict.get(task)) or "no verdict"
