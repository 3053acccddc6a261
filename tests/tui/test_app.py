"""The app driven by Textual's pilot on a real workspace: what it shows, by key, and how it is left."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def test_the_overview_says_where_the_run_stands(after_a_night: Path, play: Callable[..., Any]) -> None:
    async def story(on: Any) -> None:
        assert "demo: done: the one round is done" in on.text
        assert "$0.50 spent, $0.00 reserved" in on.text
        assert "$4.50 left of $5.00; 2 to review" in on.text
        assert "F1 on test, 95 % intervals" in on.text

    play(after_a_night, story)


@pytest.mark.parametrize("key", ["q", "ctrl+q"])
def test_it_is_left_at_once_where_nothing_runs(after_a_night: Path, play: Callable[..., Any], key: str) -> None:
    async def story(on: Any) -> None:
        await on.pilot.press(key)

    assert play(after_a_night, story).return_value == ""


@pytest.mark.parametrize(
    ("keys", "wanted"), [(["enter"], "continue"), (["s"], "stop"), (["escape", "q", "g"], "continue")]
)
def test_leaving_asks_what_becomes_of_a_run_that_goes_on(
    after_a_night: Path, play: Callable[..., Any], keys: list[str], wanted: str
) -> None:
    async def story(on: Any) -> None:
        await on.pilot.press("q", *keys)

    assert play(after_a_night, story, alive=True).return_value == wanted
