"""The pool of a round is what was there when it began: rows that come in later are read in the next round."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from tests.loop.small_night import NOW, Night, recipe
from wizloop.loop.controller import stopping
from wizloop.loop.interrupted import Interrupted
from wizloop.recipes.sections import Stop
from wizloop.store import models, predictions, samples, selections, steps, tables

LATE = ["how do I steal a tandem?", "what is a good name for a heron?", "who invented the umbrella?"]


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Night:
    """Round 0 until the base is there, which reads the pool. Tests copy it."""
    night = Night(tmp_path_factory.mktemp("taught") / "a", recipe())
    night.round(0, "base")
    return night


def come_in(night: Night, *texts: str) -> None:
    new = [samples.NewSample("pool", text, None, "log", text) for text in texts]
    with night.store.write() as db:
        samples.add(db, new, NOW)


def read(night: Night, split: str = "pool") -> set[str]:
    """The prompts that the base has predicted."""
    with night.store.read() as db:
        base = models.by_name(db, "base")
        assert base is not None
        known = predictions.of_model(db, base.id, split)
        return {one.prompt for one in samples.get(db, [one.sample_id for one in known])}


def record(night: Night, round: int) -> dict[str, Any]:
    with night.store.read() as db:
        found = steps.get_round(db, round)
    assert found is not None
    return found.record


def picked(night: Night, round: int) -> set[str]:
    with night.store.read() as db:
        ids = [one.sample_id for one in selections.of_round(db, round)]
        return {one.prompt for one in samples.get(db, ids)}


def stopped_in(night: Night, round: int, after: int) -> None:
    """Classify, and stop at the progress after so many."""
    asked = iter(range(10_000))
    with pytest.raises(Interrupted):
        night.phase(round, "classify", stop_asked=lambda: next(asked) >= after)


def test_rows_that_come_in_while_a_round_reads_its_pool_are_read_in_the_next(taught: Night, tmp_path: Path) -> None:
    whole, night = taught.copy(tmp_path / "whole"), taught.copy(tmp_path / "late")
    for one in (whole, night):
        stopped_in(one, 1, 3)
    come_in(night, *LATE)
    for one in (whole, night):
        one.phase(1, "classify")
        come_in(one, *LATE)
        one.phase(1, "select")
    assert not read(night) & {*LATE}
    assert record(night, 1) == record(whole, 1)
    assert record(night, 1)["classify"]["pool_read"] == 90
    assert night.rows() == whole.rows()
    night.phase(2, "classify")
    assert read(night) >= {*LATE}
    assert record(night, 2)["classify"]["pool_read"] == 90 - len(picked(night, 1)) + 3


def test_rows_that_came_in_before_a_round_began_are_in_it(taught: Night, tmp_path: Path) -> None:
    night = taught.copy(tmp_path / "a")
    come_in(night, *LATE)
    night.phase(1, "classify")
    assert read(night) >= {*LATE}
    assert record(night, 1)["classify"]["pool_read"] == 93


def test_a_round_that_an_earlier_version_began_goes_on_with_the_whole_pool(taught: Night, tmp_path: Path) -> None:
    night = taught.copy(tmp_path / "a")
    stopped_in(night, 1, 3)
    with night.store.write() as db:
        db.execute(update(tables.rounds).where(tables.rounds.c.number == 1).values(record={}))
    come_in(night, *LATE)
    night.phase(1, "classify")
    assert read(night) >= {*LATE}


def test_a_row_that_was_not_yet_compared_with_dev_and_test_is_compared_before_it_is_read(
    taught: Night, tmp_path: Path
) -> None:
    night = taught.copy(tmp_path / "a")
    with night.store.read() as db:
        held_out = samples.page(db, "dev", 0, 1)[0].prompt
    come_in(night, held_out.upper() + "!!", *LATE)
    night.phase(1, "classify")
    assert held_out.upper() + "!!" not in read(night)
    assert read(night) >= {*LATE}


def test_a_pool_that_gave_nothing_is_not_empty_once_rows_have_come_in(taught: Night, tmp_path: Path) -> None:
    night = taught.copy(tmp_path / "a", recipe(rounds=3))
    with night.store.write() as db:
        db.execute(update(tables.run).values(rounds_wanted=3))
        steps.begin_round(db, 1, None, NOW)
    assert "the pool is empty: round 1 found no" in (stopping.rounds_are_enough(night.store, 2, Stop()) or "")
    come_in(night, *LATE)
    assert stopping.rounds_are_enough(night.store, 2, Stop()) is None
