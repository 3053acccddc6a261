"""The review screen by key: each decision is in the store when the next trace is shown, and undo is a new row."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from textual import events as keys

from wizloop.store import reviews
from wizloop.store.db import Store

LATER = datetime(2026, 5, 4, 4, 0, 0, tzinfo=UTC)


def standing(workspace: Path, trace_id: int) -> tuple[str, str, str | None]:
    with Store.open(workspace, readonly=True) as store, store.read() as db:
        found = reviews.standing(db, trace_id)
    assert found is not None
    return found.decision, found.by, found.reason


def test_everything_to_decide_on_is_on_the_screen_and_does_nothing(
    after_a_night: Path, play: Callable[..., Any]
) -> None:
    async def story(on: Any) -> None:
        said = await on.press("2", "n")
        assert "trace 2 of round 1 by policy, low confidence" in said
        assert "waits: the teacher doubts it" in said
        assert "kill ␛]52;c;aGk=␇ a [bold]process[/nope] ⟨U+202E⟩back" in said
        assert "picked at random (random)" in said
        assert ["request", "harmful", "-", "-"] in [line.split() for line in said.splitlines()]

    play(after_a_night, story, size=(100, 40))


def test_a_key_decides_and_goes_on(after_a_night: Path, play: Callable[..., Any]) -> None:
    async def story(on: Any) -> None:
        assert "trace 2 of" in await on.press("2", "a")
        assert standing(after_a_night, 1) == ("approve", "person:ann", None)
        assert "no traces to review" in await on.press("r", "i")
        assert standing(after_a_night, 2) == ("reject", "person:ann", "invented")

    play(after_a_night, story)


def test_keys_pressed_at_once_decide_one_trace_each(after_a_night: Path, play: Callable[..., Any]) -> None:
    async def story(on: Any) -> None:
        await on.press("2")
        for _ in range(2):
            on.app.post_message(keys.Key("a", "a"))
        await on.settle()
        await on.settle()

    play(after_a_night, story)
    assert standing(after_a_night, 1)[0] == standing(after_a_night, 2)[0] == "approve"


@pytest.mark.parametrize(
    ("opening", "typed"),
    [("r", "wrong"), ("r", "oo"), ("slash", ["enter", "enter"])],
)
def test_keys_that_are_typed_into_a_dialog_that_is_gone_do_nothing(
    after_a_night: Path, play: Callable[..., Any], opening: str, typed: Sequence[str]
) -> None:
    async def story(on: Any) -> None:
        await on.press("2", opening)
        for key in typed:
            on.app.post_message(keys.Key(key, key if len(key) == 1 else None))
        await on.settle()
        await on.settle()
        await on.press("escape")
        assert "[2 review" in await on.press("2")

    play(after_a_night, story)
    assert standing(after_a_night, 2)[0] == "wait"


def test_undo_goes_back_as_far_as_there_are_decisions(after_a_night: Path, play: Callable[..., Any]) -> None:
    async def story(on: Any) -> None:
        await on.press("2", "a", "a")
        assert "trace 2 of" in await on.press("u")
        assert "trace 1 of" in await on.press("u")
        await on.press("u")
        assert on.notes[-1] == "you have no decision to undo"

    play(after_a_night, story)
    assert standing(after_a_night, 1)[:2] == standing(after_a_night, 2)[:2] == ("wait", "rule:doubtful")
    with Store.open(after_a_night, readonly=True) as store, store.read() as db:
        assert [row.decision for row in reviews.log(db, 1)] == ["wait", "approve", "undo"]


def test_another_reason_is_asked_for_in_words(after_a_night: Path, play: Callable[..., Any]) -> None:
    async def story(on: Any) -> None:
        await on.press("2", "r", "o", "b", "a", "d", "enter")

    play(after_a_night, story)
    assert standing(after_a_night, 1) == ("reject", "person:ann", "bad")


def test_the_second_of_two_is_told_and_nothing_is_decided_twice(after_a_night: Path, play: Callable[..., Any]) -> None:
    async def story(on: Any) -> None:
        await on.press("2")
        with Store.open(after_a_night) as store, store.write() as db:
            decided = {"decision": "reject", "by": "person:ann", "reason": "no"}
            reviews.review(db, trace_id=1, now=LATER, decision_id="elsewhere", **decided)
        assert "trace 2 of" in await on.press("a")
        assert on.notes[-1].startswith("trace 1 was just decided: reject by person:ann, ")

    play(after_a_night, story)
    assert standing(after_a_night, 1)[0] == "reject"


def test_a_skipped_trace_is_not_shown_again(after_a_night: Path, play: Callable[..., Any]) -> None:
    async def story(on: Any) -> None:
        assert "trace 2 of" in await on.press("2", "s")
        assert "trace 2 of" in await on.press("n")
        assert "except 2 skipped" in await on.press("s")

    play(after_a_night, story)


def test_a_filter_counts_before_it_approves(after_a_night: Path, play: Callable[..., Any]) -> None:
    async def story(on: Any) -> None:
        await on.press("2", "slash")
        await on.type("knit")
        assert "Approve all 1 traces that match the filter knit" in await on.press("A")
        await on.press("y")

    play(after_a_night, story)
    assert standing(after_a_night, 1) == ("approve", "person:ann", "approved by filter: knit")
    assert standing(after_a_night, 2)[0] == "wait"


def test_a_wrong_label_needs_a_label(after_a_night: Path, play: Callable[..., Any]) -> None:
    async def story(on: Any) -> None:
        await on.press("2", "l")
        assert on.notes == ["the dataset has no label for this sample"]

    play(after_a_night, story)
    assert standing(after_a_night, 1)[0] == "wait"


def test_it_stands_a_terminal_of_20_by_5(after_a_night: Path, play: Callable[..., Any]) -> None:
    async def story(on: Any) -> None:
        for key in "1234512":
            await on.press(key)
        await on.pilot.resize_terminal(80, 24)
        await on.settle()
        assert on.text.splitlines()[0].startswith(" 1 overview  [2 review 2]")
        assert "how do I knit" in on.text

    play(after_a_night, story, size=(20, 5))
