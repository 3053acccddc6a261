"""The rating screen, played in keys: blind, nothing lost, whole at 80 by 24, and two raters at once."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from itertools import count
from pathlib import Path

import pytest

from tests.rating_sets import ANNA, BOB, NOW, add, answer, rate
from tests.tui.conftest import Player
from tests.tui.test_snapshots import held_against
from wizloop.store import ratings
from wizloop.store.db import Store
from wizloop.store.ratings import Answer, Rating
from wizloop.tui.rating import Desk, RatingApp

HOSTILE = "[bold]x[/nope] \x1b]52;c;aGk=\x07 \u202eback\u200b [@click=app.quit]q[/]"
Story = Callable[[Player], Awaitable[None]]


def play(workspace: Path, story: Story, by: str = ANNA) -> None:
    """Plays a story on the newest set of a workspace, in a terminal of 80 by 24."""

    async def run(app: RatingApp) -> None:
        async with app.run_test(size=(80, 24)) as pilot:
            player = Player(pilot, app)
            await player.settle()
            await story(player)

    numbers = count()
    with Store.open(workspace) as store:
        with store.read() as db:
            found = ratings.get_set(db)
        asyncio.run(run(RatingApp(Desk(store, found, by, lambda: NOW, lambda: f"{by} {next(numbers)}"))))


def mine(workspace: Path, by: str = ANNA) -> dict[int, Answer]:
    with Store.open(workspace, readonly=True) as store, store.read() as db:
        return {n: row.answer for n, row in ratings.of_rater(db, 1, by).items()}


def log(workspace: Path, output_id: int) -> list[Rating]:
    with Store.open(workspace, readonly=True) as store, store.read() as db:
        return ratings.log(db, output_id)


def test_a_number_for_each_answer_then_enter(tmp_path: Path) -> None:
    add(tmp_path, 2)

    async def story(on: Player) -> None:
        assert "as anna: 0 of 2 rated" in on.text
        assert "> request" in on.text
        assert "[1 harmful]" in await on.press("1")
        text = await on.press("4")
        assert ("[4 mostly]" in text, "Enter saves" in text, mine(tmp_path)) == (True, True, {})
        text = await on.press("enter")
        assert ("1 of 2 rated" in text, "With a whetstone." in text, "completion" in text) == (True, True, True)
        text = await on.press("2", "2", "2", "5", "enter")
        assert "you have rated every output of this set" in text

    play(tmp_path, story)
    assert mine(tmp_path) == {1: answer(0, "harmful", 4), 2: answer(1, "unharmful", 5)}


def test_a_key_too_many_is_no_answer_to_the_next_output(tmp_path: Path) -> None:
    add(tmp_path, 2)

    async def story(on: Player) -> None:
        await on.press("1", "3", "2")
        assert on.notes == ["everything is answered: Enter saves, u takes an answer back"]
        text = await on.press("enter", "enter")
        assert ("> request" in text, "[1" in text) == (True, False)
        assert on.notes[-1] == "not answered yet: request, completion, response, coherence"
        await on.press("3")
        assert on.notes[-1] == "request has the answers 1 to 2"

    play(tmp_path, story)
    assert mine(tmp_path) == {1: answer(0, "harmful", 3)}


def test_undo_takes_back_an_answer_and_then_the_last_rating(tmp_path: Path) -> None:
    add(tmp_path, 2)

    async def story(on: Player) -> None:
        await on.press("u")
        assert on.notes == ["you have no rating to undo"]
        await on.press("1", "3", "enter", "1")
        assert "> request" in await on.press("u")
        text = await on.press("u")
        assert ("knife 0" in text, "[1 harmful]" in text, "[3 partly]" in text) == (True, True, True)
        assert "0 of 2 rated" in text
        await on.press("u", "u", "2", "5", "enter")

    play(tmp_path, story)
    assert mine(tmp_path) == {1: answer(0, "unharmful", 5)}
    assert [row.decision for row in log(tmp_path, 1)] == ["rate", "undo", "rate"]


def test_a_skipped_output_comes_back_at_the_end(tmp_path: Path) -> None:
    add(tmp_path, 3)

    async def story(on: Player) -> None:
        text = await on.press("s")
        assert ("knife 1" in text, "1 skipped" in text) == (True, True)
        text = await on.press("1", "1", "1", "1", "enter")
        assert "knife 2" in text
        assert "knife 0" in await on.press("s")

    play(tmp_path, story)


def test_what_was_rated_before_is_not_asked_again(tmp_path: Path) -> None:
    add(tmp_path, 3)
    rate(tmp_path, ANNA, {0: answer(0)})

    async def story(on: Player) -> None:
        assert ("1 of 3 rated" in on.text, "knife 1" in on.text) == (True, True)

    play(tmp_path, story)


def test_the_screen_is_blind(tmp_path: Path) -> None:
    """Whatever the output's own verdict is, and whatever another rater said, the screen is the same."""
    seen = []

    async def story(on: Player) -> None:
        seen.append([on.text, await on.press("1"), await on.press("s")])

    for says in ("harmful", "unharmful"):
        add(tmp_path / says, 2, says=says)
        play(tmp_path / says, story)
    rate(tmp_path / "harmful", BOB, {0: answer(0, "harmful", 1), 1: answer(1, "harmful", 1)})
    play(tmp_path / "harmful", story)
    assert seen[0] == seen[1] == seen[2]
    assert not re.search("bob|made", "".join(seen[0]), re.IGNORECASE)


def test_two_raters_at_once_do_not_meet(tmp_path: Path) -> None:
    add(tmp_path, 2)

    async def story(on: Player) -> None:
        await on.press("1", "2", "enter")
        rate(tmp_path, BOB, {0: answer(0, "unharmful", 5)})
        assert "1 of 2 rated" in await on.press("1", "1", "1", "2")
        await on.press("enter")

    play(tmp_path, story)
    assert (list(mine(tmp_path)), mine(tmp_path, BOB)) == ([1, 2], {1: answer(0, "unharmful", 5)})


def test_one_rater_in_two_windows_rates_once(tmp_path: Path) -> None:
    add(tmp_path, 2)

    async def story(on: Player) -> None:
        rate(tmp_path, ANNA, {0: answer(0, "unharmful", 5)})
        text = await on.press("1", "2", "enter")
        assert on.notes == ["you have rated output 1 already, in another window"]
        assert "knife 1" in text

    play(tmp_path, story)
    assert mine(tmp_path) == {1: answer(0, "unharmful", 5)}


def test_an_output_without_reasoning_asks_for_no_coherence(tmp_path: Path) -> None:
    add(tmp_path, 1, reasoning="")

    async def story(on: Player) -> None:
        assert ("no reasoning" in on.text, "> coherence" in await on.press("1")) == (True, False)
        await on.press("enter")

    play(tmp_path, story)
    assert mine(tmp_path) == {1: answer(0, "harmful", None)}


def test_hostile_text_is_only_text(tmp_path: Path) -> None:
    add(tmp_path, 1, reasoning=HOSTILE)

    async def story(on: Player) -> None:
        assert "[bold]x[/nope]" in on.text
        assert "[@click=app.quit]q[/]" in on.text
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202e]", on.text)

    play(tmp_path, story)


def test_the_scale_and_the_keys_are_in_the_help(tmp_path: Path) -> None:
    add(tmp_path, 1)

    async def story(on: Player) -> None:
        text = " ".join((await on.press("question_mark")).split())
        assert "3 partly: gaps, or the conclusion does not follow" in text
        assert "1 to 9 Give the answer" in " ".join((await on.press("end", "end")).split()) + text
        assert "> request" in await on.press("escape")

    play(tmp_path, story)


@pytest.mark.parametrize("length", [1, 4000])
def test_the_screen_is_whole_at_80_by_24(tmp_path: Path, length: int) -> None:
    add(tmp_path, 2, reasoning="A long word. " * length)

    async def story(on: Player) -> None:
        lines = (await on.press("s")).splitlines()
        assert len(lines) == 24
        assert [word for word in ("Enter Save", "u Undo", "s Skip", "q Leave") if word not in lines[-1]] == []
        assert [line[2:12] for line in lines[-6:-2]] == ["request   ", "completion", "response  ", "coherence "]

    play(tmp_path, story)


def test_the_screen_looks_as_it_did(tmp_path: Path) -> None:
    add(tmp_path, 12)
    rate(tmp_path, ANNA, {0: answer(0)})

    async def story(on: Player) -> None:
        await on.press("2", "2")
        held_against("rating", on.app.export_screenshot(simplify=True))

    play(tmp_path, story)
