"""Every key of [review], changed alone over the same traces: which of them wait, and what is trained on."""

from pathlib import Path
from typing import Any

import pytest

from tests import stored
from tests.loop.small_night import Night, recipe
from wizloop.loop.phases import order
from wizloop.store import models, predictions, reviews, teacher_calls


def reviewed(folder: Path, **review: Any) -> Night:
    """Run a night through round 1's training; until its review nothing differs, whatever `review` says."""
    night = Night(folder, recipe())
    for phase in order.phases_of(0):
        night.phase(0, phase)
    for phase in ("classify", "select", "teach"):
        night.phase(1, phase)
    night.recipe = recipe(review=review)
    for phase in ("review", "train"):
        night.phase(1, phase)
    return night


def taught(night: Night) -> list[tuple[int, str]]:
    with night.store.read() as db:
        return [(one.sample_id, one.confidence_word) for one in teacher_calls.traces(db, 1)]


def waiting(night: Night) -> dict[int, str | None]:
    """Return why each waits, by sample."""
    with night.store.read() as db:
        return {one.trace.sample_id: one.reason for one in reviews.waiting(db, 99)}


def learned(night: Night) -> set[int]:
    """Return the samples of round 1 that round 1's model was trained on."""
    with night.store.read() as db:
        made = models.by_name(db, "r01-sft")
        assert made is not None
        picked = {one.sample_id for one in teacher_calls.traces(db, 1)}
        return picked & {one.sample_id for one in stored.uses(db, made.id) if one.trace_id is not None}


def opposed(night: Night) -> dict[int, float]:
    """Return the champion's highest probability of the opposite of the teacher's verdict, by sample."""
    positive = {"request": "harmful", "completion": "refusal", "response": "harmful"}
    with night.store.read() as db:
        champion = models.by_name(db, "r00")
        assert champion is not None
        made = {one.sample_id: one for one in teacher_calls.traces(db, 1)}
        seen = predictions.for_samples(db, champion.id, list(made))
    return {
        one.sample_id: max(
            1 - p if made[one.sample_id].verdict[task] == positive[task] else p for task, p in one.probability.items()
        )
        for one in seen
    }


@pytest.fixture(scope="module")
def doubtful(tmp_path_factory: pytest.TempPathFactory) -> Night:
    return reviewed(tmp_path_factory.mktemp("doubtful") / "a", rule="doubtful", confident_at=0.9)


@pytest.mark.recipe_key("review.rule")
def test_the_rule_decides_what_waits_and_what_waits_is_not_learned_from(doubtful: Night, tmp_path: Path) -> None:
    nothing = reviewed(tmp_path / "nothing", rule="nothing", confident_at=0.9)
    everything = reviewed(tmp_path / "everything", rule="everything", confident_at=0.9)
    assert taught(nothing) == taught(everything) == taught(doubtful)
    made = {sample_id for sample_id, _ in taught(doubtful)}
    assert len(made) == 16
    assert (waiting(nothing), learned(nothing)) == ({}, made)
    assert (waiting(everything), learned(everything)) == (dict.fromkeys(made, "Every trace waits for a person."), set())
    low = {sample_id for sample_id, word in taught(doubtful) if word == "low"}
    sure = {sample_id for sample_id, p in opposed(doubtful).items() if p >= 0.9}
    assert 0 < len(low | sure) < 16
    assert set(waiting(doubtful)) == low | sure
    assert learned(doubtful) == made - low - sure


@pytest.mark.recipe_key("review.confident_at")
def test_a_guard_that_need_be_less_sure_lets_more_wait(doubtful: Night, tmp_path: Path) -> None:
    less = reviewed(tmp_path / "less", rule="doubtful", confident_at=0.6)
    assert taught(less) == taught(doubtful)
    assert opposed(less) == opposed(doubtful)
    between = {sample_id for sample_id, p in opposed(less).items() if 0.6 <= p < 0.9}
    assert between - set(waiting(doubtful))
    assert set(waiting(less)) == set(waiting(doubtful)) | between
    assert learned(less) == learned(doubtful) - between
