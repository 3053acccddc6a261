"""Which run a workspace gets, with which limits, and what happens to another recipe."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from wizloop.loop.controller.starting import OtherRecipe, RunLimits, begin, next_time
from wizloop.recipes import schema
from wizloop.store import control, samples
from wizloop.store.db import Store
from wizloop.store.samples import NewSample

HERE = timezone(timedelta(hours=2))
EVENING = datetime(2026, 5, 4, 22, 30, tzinfo=HERE)


@pytest.fixture(autouse=True)
def in_the_middle_of_europe(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine whose clock goes forward on the last Sunday of March and back on that of October."""
    with monkeypatch.context() as changed:
        changed.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
        time.tzset()
        yield
    time.tzset()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.create(tmp_path / "runs") as opened:
        yield opened


def run_of(store: Store) -> control.Run:
    with store.read() as db:
        run = control.get_run(db)
    assert run is not None
    return run


def test_a_new_workspace_gets_the_demo_within_the_limits_that_were_given(store: Store) -> None:
    recipe = begin(store, None, RunLimits(rounds=2, until="07:00", budget_usd=1.5), EVENING)
    run = run_of(store)
    assert recipe.name == run.name == "demo"
    assert (run.rounds_wanted, run.cap_micro) == (2, 1_500_000)
    assert run.until == datetime(2026, 5, 5, 7, 0, tzinfo=HERE)


def test_a_recipe_brings_its_own_limits(store: Store) -> None:
    asked = schema.load("demo").model_copy(update={"rounds": 5, "budget_usd": 2.0, "until": "23:15"})
    begin(store, asked, RunLimits(), EVENING)
    run = run_of(store)
    assert (run.rounds_wanted, run.cap_micro) == (5, 2_000_000)
    assert run.until == datetime(2026, 5, 4, 23, 15, tzinfo=HERE)


def test_going_on_changes_only_the_limits_that_are_given(store: Store) -> None:
    begin(store, None, RunLimits(rounds=2, budget_usd=1.5), EVENING)
    with store.write() as db:
        control.want(db, "stop")
    assert begin(store, None, RunLimits(rounds=4), EVENING).name == "demo"
    run = run_of(store)
    assert (run.rounds_wanted, run.cap_micro, run.wanted) == (4, 1_500_000, "run")


def test_an_end_that_has_passed_was_another_nights(store: Store) -> None:
    begin(store, None, RunLimits(until="07:00"), EVENING)
    begin(store, None, RunLimits(), EVENING + timedelta(hours=1))
    assert run_of(store).until == datetime(2026, 5, 5, 7, 0, tzinfo=HERE)
    begin(store, None, RunLimits(), EVENING + timedelta(days=1))
    assert run_of(store).until is None


def test_without_a_recipe_it_is_the_demo_or_what_was_imported(tmp_path: Path) -> None:
    for folder, found, expected in (
        ("a", [], "demo"),
        ("b", [NewSample("pool", "Hello", None, "test", "1")], "imported"),
    ):
        with Store.create(tmp_path / folder) as store:
            with store.write() as db:
                samples.add(db, found, EVENING)
            assert begin(store, None, RunLimits(), EVENING).source == expected


def test_a_recipe_may_be_mended_until_samples_are_in(store: Store) -> None:
    demo = schema.load("demo")
    begin(store, demo, RunLimits(), EVENING)
    begin(store, demo.model_copy(update={"seed": 8}), RunLimits(), EVENING)
    assert run_of(store).seed == 8


def test_the_same_recipe_goes_on_and_another_one_is_refused_by_its_key(store: Store) -> None:
    demo = schema.load("demo")
    begin(store, demo, RunLimits(), EVENING)
    with store.write() as db:
        samples.add(db, [NewSample("pool", "How do I boil an egg?", None, "test", "1")], EVENING)
    begin(store, demo, RunLimits(rounds=1), EVENING)
    with pytest.raises(OtherRecipe, match=r"seed is 7 there and 8 here: use another --workspace"):
        begin(store, demo.model_copy(update={"seed": 8}), RunLimits(), EVENING)
    with pytest.raises(OtherRecipe, match=r"rounds is 3 there and 9 here: give --rounds, or use"):
        begin(store, demo.model_copy(update={"rounds": 9}), RunLimits(), EVENING)
    assert begin(store, demo.model_copy(update={"rounds": 9}), RunLimits(rounds=9), EVENING).seed == 7
    assert run_of(store).rounds_wanted == 9
    with pytest.raises(OtherRecipe, match=r"seed is 7 there and 8 here \(and 1 more keys\)"):
        begin(store, demo.model_copy(update={"rounds": 9, "seed": 8}), RunLimits(), EVENING)


@pytest.mark.parametrize(
    ("clock", "expected"),
    [
        ("07:00", datetime(2026, 5, 5, 7, 0, tzinfo=HERE)),
        ("22:31", datetime(2026, 5, 4, 22, 31, tzinfo=HERE)),
        ("22:30", datetime(2026, 5, 5, 22, 30, tzinfo=HERE)),
    ],
)
def test_a_time_of_day_is_the_next_one(clock: str, expected: datetime) -> None:
    assert next_time(clock, EVENING) == expected


@pytest.mark.parametrize(("month", "day"), [(3, 27), (10, 24)])
def test_the_end_is_what_the_wall_shows_in_a_night_when_clocks_change(month: int, day: int) -> None:
    evening = datetime(2027 if month == 3 else 2026, month, day, 20, 0, tzinfo=UTC).astimezone()
    until = next_time("07:00", evening)
    assert (until.astimezone(UTC).astimezone().strftime("%d %H:%M")) == f"{day + 1} 07:00"
