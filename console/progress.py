"""The night as it goes, beside a running controller: a live screen on a terminal, plain lines elsewhere.

It only reads: a transaction for each look, and none kept open in between, so that the log can be emptied.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from wizloop.console.tables import plain, rounds_table
from wizloop.store import events
from wizloop.store.db import Store
from wizloop.store.overview import Overview, RoundSummary, overview, summaries
from wizloop.store.steps import Step

EVERY_SECONDS = 1.0
_EVENTS = 6
_PAGE = 200
_MARKS = {"done": "ok", "running": ">>", "failed": "!!"}


def follow(workspace: Path, out: TextIO, over: Event, *, live: bool, after: int = 0) -> None:
    """Show on `out` what happens in a workspace until `over` is set; plain lines of the events after the id `after`.

    A live screen becomes lines when `out` is no terminal any more. Raises OSError when `out` cannot be written to.
    """
    with Store.open(workspace, readonly=True) as store:
        if live:
            _follow_live(store, out, over)
            after = last_event_id(workspace)
        _follow_lines(store, out, over, after)


def last_event_id(workspace: Path) -> int:
    """Where a view begins that shows only what is still to come."""
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
    # It draws when it has looked and not from a thread of its own, where nobody would hear of a terminal that is gone.
    with Live(console=Console(file=out), auto_refresh=False, transient=True) as live:
        ended = False
        while not ended and out.isatty():
            ended = over.wait(EVERY_SECONDS)
            with store.read() as db:
                screen = screen_of(overview(db), summaries(db), events.last(db, _EVENTS), datetime.now(UTC))
            live.update(screen, refresh=True)


def screen_of(now: Overview, rounds: Sequence[RoundSummary], lately: Sequence[events.Event], at: datetime) -> Group:
    """The whole screen: what it does, the round's phases, the rounds so far, money, the last events."""
    parts: list[Text | Table] = [_headline(now), phases_table(now.phases, at)]
    if any(summary.evaluations for summary in rounds):
        parts += [Text(), rounds_table(rounds)]
    parts += [Text(), plain(money_line(now)), Text()]
    parts += [_on_one_line(event_line(event)) for event in lately]
    return Group(*parts)


def phases_table(steps: Sequence[Step], at: datetime) -> Table:
    """The phases that began in this round, each with its bar, rate and time left or taken."""
    table = Table.grid(padding=(0, 1))
    for step in steps:
        share = 1.0 if step.state == "done" else step.done / step.total if step.total else 0.0
        bar = ProgressBar(total=1.0, completed=share, width=24)
        table.add_row(_MARKS[step.state], plain(step.phase), bar, _on_one_line(plain(pace_of(step, at), 200)))
    return table


def pace_of(step: Step, at: datetime) -> str:
    """How far a phase is, how fast, and when it ends: `120 of 480, 12.0 a second, 30 s left`; its note when done."""
    if step.state != "running":
        took = (step.ended_at - step.started_at).total_seconds() if step.ended_at else 0.0
        return f"{duration(took)}  {step.note}"
    passed = (at - step.started_at).total_seconds()
    if not step.total or not step.done or passed <= 0:
        return duration(passed)
    rate = step.done / passed
    left = duration((step.total - step.done) / rate)
    return f"{step.done:,} of {step.total:,}, {rate:,.1f} a second, {left} left"


def duration(seconds: float) -> str:
    """Seconds as a person says them: `42 s`, `3 min 20 s`, `2 h 5 min`."""
    whole = max(round(seconds), 0)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def money_line(now: Overview) -> str:
    """What was spent and is held back, and what waits for a person."""
    money = now.budget
    spent = f"${money.settled_micro / 1e6:.2f} spent, ${money.reserved_micro / 1e6:.2f} reserved"
    cap = "" if money.cap_micro is None else f" of ${money.cap_micro / 1e6:.2f}"
    return f"{spent}{cap}; {now.to_review} waiting for review"


def event_line(event: events.Event) -> Text:
    """One event: local time, a word where it is not good news, the sentence."""
    word = {"info": "", "warn": "warning: ", "error": "error: "}[event.level]
    style = {"info": "", "warn": "yellow", "error": "bold red"}[event.level]
    line = plain(f"{event.at.astimezone():%H:%M:%S} {word}{event.message}".replace("\n", " "))
    line.stylize(style)
    return line


def _on_one_line(text: Text) -> Text:
    text.no_wrap, text.overflow = True, "ellipsis"
    return text


def _headline(now: Overview) -> Text:
    """One sentence: what it is doing, and what comes of it."""
    run, step = now.run, now.step
    if run.state != "running" or step is None:
        sentence = f"{run.name}: {run.state}" + (f", {run.reason}" if run.reason else "")
    else:
        rounds = f"round {now.round} of {run.rounds_wanted}" if now.round else "round 0, which teaches the seed"
        sentence = f"{run.name}: {step.phase} in {rounds}"
    if now.controller is not None and now.controller.waiting:
        sentence += f" - waiting: {now.controller.waiting}"
    line = plain(sentence)
    line.stylize("bold")
    return line
