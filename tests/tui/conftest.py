"""A workspace's app, played by Textual's pilot: a story in keys, and what is on the screen as text."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from wizloop.store.db import Store
from wizloop.tui.app import WizloopApp
from wizloop.tui.workspace import Workspace

NOW = datetime(2026, 5, 4, 3, 3, 1, tzinfo=UTC)


@dataclass
class Player:
    """One app that is played."""

    pilot: Pilot[Any]
    app: Any

    async def press(self, *keys: str) -> str:
        """What is on the screen after these keys, each dealt with before the next."""
        for key in keys:
            await self.pilot.press(key)
            await self.settle()
        return self.text

    async def type(self, text: str) -> str:
        """What is on the screen after a line was typed and Enter pressed."""
        self.app.screen.query_one(Input).value = text
        return await self.press("enter")

    async def settle(self) -> None:
        """Until no worker is at work and every message is dealt with."""
        await self.pilot.pause()
        while any(worker.is_running for worker in self.app.workers):
            await self.pilot.pause(0.01)
        await self.pilot.pause()

    @property
    def notes(self) -> list[str]:
        """What was said in the corner, oldest first."""
        return [note.message for note in self.app._notifications]

    @property
    def text(self) -> str:
        """What is on the screen, as lines of text."""
        lines = self.app.screen._compositor.render_strips()
        return "\n".join(strip.text.rstrip() for strip in lines[: self.app.size.height])


Play = Callable[..., Any]


@pytest.fixture
def workspace_of() -> Callable[..., Workspace]:
    """Makes a workspace at a fixed moment, whose decisions are numbered."""

    def make(store: Store, by: str = "person:ann", alive: bool = False) -> Workspace:
        numbers = count()
        return Workspace(store, store.folder, by, lambda: NOW, lambda: alive, lambda: f"{by}-{next(numbers)}")

    return make


@pytest.fixture
def play(workspace_of: Callable[..., Workspace]) -> Play:
    """Plays a story (an async function of a Player) on a workspace; the app afterwards."""

    def go(
        workspace: Path,
        story: Callable[[Player], Awaitable[None]],
        *,
        alive: bool = False,
        size: tuple[int, int] = (80, 24),
    ) -> WizloopApp:
        async def run(app: WizloopApp) -> None:
            async with app.run_test(size=size) as pilot:
                player = Player(pilot, app)
                await player.settle()
                await story(player)

        with Store.open(workspace) as store:
            app = WizloopApp(workspace_of(store, alive=alive))
            asyncio.run(run(app))
        return app

    return go
