"""How each screen looks: an SVG that the app makes of itself, held against the one that is kept beside this file.

Made anew with WIZLOOP_SNAPSHOTS=write; the ids that Textual puts into an SVG are no part of the comparison.
"""

import os
import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from wizloop.store import control
from wizloop.store.db import Store

KEPT = Path(__file__).parent / "snapshots"
ROOMS = {"1": "overview", "2": "review", "3": "samples", "4": "rounds", "5": "log"}


@pytest.fixture(autouse=True)
def one_clock() -> Iterator[None]:
    """Times are shown in the zone of the machine, which is the same everywhere here."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("TZ", "America/New_York")
        time.tzset()
        yield
    time.tzset()


@pytest.fixture
def before_a_night(tmp_path: Path) -> Path:
    """A workspace in which nothing has happened yet."""
    folder = tmp_path / "empty"
    now = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)
    begun = {"name": "mine", "recipe_json": "{}", "recipe_hash": "", "seed": 1, "cap_micro": None, "until": None}
    with Store.create(folder) as store, store.write() as db:
        control.create_run(db, rounds_wanted=1, now=now, **begun)  # type: ignore[arg-type]
    return folder


def held_against(name: str, svg: str) -> None:
    """Fail where the picture is not the one that is kept."""
    path, now = KEPT / f"{name}.svg", re.sub(r"terminal-\d+", "terminal", svg)
    if os.environ.get("WIZLOOP_SNAPSHOTS") == "write":
        KEPT.mkdir(exist_ok=True)
        path.write_text(now, encoding="utf-8")
    assert now == path.read_text(encoding="utf-8"), f"{name} looks different: look at it, then write it anew"


@pytest.mark.parametrize("state", ["full", "empty", "working"])
def test_every_screen_looks_as_it_did(
    after_a_night: Path, before_a_night: Path, play: Callable[..., Any], state: str
) -> None:
    if state == "working":
        with Store.open(after_a_night) as store, store.write() as db:
            control.set_state(db, "running", "", datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC))

    async def story(on: Any) -> None:
        for key, name in ROOMS.items():
            await on.press(key)
            held_against(f"{state}-{name}", on.app.export_screenshot(simplify=True))

    play(before_a_night if state == "empty" else after_a_night, story, alive=state == "working")
