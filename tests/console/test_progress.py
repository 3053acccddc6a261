"""The plain and the live view of a night, on a real store, and what each line of them says."""

import io
import os
import pty
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console

from wizloop.console.progress import duration, event_line, follow, last_event_id, live_view, pace_of
from wizloop.console.tables import rounds_table
from wizloop.store import events
from wizloop.store.db import Store
from wizloop.store.overview import base_summary, overview, summaries
from wizloop.store.steps import Step

BEGAN = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)


def printed(content: object, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    console.print(content)
    out = console.file
    assert isinstance(out, io.StringIO)
    return out.getvalue()


def screen(workspace: Path, width: int = 80) -> str:
    with Store.open(workspace, readonly=True) as store, store.read() as db:
        content = live_view(overview(db), summaries(db), events.last(db, 6), BEGAN + timedelta(minutes=1))
    return printed(content, width)


def test_the_screen_says_where_the_run_stands_and_fits_in_80_columns(after_a_night: Path) -> None:
    lines = screen(after_a_night).splitlines()
    assert lines[0] == "demo: done: the one round is done"
    assert any(line.startswith("ok evaluate") for line in lines)
    assert "$0.50 spent, $0.00 reserved; $4.50 left of $5.00; 2 to review" in lines
    assert max(map(len, lines)) <= 80
    assert any("75.0 (70-80)" in line for line in lines)


def test_text_of_a_pool_is_shown_and_does_nothing(after_a_night: Path) -> None:
    said = screen(after_a_night, width=200)
    assert not {"\x1b", "\x07", "\u202e"} & set(said)
    assert "a [bold]process[/nope]" in said


def test_the_table_has_a_row_for_each_round_and_benchmark(after_a_night: Path) -> None:
    with Store.open(after_a_night, readonly=True) as store, store.read() as db:
        said = printed(rounds_table(summaries(db)), width=120)
    head, *first, second, third = [line.split() for line in said.splitlines()]
    assert head == ["round", "F1", "on", "request", "taught", "gate"]
    assert first == [["0", "dev", "70.0", "(65-75)", "0", "passed"], ["test", "70.0", "(65-75)"]]
    assert second == ["1", "dev", "75.0", "(70-80)", "2,", "$0.50", "passed"]
    assert third == ["test", "75.0", "(70-80)"]


def test_the_base_comes_first_and_baselines_stand_below_the_test_set(after_a_night: Path) -> None:
    with Store.open(after_a_night, readonly=True) as store, store.read() as db:
        said = printed(rounds_table(summaries(db), base_summary(db)), width=120)
    _, *lines = [line.split() for line in said.splitlines()]
    assert lines[:3] == [
        ["base", "dev", "60.0", "(55-65)"],
        ["test", "60.0", "(55-65)"],
        ["all", "harmful", "65.0", "(60-70)"],
    ]
    assert lines[3][0] == "0"
    assert [line for line in lines if "TF-IDF" in line] == [
        ["TF-IDF", "90.0", "(85-95)"],
        ["TF-IDF", "76.0", "(71-81)"],
    ]


def test_plain_lines_are_the_events_after_the_start_each_once(after_a_night: Path) -> None:
    begin, out, over = last_event_id(after_a_night), io.StringIO(), threading.Event()
    viewer = threading.Thread(target=follow, args=(after_a_night, out, over), kwargs={"live": False, "after": begin})
    viewer.start()
    for n in range(3):
        with Store.open(after_a_night) as store, store.write() as db:
            events.add(db, level="info", message=f"piece {n}\nis done", now=BEGAN)
    over.set()
    viewer.join()
    assert [line[9:] for line in out.getvalue().splitlines()] == [f"piece {n} is done" for n in range(3)]


def test_the_live_view_draws_on_a_terminal_and_ends(after_a_night: Path) -> None:
    ours, theirs = pty.openpty()
    over = threading.Event()
    over.set()
    with os.fdopen(theirs, "w") as terminal:
        follow(after_a_night, terminal, over, live=True)
        terminal.flush()
        drawn = os.read(ours, 65_536).decode()
    os.close(ours)
    assert "the one round is done" in drawn
    assert "\x1b]52" not in drawn


def test_an_event_says_in_words_that_it_is_bad_news() -> None:
    event = events.Event(1, BEGAN, "error", "train", 1, "the disk is full", None)
    assert event_line(event).plain[9:] == "error: the disk is full"


@pytest.mark.parametrize(
    ("state", "done", "total", "seconds", "said"),
    [
        ("running", 0, 0, 5, "5 s"),
        ("running", 120, 480, 10, "120 of 480, 12.0 a second, 30 s left"),
        ("done", 480, 480, 90, "1 min 30 s  all read"),
    ],
)
def test_a_phase_says_how_fast_it_is_and_when_it_ends(
    state: str, done: int, total: int, seconds: int, said: str
) -> None:
    ended = BEGAN + timedelta(seconds=seconds)
    note = "all read" if state == "done" else ""
    step = Step(1, "classify", state, 1, done, total, note, BEGAN, ended if state == "done" else None)
    assert pace_of(step, ended) == said


@pytest.mark.parametrize(
    ("seconds", "said"), [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (3599, "59 min 59 s"), (7500, "2 h 5 min")]
)
def test_durations_are_said_as_a_person_says_them(seconds: float, said: str) -> None:
    assert duration(seconds) == said
