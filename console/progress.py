"""Progress of a run: a live view on a terminal, plain lines elsewhere, and their sentences, which screens share.

Only reads: a transaction for each update, and none open in between, so that the log can be truncated.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from wizloop.console.tables import plain, rounds_table
from wizloop.console.words import phases_of
from wizloop.store import events
from wizloop.store.db import Store
from wizloop.store.overview import Overview, RoundSummary, overview, summaries
from wizloop.store.steps import Step

EVERY_SECONDS = 1.0
_EVENTS = 6
_PAGE = 200
_BAR = 24
_MARKS = {"done": "ok", "running": ">>", "failed": "!!", "pending": "  "}
_LIVE = ("created", "running", "paused")


def follow(workspace: Path, out: TextIO, over: Event, *, live: bool, after: int = 0) -> None:
    """Show a workspace's progress on `out` until `over` is set; plain lines for the events after the id `after`.

    A live view changes to lines if `out` stops being a terminal. Raises OSError if `out` cannot be written.
    """
    with Store.open(workspace, readonly=True) as store:
        if live:
            _follow_live(store, out, over)
            after = last_event_id(workspace)
        _follow_lines(store, out, over, after)


def last_event_id(workspace: Path) -> int:
    """Return the id of the newest event, or 0; a view after it shows only later ones."""
    with Store.open(workspace, readonly=True) as store, store.read() as db:
        last = events.last(db, 1)
    return last[-1].id if last else 0


def _follow_lines(store: Store, out: TextIO, over: Event, after: int) -> None:
    ended = False
    while not ended:
        ended = over.wait(EVERY_SECONDS)
        while new := _events_after(store, after):
            for event in new:
                print(event_line(event).plain, file=out, flush=True)
            after = new[-1].id


def _events_after(store: Store, after: int) -> list[events.Event]:
    with store.read() as db:
        return events.page(db, after, _PAGE)


def _follow_live(store: Store, out: TextIO, over: Event) -> None:
    # Refreshes from this thread: in a thread of Rich's own, the error of a lost terminal would go unnoticed.
    with Live(console=Console(file=out), auto_refresh=False, transient=True) as live:
        ended = False
        while not ended and out.isatty():
            ended = over.wait(EVERY_SECONDS)
            with store.read() as db:
                view = live_view(overview(db), summaries(db), events.last(db, _EVENTS), datetime.now(UTC))
            live.update(view, refresh=True)


def live_view(now: Overview, rounds: Sequence[RoundSummary], recent: Sequence[events.Event], at: datetime) -> Group:
    """Build the live view: headline, the round's phases, the rounds so far, money, recent events."""
    head = plain(headline(now, alive=True))
    head.stylize("bold")
    parts: list[Text | Table] = [head, *(_on_one_line(phase_line(step.phase, step, at, _BAR)) for step in now.phases)]
    if any(summary.evaluations for summary in rounds):
        parts += [Text(), rounds_table(rounds)]
    spent, left = money(now)
    parts += [Text(), plain(f"{spent}; {left}; {now.to_review} to review"), Text()]
    return Group(*parts, *(_on_one_line(event_line(event)) for event in recent))


def headline(now: Overview, alive: bool) -> str:
    """Return one sentence: the current phase and the next one, or why the run is not running."""
    run, step = now.run, now.step
    if not alive or run.state not in _LIVE:
        return f"{run.name}: {_ended(now)}"
    if run.state == "paused":
        return f"{run.name}: paused, {run.reason}"
    if step is None:
        return f"{run.name}: starting"
    where = f"round {now.round} of {run.rounds_wanted}" if now.round else "round 0 (teaching the seed)"
    requests = {
        "pause": "will pause after the current batch",
        "stop": "will stop after the current phase",
        "stop_now": "will stop after the current batch",
    }
    following = requests.get(run.wanted) or _next(now, step)
    waiting = f" - waiting: {now.controller.waiting}" if now.controller and now.controller.waiting else ""
    return f"{run.name}: {step.phase} in {where}; {following}{waiting}"


def _ended(now: Overview) -> str:
    run = now.run
    if run.state == "created":
        return "not started yet. Run `wizloop start`."
    if run.state in _LIVE and run.ended_at is None:
        return "stopped: the process died without a message (killed?). Run `wizloop start` to resume."
    return f"{run.state}: {run.reason}" if run.reason else run.state


def _next(now: Overview, step: Step) -> str:
    phases, round = phases_of(now.round), now.round or 0
    if step.phase in phases[:-1]:
        return f"next: {phases[phases.index(step.phase) + 1]}"
    return f"next: round {round + 1}" if round < now.run.rounds_wanted else "this is the last phase"


def phase_line(phase: str, step: Step | None, at: datetime, width: int) -> Text:
    """Build the line of a phase, begun or pending: mark, name, bar of `width` cells, rate, and time left or taken."""
    state = "pending" if step is None else step.state
    share = 0.0 if step is None else 1.0 if state == "done" else step.done / step.total if step.total else 0.0
    pace = "" if step is None else pace_of(step, at)
    line = plain(f"{_MARKS[state]} {phase:8} {bar(share, width)} {pace}".replace("\n", " "), 200)
    line.stylize({"running": "bold", "failed": "bold red", "pending": "dim"}.get(state, ""))
    return line


def bar(share: float, width: int) -> str:
    """Draw a share of 1 as a bar that needs no color: `████▌···`."""
    eighths = round(min(max(share, 0.0), 1.0) * width * 8)
    whole, rest = divmod(eighths, 8)
    part = " ▏▎▍▌▋▊▉"[rest] if rest else ""
    return ("█" * whole + part).ljust(width, "·")


def pace_of(step: Step, at: datetime) -> str:
    """Format progress, rate and time left, `120 of 480, 12.0 a second, 30 s left`; time and note of an ended phase.

    Before the first progress, the time and what is being done: `1 min 40 s, loading the base`.
    """
    if step.state != "running":
        took = (step.ended_at - step.started_at).total_seconds() if step.ended_at else 0.0
        return f"{duration(took)}  {step.note}"
    passed = (at - step.started_at).total_seconds()
    if not step.total or not step.done or passed <= 0:
        return ", ".join(filter(None, [duration(passed), step.note]))
    rate = step.done / passed
    left = duration((step.total - step.done) / rate)
    return f"{step.done:,} of {step.total:,}, {rate:,.1f} a second, {left} left"


def duration(seconds: float) -> str:
    """Format seconds: `42 s`, `3 min 20 s`, `2 h 5 min`."""
    whole = max(round(seconds), 0)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def money(now: Overview) -> tuple[str, str]:
    """Return what is spent and reserved, and what is left of the cap, as two phrases."""
    budget = now.budget
    spent = f"${budget.settled_micro / 1e6:.2f} spent, ${budget.reserved_micro / 1e6:.2f} reserved"
    if budget.cap_micro is None:
        return spent, "no cap"
    left = max(budget.cap_micro - budget.settled_micro - budget.reserved_micro, 0)
    return spent, f"${left / 1e6:.2f} left of ${budget.cap_micro / 1e6:.2f}"


def event_line(event: events.Event) -> Text:
    """Build the line of an event: local time, a word if it is a warning or an error, message."""
    word = {"info": "", "warn": "warning: ", "error": "error: "}[event.level]
    line = plain(f"{event.at.astimezone():%H:%M:%S} {word}{event.message}".replace("\n", " "))
    line.stylize({"info": "", "warn": "yellow", "error": "bold red"}[event.level])
    return line


def _on_one_line(text: Text) -> Text:
    text.no_wrap, text.overflow = True, "ellipsis"
    return text
