"""A guard that is not better than its baselines is said to be so, in words and with intervals."""

from datetime import UTC, datetime
from typing import Any

import pytest

from tests.conftest import against
from wizloop.console.standing import ending, in_short, of_champion, sentences
from wizloop.store.steps import Round

NOW = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)


def compared(**of_test: float) -> dict[str, Any]:
    """An F1 of 70 on test requests, against these."""
    return {"test": {"request": {name: against(0.7, f1) for name, f1 in of_test.items()}}}


def made(number: int, after: int | None, challenger: int | None, record: dict[str, Any], reason: str = "so") -> Round:
    return Round(number, None, after, challenger, after == challenger, reason, record, NOW, NOW)


def test_a_guard_that_beats_every_baseline_needs_no_words() -> None:
    better = compared(base=0.5, all_harmful=0.6, tfidf=0.65)
    assert sentences("r00", better) == []
    assert in_short("r00", better) == ""


def test_every_baseline_that_it_does_not_beat_is_named_with_the_interval() -> None:
    (said,) = sentences("r00", compared(base=0.69, all_harmful=0.5, tfidf=0.8))
    assert said == (
        "r00: on test request its F1 of 70.0 cannot be told apart from the 69.0 of the base (+1.0 points, 95 % "
        "interval -3.0 to +5.0) and is below the 80.0 of TF-IDF with logistic regression on the same labels (-10.0 "
        "points, 95 % interval -14.0 to -6.0)."
    )


def test_one_phrase_names_each_baseline_once() -> None:
    two = {"test": compared(base=0.7, tfidf=0.7)["test"] | {"response": {"base": against(0.7, 0.7)}}}
    assert in_short("r00", two) == (
        "r00 cannot be told apart from the base on test request and test response, TF-IDF with logistic regression on "
        "the same labels on test request"
    )
    two["test"]["response"]["base"] = against(0.7, 0.9)
    assert in_short("r00", two).endswith(", and is below the base on test response")


@pytest.mark.parametrize(
    ("theirs", "said"),
    [
        (0.65, ""),
        (0.66, "r00 cannot be told apart from the base on test request"),
        (0.73, "r00 cannot be told apart from the base on test request"),
        (0.75, "r00 is below the base on test request"),
    ],
)
def test_an_interval_with_zero_in_it_tells_nothing_apart(theirs: float, said: str) -> None:
    assert in_short("r00", compared(base=theirs)) == said


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ("request", "calling every request harmful"),
        ("completion", "calling every response a refusal"),
        ("response", "calling every response harmful"),
    ],
)
def test_what_calling_everything_harmful_means_depends_on_the_task(task: str, said: str) -> None:
    assert said in sentences("r00", {"test": {task: {"all_harmful": against(0.5, 0.5)}}})[0]


def test_what_could_not_be_measured_is_not_compared() -> None:
    unknown = {"champion": None, "challenger": 0.5, "difference": None, "low": None, "high": None}
    assert sentences("r00", {"test": {"request": {"base": unknown}}}) == []


def test_a_single_prompt_tells_nothing_apart() -> None:
    one = {"champion": 0.0, "challenger": 1.0, "difference": 1.0, "low": None, "high": None}
    (said,) = sentences("r00", {"test": {"request": {"base": one}}})
    assert said.endswith("cannot be told apart from the 0.0 of the base (+100.0 points).")


def test_the_champion_is_that_of_the_last_decided_round_and_its_words_of_the_round_that_made_it() -> None:
    held = made(1, 5, 6, {"compared": compared(tfidf=0.9)})
    begun = Round(2, 5, None, None, None, None, {}, NOW, None)
    rounds = [made(0, 5, 5, {"compared": compared(base=0.7)}), held, begun]
    assert [said.split(":")[0] for said in of_champion(rounds)] == ["The champion, of round 0"]
    assert ending(rounds) == "the champion, of round 0, cannot be told apart from the base on test request"


def test_a_run_without_a_champion_says_so() -> None:
    held = [made(0, None, 5, {"compared": compared(base=0.9)})]
    assert "there is no champion to export, and the base is what reads the pool" in of_champion(held)[0]
    assert ending(held) == "no challenger has passed the gate: there is no champion"


def test_before_the_first_decision_nothing_is_said() -> None:
    begun = Round(0, None, None, None, None, None, {}, NOW, None)
    assert (of_champion([begun]), ending([begun]), of_champion([])) == ([], "", [])
