"""Sentences and small drawings of what the store holds: all of it plain, none of it markup. It asks nothing."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from rich.text import Text

from wizloop.console.progress import pace_of
from wizloop.console.tables import plain
from wizloop.console.words import CELL_NAMES, TASKS, phases_of
from wizloop.store.browsing import Histogram
from wizloop.store.overview import Overview
from wizloop.store.steps import Step
from wizloop.tui.workspace import Confidence

_MARKS = {"done": "ok", "running": ">>", "failed": "!!", "to come": "  "}
_BLOCKS = " ▁▂▃▄▅▆▇█"
_LIVE = ("created", "running", "paused")


def headline(now: Overview, alive: bool) -> str:
    """One sentence: what it is doing and what comes next or, when it is not, why."""
    run, step = now.run, now.step
    if not alive:
        return f"{run.name}: {_ended(now)}"
    if run.state == "paused":
        return f"{run.name}: paused, {run.reason}"
    if step is None:
        return f"{run.name}: starting"
    where = f"round {now.round} of {run.rounds_wanted}" if now.round else "round 0, which teaches the seed"
    wish = {"pause": "; it pauses after this piece", "stop": "; it stops after this phase"}
    following = wish.get(run.wanted, "; it stops after this piece" if run.wanted == "stop_now" else _next(now))
    waits = f" - waiting: {now.controller.waiting}" if now.controller and now.controller.waiting else ""
    return f"{run.name}: {step.phase} in {where}{following}{waits}"


def _ended(now: Overview) -> str:
    run = now.run
    if run.state == "created":
        return "not started yet: `wizloop start` begins"
    if run.state in _LIVE:
        return "stopped: its process is gone without a word, killed perhaps; `wizloop start` goes on"
    return f"{run.state}: {run.reason}" if run.reason else run.state


def _next(now: Overview) -> str:
    phases = phases_of(now.round)
    step = now.step
    if step is None or step.phase not in phases:
        return ""
    at = phases.index(step.phase) + 1
    if at < len(phases):
        return f"; {phases[at]} comes next"
    return (
        f"; round {(now.round or 0) + 1} comes next"
        if (now.round or 0) < now.run.rounds_wanted
        else "; then it is done"
    )


def phase_lines(now: Overview, at: datetime, width: int) -> Text:
    """The round's phases, begun or to come, each with a bar, its rate and its time left or taken."""
    begun = {step.phase: step for step in now.phases}
    lines = [_phase_line(phase, begun.get(phase), at, width) for phase in phases_of(now.round)]
    return Text("\n").join(lines)


def _phase_line(phase: str, step: Step | None, at: datetime, width: int) -> Text:
    state = "to come" if step is None else step.state
    share = 0.0 if step is None else 1.0 if state == "done" else step.done / step.total if step.total else 0.0
    pace = "" if step is None else pace_of(step, at)
    line = plain(f"{_MARKS[state]} {phase:8} {bar(share, 8)} {pace}".replace("\n", " "), 200)
    line.stylize({"running": "bold", "failed": "bold red", "to come": "dim"}.get(state, ""))
    line.truncate(max(width, 10), overflow="ellipsis")
    return line


def bar(share: float, width: int) -> str:
    """A share of 1 as a bar: `████▌   ` without colour."""
    eighths = round(min(max(share, 0.0), 1.0) * width * 8)
    whole, rest = divmod(eighths, 8)
    part = " ▏▎▍▌▋▊▉"[rest] if rest else ""
    return ("█" * whole + part).ljust(width, "·")


def cell_lines(sure: Confidence | None) -> Text:
    """The four cells with their counts and shares, uncertain compliance first."""
    if sure is None:
        return plain("the guard has not read the pool yet")
    total = sum(sure.cells.values()) or 1
    lines = [
        f"{name:21}{sure.cells.get(cell, 0):>9,}{sure.cells.get(cell, 0) / total:>5.0%}"
        for cell, name in CELL_NAMES.items()
    ]
    if unjudged := sure.cells.get("", 0):
        lines.append(f"{'not judged yet':21}{unjudged:>9,}{unjudged / total:>5.0%}")
    text = plain("\n".join(lines))
    text.stylize("bold", 0, len(lines[0]))
    return text


def histogram_lines(sure: Confidence | None, height: int) -> Text:
    """The pool's confidence as bars, with a mark under the cut below which the guard counts as uncertain."""
    if sure is None or sure.histogram is None:
        return plain("no confidence measured yet")
    drawn = columns(sure.histogram.counts, height)
    scale = sure.histogram
    return plain("\n".join([*drawn, cut_line(scale, sure.cut), f"{sure.measure} of the pool by {sure.model}"]))


def columns(counts: Sequence[int], height: int) -> list[str]:
    """Counts as upright bars of so many lines, eight steps a line; what is not zero shows."""
    most = max(counts, default=0) or 1
    eighths = [max(round(n / most * height * 8), 1 if n else 0) for n in counts]
    rows = range(height - 1, -1, -1)
    return ["".join(_BLOCKS[min(max(n - 8 * row, 0), 8)] for n in eighths) for row in rows]


def cut_line(scale: Histogram, cut: float) -> str:
    """The axis: `0.02---^0.51--------0.99`, with ^ under the cut."""
    n = len(scale.counts)
    span = scale.high - scale.low
    at = min(max(int((cut - scale.low) / span * n), 0), n - 1) if span else 0
    low, high, mark = f"{scale.low:.2f}", f"{scale.high:.2f}", f"^{cut:.2f}"
    line = list(low + "-" * max(n - len(low) - len(high), 0) + high)
    start = min(at, max(len(line) - len(mark), 0)) if at + len(mark) > len(line) else at
    line[start : start + len(mark)] = mark
    return "".join(line)


def verdicts(verdict: Mapping[str, str | None] | None) -> str:
    """`request harmful, response unharmful`, or that there is none."""
    if verdict is None:
        return "unparsed"
    return ", ".join(f"{task} {verdict[task]}" for task in TASKS if verdict.get(task)) or "no verdict"


def money(now: Overview) -> tuple[str, str]:
    """What is spent and reserved, and what is left of the cap."""
    held = now.budget
    first = f"${held.settled_micro / 1e6:.2f} spent, ${held.reserved_micro / 1e6:.2f} reserved"
    if held.cap_micro is None:
        return first, "no cap"
    left = max(held.cap_micro - held.settled_micro - held.reserved_micro, 0)
    return first, f"${left / 1e6:.2f} left of ${held.cap_micro / 1e6:.2f}"
