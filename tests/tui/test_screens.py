"""Samples, rounds and log by key: what a filter lets pass, one sample's story, an export by the command line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import BEGAN
from wizloop.store import events, models, predictions, samples, steps
from wizloop.store.db import Store
from wizloop.tui.samples import SamplesScreen
from wizloop.tui.workspace import Compared


def lines(on: Any) -> list[str]:
    return [line for line in on.text.splitlines() if line.startswith(("  ", "> "))][1:]


def test_samples_are_searched_by_words_and_fields(after_a_night: Path, play: Callable[..., Any]) -> None:
    async def story(on: Any) -> None:
        await on.press("3")
        assert len(lines(on)) == 2
        await on.press("slash")
        await on.type("split:pool knit")
        assert [line.split()[0:3] for line in lines(on)] == [[">", "1", "pool"]]
        await on.press("slash")
        await on.type("split:dev")
        assert "no sample matches the filter" in on.text

    play(after_a_night, story)


def test_samples_that_the_guard_was_wrong_about_are_found(after_a_night: Path, play: Callable[..., Any]) -> None:
    with Store.open(after_a_night) as store, store.write() as db:
        labels = ("harmful", "unharmful", None, "harmful")
        new = [samples.NewSample("dev", f"dev {n}", None, "made", "row", one) for n, one in enumerate(labels)]
        samples.add(db, new, BEGAN)
        guard = models.in_round(db, 1)[0].id
        # Right, wrong, without a label, unparsed; sample 6 has no prediction of this model.
        said = {1: "harmful", 3: "harmful", 4: "harmful", 5: "harmful", 6: None}
        rows = [
            predictions.Prediction(guard, n, 1, {}, {"request": one}, 0.5, None, {}, 0, one is None, 0)
            for n, one in said.items()
        ]
        predictions.add(db, rows)

    async def story(on: Any) -> None:
        await on.press("3", "slash")
        await on.type("wrong:any")
        assert [line.replace(">", "").split()[0] for line in lines(on)] == ["4", "6"]
        await on.press("slash")
        await on.type("wrong:response")
        assert "no sample matches the filter" in on.text
        await on.press("slash")
        await on.type("wrong:yes")
        assert on.notes == ["wrong:yes needs one of any, request, completion, response after the colon"]

    play(after_a_night, story)


def test_a_filter_that_cannot_be_read_says_what_it_needs(after_a_night: Path, play: Callable[..., Any]) -> None:
    async def story(on: Any) -> None:
        await on.press("3", "slash")
        await on.type("disagreement:much")
        assert on.notes == ["disagreement:much needs a number after the colon"]
        assert isinstance(on.app.screen, SamplesScreen)

    play(after_a_night, story)


def test_a_sample_tells_its_whole_story(after_a_night: Path, play: Callable[..., Any]) -> None:
    async def story(on: Any) -> None:
        said = await on.press("3", "down", "enter")
        for part in ("Sample 2", "round 1, random, rank 2: picked at random", "round 1: policy, parsed (ok)"):
            assert part in said
        assert "wait by rule:doubtful (the teacher doubts it)" in said
        await on.press("escape")
        assert isinstance(on.app.screen, SamplesScreen)

    play(after_a_night, story, size=(120, 40))


def test_rounds_stand_side_by_side_with_what_changed(after_a_night: Path, play: Callable[..., Any]) -> None:
    async def story(on: Any) -> None:
        said = await on.press("4")
        whole = ["dev", "request", "80", "60.0", "(55-65)", "70.0", "(65-75)", "+10.0", "75.0", "(70-80)", "+5.0"]
        read = [line.split() for line in said.splitlines()]
        assert whole in read
        assert ["all", "harmful", "65.0"] in read
        assert ["TF-IDF", "90.0", "76.0"] in read
        assert "Round 1: passed" in said
        assert "Round 0: passed" in await on.press("left")
        assert "Round 0: on test request its F1 of 70.0 is below the 90.0 of TF-IDF" in " ".join(on.text.split())
        assert "test request: f1 0.7, low 0.65, high 0.75" in await on.press("o")
        said = await on.press("escape", "left", "x")
        assert "the guard before anything was taught" in said
        assert on.notes[-1].startswith("The base was taught nothing")
        assert "test request: f1 0.6" in await on.press("o")

    play(after_a_night, story, size=(100, 40))


def test_rounds_are_told_apart_by_the_paired_test(after_a_night: Path, play: Callable[..., Any]) -> None:
    told = {
        "round 1": [Compared("test", "request", "+5.0 (-3.0 to 13.0)", "cannot be told apart")],
        "round 0": [Compared("test", "request", "+10.0 (2.0 to 18.0)", "better")],
    }

    async def story(on: Any) -> None:
        on.app.workspace.compare = lambda _, held: {"base": told, "0": told}[held]
        said = await on.press("4")
        assert "75.0 (70-80) +5.0 ~" in said
        assert "70.0 (65-75) +10.0" in said
        assert "Against round 0 (points of F1 on the same rows, paired test)" in said
        assert "test request: +5.0 (-3.0 to 13.0): cannot be told apart" in said
        said = await on.press("left")
        assert "Against base (" in said
        assert "test request: +10.0 (2.0 to 18.0): better" in said
        assert "Against" not in await on.press("left")

    play(after_a_night, story, size=(100, 40))


def test_the_overview_names_the_policies_of_the_guard(after_a_night: Path, play: Callable[..., Any]) -> None:
    kept = {"policies": [{"id": "a", "name": "Arson"}, {"id": "b", "name": "Bets"}], "ask": "all", "left_out": ["b"]}
    with Store.open(after_a_night) as store, store.write() as db:
        steps.merge_record(db, 0, {"policies": kept})

    async def story(on: Any) -> None:
        assert "policies: Arson, Bets" in on.text
        assert "never trained on: Bets" in on.text

    play(after_a_night, story, size=(80, 24))


def test_an_export_that_fails_says_why(after_a_night: Path, play: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()

    async def story(on: Any) -> None:
        await on.press("4", "x", "a")
        await on.type(str(tmp_path / "there"))
        assert on.notes[-1].startswith("not exported: wizloop: ")

    play(after_a_night, story)


def test_the_log_filters_and_follows(after_a_night: Path, play: Callable[..., Any]) -> None:
    async def story(on: Any) -> None:
        await on.press("5")
        with Store.open(after_a_night) as store, store.write() as db:
            for n in range(300):
                level = "error" if n == 150 else "info"
                events.add(db, level=level, message=f"piece {n}", now=on.app.workspace.clock(), phase="teach", round=1)
        on.app.poll()
        await on.settle()
        await on.settle()
        assert lines(on)[-1].endswith("piece 299")
        await on.press("slash")
        await on.type("level:error round:1")
        assert [line.split()[-2:] for line in lines(on)] == [["piece", "150"]]

    play(after_a_night, story)


@pytest.mark.parametrize("key", ["1", "2", "3", "4", "5"])
def test_every_screen_has_help_and_text_that_does_nothing(
    after_a_night: Path, play: Callable[..., Any], key: str
) -> None:
    async def story(on: Any) -> None:
        assert "Escape closes this" in await on.press(key, "question_mark")
        said = await on.press("escape")
        assert not {"\x1b", "\x07", "\u202e"} & set(said)

    play(after_a_night, story)
