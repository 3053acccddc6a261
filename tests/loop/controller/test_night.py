"""The order of the night and its ends, with a `do` that only takes notes and a real store."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests import single_calls
from wizloop.loop.controller.night import Ending, night
from wizloop.loop.interrupted import Interrupted
from wizloop.recipes.sections import Stop
from wizloop.store import control, evaluations, models, samples, selections, steps
from wizloop.store.db import Connection, Store

NOW = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)
ALL_TWICE = [(0, "import"), (0, "gate"), (1, "select"), (1, "gate"), (2, "select"), (2, "gate")]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A workspace with a run of two rounds and ten samples to choose from."""
    with Store.create(tmp_path / "runs") as opened:
        with opened.write() as db:
            asked = {"name": "demo", "recipe_json": "{}", "recipe_hash": "ab", "seed": 1, "until": None}
            control.create_run(db, **asked, cap_micro=None, rounds_wanted=2, now=NOW)  # type: ignore[arg-type]
            rows = [samples.NewSample("pool", f"question {n}", None, "made", f"row {n}") for n in range(10)]
            samples.add(db, rows, NOW)
        yield opened


NOT_TOLD_APART = "cannot be told apart from"


def phases_of(round: int) -> tuple[str, ...]:
    return ("import", "gate") if round == 0 else ("select", "gate")


def choose_one(store: Store, round: int, phase: str) -> None:
    if phase == "select":
        with store.write() as db:
            new = selections.Selection(round, round, "random", 0.5, 1, None, "at random")
            selections.add(db, [new])


def spend(
    store: Store, seen: list[tuple[int, str]], also: Callable[[int, str], None] | None = None
) -> Callable[[int, str], str]:
    def do(round: int, phase: str) -> str:
        seen.append((round, phase))
        choose_one(store, round, phase)
        if also:
            also(round, phase)
        return f"note on {phase}"

    return do


def through(
    store: Store, also: Callable[[int, str], None] | None = None, stop: Stop | None = None
) -> tuple[Ending, list[tuple[int, str]]]:
    """A night, and what it did."""
    seen: list[tuple[int, str]] = []
    ending = night(store, spend(store, seen, also), phases_of, stop=stop or Stop(), clock=lambda: NOW)
    return ending, seen


def test_every_phase_of_every_round_is_done_once_and_in_order(store: Store) -> None:
    ending, seen = through(store)
    assert seen == ALL_TWICE
    assert ending == Ending("done", "all 2 rounds are done")
    with store.read() as db:
        step = steps.step(db, 1, "gate")
    assert step is not None
    assert (step.state, step.attempts, step.note) == ("done", 1, "note on gate")


@pytest.mark.parametrize("broken", range(len(ALL_TWICE)))
def test_a_night_that_broke_anywhere_goes_on_with_what_is_not_done(store: Store, broken: int) -> None:
    def fall(round: int, phase: str) -> None:
        if (round, phase) == ALL_TWICE[broken]:
            raise RuntimeError("struck by lightning")

    with pytest.raises(RuntimeError):
        through(store, fall)
    ending, seen = through(store)
    assert seen == ALL_TWICE[broken:]
    assert ending.state == "done"


def test_a_run_that_is_done_goes_on_when_it_may_have_more_rounds(store: Store) -> None:
    through(store)
    with store.write() as db:
        control.set_limits(db, rounds_wanted=3)
    ending, seen = through(store)
    assert seen == [(3, "select"), (3, "gate")]
    assert ending.reason == "all 3 rounds are done"


@pytest.mark.parametrize(
    ("wanted", "state", "words"),
    [("pause", "paused", "wizloop resume"), ("stop", "stopped", "by you"), ("stop_now", "stopped", "by you")],
)
def test_what_the_person_wants_is_heard_before_the_next_phase(
    store: Store, wanted: str, state: str, words: str
) -> None:
    def ask(round: int, phase: str) -> None:
        if (round, phase) == (1, "select"):
            with store.write() as db:
                control.want(db, wanted)

    ending, seen = through(store, ask)
    assert seen == ALL_TWICE[:3]
    assert ending.state == state
    assert words in ending.reason


@pytest.mark.parametrize(("reason", "state"), [("pause", "paused"), ("stop", "stopped"), ("signal", "stopped")])
def test_an_interrupted_phase_ends_the_night_and_is_not_done(store: Store, reason: str, state: str) -> None:
    def interrupt(round: int, phase: str) -> None:
        if round == 1:
            raise Interrupted(reason)  # type: ignore[arg-type]

    ending, _ = through(store, interrupt)
    assert ending.state == state
    with store.read() as db:
        step = steps.step(db, 1, "select")
    assert step is not None
    assert step.state == "running"


def test_no_phase_begins_after_the_hour_that_was_set(store: Store) -> None:
    with store.write() as db:
        control.set_limits(db, until=NOW + timedelta(hours=1))
    times = iter([NOW + timedelta(minutes=20 * n) for n in range(30)])
    seen: list[tuple[int, str]] = []
    ending = night(store, spend(store, seen), phases_of, stop=Stop(), clock=lambda: next(times))
    assert seen == [(0, "import")]
    assert ending.state == "stopped"
    assert "the end time" in ending.reason


def test_the_run_ends_when_every_sample_was_chosen(store: Store) -> None:
    with store.write() as db:
        samples.exclude(db, list(range(2, 11)), "seen in test")
    ending, seen = through(store)
    assert seen == ALL_TWICE[:4]
    assert ending == Ending("done", "the pool is empty: every usable sample was selected")


def test_the_run_ends_when_the_budget_is_charged(store: Store) -> None:
    with store.write() as db:
        control.set_limits(db, cap_micro=2_000_000)

    def pay(round: int, phase: str) -> None:
        if (round, phase) == (1, "gate"):
            with store.write() as db:
                call = single_calls.plan(
                    db,
                    key="ab" * 32,
                    sample_id=1,
                    round=1,
                    teacher="t",
                    model="m",
                    attempt=1,
                    request_json="{}",
                    now=NOW,
                )
                single_calls.reserve(db, call, 2_000_000)

    ending, seen = through(store, pay)
    assert seen == ALL_TWICE[:4]
    assert ending == Ending("done", "the budget of $2.00 is spent: $2.00 is charged or reserved")


def test_free_work_never_stops_for_money(store: Store) -> None:
    with store.write() as db:
        control.set_limits(db, cap_micro=0)
    ending, _ = through(store)
    assert ending.reason == "all 2 rounds are done"


@pytest.mark.parametrize(
    ("figures", "rounds", "reason"),
    [
        ([0.70, 0.71, 0.72, 0.73], 1, "all 3 rounds are done"),
        ([0.70, 0.704, 0.80, 0.90], 1, "has not risen by 0.5 points in the last round: 70.4 against 70.0"),
        ([0.70, 0.704, 0.70, 0.90], 2, "has not risen by 0.5 points in the last 2 rounds: 70.4 against 70.0"),
        ([0.70, 0.705, 0.71, 0.715], 1, "all 3 rounds are done"),
    ],
)
def test_a_plateau_on_dev_ends_the_run(store: Store, figures: list[float], rounds: int, reason: str) -> None:
    with store.write() as db:
        control.set_limits(db, rounds_wanted=3)

    def measure(round: int, phase: str) -> None:
        if phase == "gate":
            add_champion(store, round, figures[round])

    ending, _ = through(store, measure, Stop(plateau_rounds=rounds, plateau_delta=0.005))
    assert ending.state == "done"
    assert ending.reason.endswith(reason)


@pytest.mark.parametrize(
    ("base", "figures", "reason"),
    [
        (0.70, [None, None, None, 0.9], "in the last 2 rounds: 70.0 against 70.0"),
        (0.70, [0.702, 0.703], "in the last 2 rounds: 70.3 against 70.0"),
        (0.60, [0.702, 0.70, 0.70], "in the last 2 rounds: 70.0 against 70.2"),
        (0.60, [None, 0.702, 0.80, 0.90], "all 3 rounds are done"),
    ],
)
def test_a_plateau_counts_from_the_base_which_stands_before_a_champion(
    store: Store, base: float, figures: list[float | None], reason: str
) -> None:
    with store.write() as db:
        control.set_limits(db, rounds_wanted=3)
        add_model(db, "base", 0, base)

    def measure(round: int, phase: str) -> None:
        if phase == "gate" and (f1 := figures[round]) is not None:
            add_champion(store, round, f1)

    ending, _ = through(store, measure, Stop(plateau_rounds=2, plateau_delta=0.005))
    assert ending.reason.endswith(reason)


@pytest.mark.parametrize(
    ("low", "passed", "said"),
    [
        (0.01, True, "all 2 rounds are done"),
        (-0.01, True, f"all 2 rounds are done; the champion, of round 2, {NOT_TOLD_APART} the base on test request"),
        (0.01, False, "all 2 rounds are done; no challenger has passed the gate: there is no champion"),
    ],
)
def test_the_last_sentence_says_where_the_champion_is_not_better(
    store: Store, low: float, passed: bool, said: str
) -> None:
    against_base = {"champion": 0.5, "challenger": 0.6, "difference": 0.1, "low": low, "high": 0.2}

    def decide(round: int, phase: str) -> None:
        if phase == "gate":
            add_champion(store, round, 0.6, passed)
            with store.write() as db:
                steps.merge_record(db, round, {"compared": {"test": {"request": {"base": against_base}}}})

    ending, _ = through(store, decide)
    assert ending == Ending("done", said)


def add_champion(store: Store, round: int, macro_f1: float, passed: bool = True) -> None:
    """Decide on a challenger, which becomes champion or, before the first one, leaves the base."""
    with store.write() as db:
        model = add_model(db, f"r{round}", round, macro_f1)
        after = {"champion_after": model if passed else None, "challenger": model, "passed": passed}
        steps.end_round(db, round, record_json="{}", now=NOW, gate_reason="better", **after)  # type: ignore[arg-type]


def add_model(db: Connection, name: str, round: int, macro_f1: float) -> int:
    """Add a model with this macro-F1 on dev."""
    described = {"parent_id": None, "path": "models/m", "sha256": "ab", "meta_json": "{}"}
    role = "base" if name == "base" else "challenger"
    model = models.add(db, name=name, role=role, round=round, now=NOW, **described)  # type: ignore[arg-type]
    metrics = json.dumps({"f1": 0.5, "macro_f1": macro_f1})
    evaluations.add(db, [evaluations.Evaluation(model, round, "dev", "request", 10, 0, metrics)])
    return model


@pytest.mark.parametrize(
    ("least", "gain", "said"),
    [
        (0.01, 0.004, "asking more is not expected to pay. next 100 labels: expected to add +0.4 points"),
        (0.01, 0.02, "all 2 rounds are done"),
        (0.01, None, "all 2 rounds are done"),
        (None, 0.0, "all 2 rounds are done"),
    ],
)
def test_the_run_ends_where_the_next_labels_are_not_expected_to_pay(
    store: Store, least: float | None, gain: float | None, said: str
) -> None:
    expected = None if gain is None else {"gain": gain, "low": gain - 0.01, "high": gain + 0.01, "usd": 2.5}

    def decide(round: int, phase: str) -> None:
        if phase == "gate":
            with store.write() as db:
                steps.merge_record(db, round, {"labels": {"next": expected}})

    ending, _ = through(store, decide, Stop(least_gain=least))
    assert ending.state == "done"
    assert ending.reason.startswith(said)
    assert ("for about $2.50; they must add 1.0 (stop.least_gain)" in ending.reason) == said.startswith("asking")
