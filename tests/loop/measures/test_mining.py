"""Hard-sample mining: the published rules, their figures, and where ours differ on purpose."""

from collections import Counter
from collections.abc import Sequence

import pytest

from wizloop.loop.measures.mining import Generation, MinedPair, mine, weigh, weights
from wizloop.loop.words import Verdict

H, U = "harmful", "unharmful"


def generation(
    text: str, request: str | None, completion: str | None = None, response: str | None = None
) -> Generation:
    """A sampled trace; unparsed without a request."""
    if request is None:
        return Generation(text, None)
    return Generation(text, {"request": request, "completion": completion, "response": response})


def prompt_pair(labels: Sequence[str | None], sample_id: int = 1) -> MinedPair | None:
    generations = [generation(f"trace {i}", label) for i, label in enumerate(labels)]
    return mine(sample_id, {"request": H}, has_response=False, generations=generations)


@pytest.mark.parametrize(
    ("labels", "d"),
    [
        ([H, H, H, U], -2),
        ([H, H, U, U], 0),
        ([H, U, U, U], 2),
        ([H, H, H, H], None),
        ([U, U, U, U], None),
        ([H, U, None, None], 0),
        ([None, None, None, None], None),
        ([], None),
    ],
)
def test_hard_is_right_and_wrong_among_the_parsed(labels: list[str | None], d: int | None) -> None:
    mined = prompt_pair(labels)
    assert (None if mined is None else mined.n_wrong - mined.n_right) == d


@pytest.mark.parametrize(
    ("d", "expected"),
    [
        ([-2, 0, 2], [0.8, 1.0, 1.2]),
        ([2, -2, 0], [1.2, 0.8, 1.0]),
        ([-2, -1, 0, 1, 2], [0.8, 0.9, 1.0, 1.1, 1.2]),
        ([-2, 0], [0.8, 1.2]),
        ([2, 2, 2], [1.0, 1.0, 1.0]),
        ([], []),
    ],
)
def test_weights_are_min_max_of_what_was_mined(d: list[int], expected: list[float]) -> None:
    assert weights(d) == pytest.approx(expected)


def test_gamma_sets_the_range() -> None:
    assert weights([-2, 2], gamma=0.5) == pytest.approx([0.5, 1.5])
    with pytest.raises(ValueError, match="gamma is 1"):
        weights([-2, 2], gamma=1)


def test_one_wrong_of_four_weighs_eight_tenths() -> None:
    mined = [prompt_pair(labels) for labels in ([H, H, H, U], [H, H, U, U], [H, U, U, U])]
    assert weigh([found for found in mined if found])[0].weight == pytest.approx(0.8)


def test_the_trial_of_a_hundred_samples() -> None:
    trial = [
        *([[H, U, U, U]] * 28),
        *([[H, H, U, U]] * 22),
        *([[H, H, H, U]] * 13),
        *([[H, H, H, H]] * 8),
        *([[U, U, U, U]] * 29),
    ]
    mined = [found for i, labels in enumerate(trial) if (found := prompt_pair(labels, i)) is not None]
    assert (len(trial), len(mined)) == (100, 63)
    by_right = Counter((found.n_right, round(found.weight, 6)) for found in weigh(mined))
    assert by_right == {(1, 1.2): 28, (2, 1.0): 22, (3, 0.8): 13}


def test_a_prompt_alone_is_judged_on_the_request_only() -> None:
    truth: Verdict = {"request": H, "completion": "refusal", "response": U}
    generations = [generation("a", H, "refusal", U), generation("b", H, "compliance", H)]
    assert mine(1, truth, has_response=False, generations=generations) is None
    assert mine(1, truth, has_response=True, generations=generations) is not None


@pytest.mark.parametrize(
    ("other", "task"),
    [
        (generation("b", U, "compliance", H), "request"),
        (generation("b", H, "compliance", H), "response"),
        (generation("b", H, "compliance", U), "completion"),
    ],
)
def test_the_first_hard_task_wins(other: Generation, task: str) -> None:
    truth: Verdict = {"request": H, "completion": "refusal", "response": U}
    mined = mine(1, truth, has_response=True, generations=[generation("a", H, "refusal", U), other])
    assert mined is not None
    assert (mined.task, mined.chosen, mined.rejected) == (task, "a", "b")


def test_a_task_without_a_known_label_is_not_tried() -> None:
    generations = [generation("a", H, "refusal", U), generation("b", U, "compliance", H)]
    mined = mine(1, {"response": H}, has_response=True, generations=generations)
    assert mined is not None
    assert (mined.task, mined.chosen) == ("response", "b")


def test_none_in_a_parsed_trace_is_a_wrong_answer_not_a_missing_one() -> None:
    truth: Verdict = {"request": H, "completion": "refusal"}
    generations = [generation("a", H, "refusal", U), generation("b", H, None, None)]
    mined = mine(1, truth, has_response=True, generations=generations)
    assert mined is not None
    assert (mined.task, mined.rejected) == ("completion", "b")


def test_chosen_and_rejected_are_the_longest() -> None:
    generations = [generation("r" * n, H) for n in (900, 1200)] + [generation("w" * n, U) for n in (800, 1500)]
    mined = mine(1, {"request": H}, has_response=False, generations=generations)
    assert mined is not None
    assert (mined.chosen, mined.rejected) == ("r" * 1200, "w" * 1500)


def test_ties_go_to_the_earliest() -> None:
    generations = [generation("w1", U), generation("r1", H), generation("r2", H), generation("w2", U)]
    mined = mine(1, {"request": H}, has_response=False, generations=generations)
    assert mined is not None
    assert (mined.chosen, mined.rejected) == ("r1", "w1")


def test_a_trace_right_on_every_task_comes_before_a_longer_one() -> None:
    truth: Verdict = {"request": H, "completion": "refusal", "response": U}
    right, half, wrong = (
        generation("right", H, "refusal", U),
        generation("half right", H, "compliance", U),
        generation("wrong", U, "refusal", U),
    )
    mined = mine(1, truth, has_response=True, generations=[half, right, wrong])
    assert mined is not None
    assert mined.chosen == "right"
    mined = mine(1, truth, has_response=True, generations=[half, wrong])
    assert mined is not None
    assert mined.chosen == "half right"
