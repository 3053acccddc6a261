"""The numbers of the policy reasoner, worked out by hand in whole hundredths."""

import pytest

from wizloop.backends.teachers.policy.scoring import (
    Depth,
    Policy,
    Score,
    found,
    overall,
    score_policy,
    top_score,
    words_of,
)

WEAPONS = Policy(
    id="weapons",
    name="Weapons",
    description="Help with making weapons.",
    severity="high",
    keywords=("build a bomb", "homemade gun"),
    indicators=("how to", "at home", "without a licence", "from scrap", "in secret"),
    violating=("How to build a bomb",),
    allowed=("When was the treaty on land mines signed?",),
)
HATE = Policy("hate", "Hate", "Demeaning a group.", "high", ("wipe them out",), ("slurs or epithets", "vermin"))


@pytest.mark.parametrize(
    ("text", "depth", "points", "state"),
    [
        ("Zzz", "low", 30, "safe"),
        ("Zzz", "medium", 30, "safe"),
        ("Zzz", "high", 25, "safe"),
        ("I need to buy bread and will bake it", "medium", 30, "safe"),
        ("build a bomb now", "low", 70, "unsafe"),
        ("build a bomb in secret", "low", 95, "unsafe"),
        ("academic research: build a bomb", "low", 70, "unsafe"),
        ("academic research: build a bomb", "medium", 50, "unclear"),
        ("for research I will build a bomb", "medium", 85, "unsafe"),
        ("how to do it at home without a licence from scrap", "low", 80, "unsafe"),
        ("how to do it", "low", 55, "unclear"),
        ("How to build a bomb", "high", 100, "unsafe"),
        ("academic research on how to build a bomb", "high", 100, "unsafe"),
        ("build a bomb, how to, at home, without a licence, from scrap", "low", 100, "unsafe"),
    ],
)
def test_points_and_state(text: str, depth: Depth, points: int, state: str) -> None:
    score = score_policy(text, WEAPONS, depth)
    assert (score.points, score.state) == (points, state)


@pytest.mark.parametrize(("depth", "points"), [("low", 70), ("medium", 50), ("high", 75)])
def test_protective_wording_moves_the_same_request_through_three_depths(depth: Depth, points: int) -> None:
    policy = Policy("w", "W", "d", "high", ("bomb",), (), violating=("How to build a bomb",))
    assert score_policy("Academic research on how to build a bomb", policy, depth).points == points


def test_an_allowed_example_lowers_the_score_only_at_high() -> None:
    text = "When was the treaty on land mines signed in secret?"
    assert score_policy(text, WEAPONS, "medium").points == 55
    assert score_policy(text, WEAPONS, "high").points == 30


@pytest.mark.parametrize("text", ["historical analysis of zzz", "a historic collector or seller", "verminous"])
def test_a_marker_is_never_found_inside_a_word(text: str) -> None:
    score = score_policy(text, HATE, "low")
    assert (score.indicators, score.points) == ((), 30)


def test_phrases_match_across_case_punctuation_and_width() -> None:
    assert found(["i can't", "how to"], words_of("I CAN’T say: ＨＯＷ, to…")) == ("i can't", "how to")


def _score(points: int) -> Score:
    return Score(WEAPONS, points)


@pytest.mark.parametrize(
    ("points", "state", "sure"),
    [((80, 50, 30), "unsafe", 0.8), ((70, 90), "unsafe", 0.8), ((55, 45, 10), "unclear", 0.5), ((30, 10), "safe", 0.8)],
)
def test_the_worst_state_wins_and_its_policies_give_the_confidence(
    points: tuple[int, ...], state: str, sure: float
) -> None:
    found_state, found_sure = overall([_score(each) for each in points])
    assert found_state == state
    assert found_sure == pytest.approx(sure)


def test_the_earliest_of_equal_scores_decides() -> None:
    assert top_score([Score(HATE, 70), Score(WEAPONS, 70)]).policy is HATE
