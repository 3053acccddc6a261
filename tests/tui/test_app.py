"""The app driven by Textual's pilot on a real workspace: what it shows, by key, and how it is left."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from wizloop.store.db import Store
from wizloop.tui.app import WizloopApp
from wizloop.tui.desk import Desk

NOW = datetime(2026, 5, 4, 3, 3, 1, tzinfo=UTC)
Story = Callable[[Pilot[Any], WizloopApp], Awaitable[None]]


def played(workspace: Path, story: Story, *, alive: bool = False, size: tuple[int, int] = (80, 24)) -> WizloopApp:
    """The app after a story in keys."""

    async def play(app: WizloopApp) -> None:
        async with app.run_test(size=size) as pilot:
            await settled(pilot)
            await story(pilot, app)

    numbers = count()
    with Store.open(workspace) as store:
        app = WizloopApp(
            Desk(store, workspace, "person:ann", lambda: NOW, lambda: alive, lambda: f"test-{next(numbers)}")
        )
        asyncio.run(play(app))
    return app


async def settled(pilot: Pilot[Any]) -> None:
    """Until no worker is at work and every message is dealt with."""
    await pilot.app.workers.wait_for_complete()
    await pilot.pause()


def text_of(app: WizloopApp) -> str:
    """What is on the screen, as lines of text."""
    height = app.size.height
    lines = app.screen._compositor.render_strips()
    return "\n".join(strip.text.rstrip() for strip in lines[:height])


def test_the_overview_says_where_the_run_stands(after_a_night: Path) -> None:
    async def story(pilot: Pilot[Any], app: WizloopApp) -> None:
        said = text_of(app)
        assert "demo: done: the one round is done" in said
        assert "$0.50 spent, $0.00 reserved" in said
        assert "$4.50 left of $5.00; 2 to review" in said
        assert "F1 on test, 95 % intervals" in said

    played(after_a_night, story)


@pytest.mark.parametrize("key", ["q", "ctrl+q"])
def test_it_is_left_at_once_where_nothing_runs(after_a_night: Path, key: str) -> None:
    async def story(pilot: Pilot[Any], app: WizloopApp) -> None:
        await pilot.press(key)

    assert played(after_a_night, story).return_value == ""


@pytest.mark.parametrize(
    ("keys", "wanted"), [(["enter"], "goes on"), (["s"], "stop"), (["escape", "q", "g"], "goes on")]
)
def test_leaving_asks_what_becomes_of_a_run_that_goes_on(after_a_night: Path, keys: list[str], wanted: str) -> None:
    async def story(pilot: Pilot[Any], app: WizloopApp) -> None:
        await pilot.press("q", *keys)

    assert played(after_a_night, story, alive=True).return_value == wanted
