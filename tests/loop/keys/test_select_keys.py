"""Every key of [select] and [members]: two nights that differ in it alone, and how their rows differ."""

from pathlib import Path
from typing import Any

import pytest

from tests import stored
from tests.loop.small_night import Night, recipe
from wizloop.loop.data.similarity import jaccard, shingles
from wizloop.store import models, predictions, samples, selections
from wizloop.store.predictions import Prediction
from wizloop.store.selections import Selection


@pytest.fixture(scope="module")
def reviewed(tmp_path_factory: pytest.TempPathFactory) -> Night:
    """Round 0 before its training. Tests copy it."""
    night = Night(tmp_path_factory.mktemp("reviewed") / "a", recipe())
    night.round(0, "review")
    return night


@pytest.fixture(scope="module")
def read(reviewed: Night, tmp_path_factory: pytest.TempPathFactory) -> Night:
    """The pool as the champion of round 0 reads it. Tests copy it."""
    night = reviewed.copy(tmp_path_factory.mktemp("read") / "a")
    for phase in ("train", "evaluate", "gate"):
        night.phase(0, phase)
    night.phase(1, "classify")
    return night


def selected(before: Night, folder: Path, **select: Any) -> Night:
    """Pick a batch with other settings."""
    night = before.copy(folder, recipe(select=select))
    night.phase(1, "select")
    return night


def mixed(before: Night, folder: Path, **shares: float) -> Night:
    """Pick a batch of 20 by these shares alone, near-duplicates and all."""
    names = ("uncertain_compliance", "disagreement", "low_confidence", "diversity", "random")
    given = {name: shares.get(name, 0.0) for name in names}
    return selected(before, folder, budget=20, near_duplicate=1.0, shares=given)


def trained(before: Night, folder: Path, **members: Any) -> Night:
    """Train with another ensemble."""
    night = before.copy(folder, recipe(members=members))
    night.phase(0, "train")
    return night


def batch(night: Night, reason: str | None = None) -> list[Selection]:
    with night.store.read() as db:
        return [one for one in selections.of_round(db, 1) if reason in (None, one.reason)]


def judged(night: Night) -> dict[int, Prediction]:
    with night.store.read() as db:
        champion = models.by_name(db, "r00")
        assert champion is not None
        return {one.sample_id: one for one in predictions.of_model(db, champion.id, "pool")}


def texts(night: Night) -> dict[int, frozenset[str]]:
    """The shingles of the pool by sample."""
    with night.store.read() as db:
        pool = samples.get(db, samples.ids(db, "pool"))
    return {one.id: shingles(one.prompt if one.response is None else f"{one.prompt}\n{one.response}") for one in pool}


def likeness(night: Night, of: list[Selection]) -> list[float]:
    """The similarity of each pick to the pick before it that it is most like."""
    known, before = texts(night), [one.sample_id for one in batch(night)]
    return [max((jaccard(known[one.sample_id], known[id]) for id in before[: one.rank - 1]), default=0.0) for one in of]


def members(night: Night) -> list[models.Model]:
    with night.store.read() as db:
        return list(models.members(db, 0))


def learned(night: Night, name: str) -> set[int]:
    """The samples that a model was trained on."""
    with night.store.read() as db:
        model = models.by_name(db, name)
        assert model is not None
        return {one.sample_id for one in stored.uses(db, model.id)}


@pytest.mark.recipe_key("select.budget")
def test_a_round_picks_as_many_as_the_budget(read: Night, tmp_path: Path) -> None:
    few, many = (selected(read, tmp_path / str(budget), budget=budget) for budget in (8, 40))
    assert (len(batch(few)), len(batch(many))) == (8, 40)


@pytest.mark.recipe_key("select.near_duplicate")
def test_no_two_that_are_as_similar_share_a_batch(read: Night, tmp_path: Path) -> None:
    strict, lax = (selected(read, tmp_path / str(near), budget=30, near_duplicate=near) for near in (0.28, 1.0))
    assert max(likeness(strict, batch(strict))) < 0.28 <= max(likeness(lax, batch(lax)))


@pytest.mark.recipe_key("select.shares.uncertain_compliance")
def test_the_share_of_uncertain_compliance_is_let_through_with_low_confidence(read: Night, tmp_path: Path) -> None:
    none = mixed(read, tmp_path / "none", random=1.0)
    some = mixed(read, tmp_path / "some", random=0.6, uncertain_compliance=0.4)
    assert batch(none, "uncertain_compliance") == []
    picks = [judged(some)[one.sample_id] for one in batch(some, "uncertain_compliance")]
    assert [one.rank for one in batch(some, "uncertain_compliance")] == list(range(1, 9))
    assert {one.cell for one in picks} == {"uncertain_pass"}
    sure = sorted(one.confidence or 0.0 for one in judged(some).values() if one.cell == "uncertain_pass")
    assert [one.confidence for one in picks] == sure[:8]


@pytest.mark.recipe_key("select.shares.disagreement")
def test_the_share_of_disagreement_is_where_the_members_differ_most(read: Night, tmp_path: Path) -> None:
    none = mixed(read, tmp_path / "none", random=1.0)
    half = mixed(read, tmp_path / "half", random=0.5, disagreement=0.5)
    assert batch(none, "disagreement") == []
    scores = [one.score for one in batch(half, "disagreement")]
    assert len(scores) == 10
    with half.store.read() as db:
        pairs = {one.id for one in samples.get(db, list(judged(half))) if one.response is not None}
    task = {id: "response" if id in pairs else "request" for id in judged(half)}
    apart = [one.signals[f"members_disagreement_{task[id]}"] or 0.0 for id, one in judged(half).items()]
    assert scores == sorted(apart, reverse=True)[:10]


@pytest.mark.recipe_key("select.shares.low_confidence")
def test_the_share_of_low_confidence_is_the_least_sure_whatever_the_verdict(read: Night, tmp_path: Path) -> None:
    none = mixed(read, tmp_path / "none", random=1.0)
    half = mixed(read, tmp_path / "half", random=0.5, low_confidence=0.5)
    assert batch(none, "low_confidence") == []
    picks = [judged(half)[one.sample_id] for one in batch(half, "low_confidence")]
    assert [one.confidence for one in picks] == sorted(one.confidence or 0.0 for one in judged(half).values())[:10]
    assert {str(one.cell).split("_")[1] for one in picks} >= {"pass", "block"}


@pytest.mark.recipe_key("select.shares.diversity")
def test_the_share_of_diversity_is_least_like_what_is_chosen_already(read: Night, tmp_path: Path) -> None:
    none = mixed(read, tmp_path / "none", random=1.0)
    half = mixed(read, tmp_path / "half", random=0.5, diversity=0.5)
    assert batch(none, "diversity") == []
    ours = likeness(half, batch(half, "diversity"))
    assert len(ours) == 10
    by_chance = likeness(none, batch(none)[:10])
    assert sum(ours) < sum(by_chance)


@pytest.mark.recipe_key("select.shares.random")
def test_the_random_share_is_drawn_from_all_that_is_left_with_its_chance(read: Night, tmp_path: Path) -> None:
    none = mixed(read, tmp_path / "none", low_confidence=1.0)
    half = mixed(read, tmp_path / "half", low_confidence=0.5, random=0.5)
    assert batch(none, "random") == []
    assert {one.propensity for one in batch(none)} == {None}
    assert [one.propensity for one in batch(half, "random")] == [pytest.approx(10 / 80)] * 10
    least = [one.sample_id for one in batch(none)]
    assert [one.sample_id for one in batch(half, "low_confidence")] == least[:10]
    assert {one.sample_id for one in batch(half, "random")} != set(least[10:])


@pytest.mark.recipe_key("members.count")
def test_as_many_members_are_trained_and_asked_as_the_count_says(reviewed: Night, tmp_path: Path) -> None:
    none, three = (trained(reviewed, tmp_path / str(count), count=count) for count in (0, 3))
    for round, phase in ((0, "evaluate"), (0, "gate"), (1, "classify"), (1, "select")):
        none.phase(round, phase)
        three.phase(round, phase)
    assert members(none) == []
    assert [one.name for one in members(three)] == ["r00-m1", "r00-m2", "r00-m3"]
    with three.store.read() as db:
        assert [len(predictions.of_model(db, one.id, "pool")) for one in members(three)] == [90, 90, 90]
    assert not any("members" in name for one in judged(none).values() for name in one.signals)
    assert all("members_disagreement_request" in one.signals for one in judged(three).values())
    assert not any("committee" in name for one in judged(three).values() for name in one.signals)
    # Without members a committee disagrees.
    assert all("committee_disagreement_request" in one.signals for one in judged(none).values())
    assert (len(batch(none, "disagreement")), len(batch(none))) == (4, 16)
    assert (len(batch(three, "disagreement")), len(batch(three))) == (4, 16)


@pytest.mark.recipe_key("members.keep")
def test_each_member_learns_from_its_own_share_of_the_samples(reviewed: Night, tmp_path: Path) -> None:
    some, every = (trained(reviewed, tmp_path / str(keep), keep=keep) for keep in (0.4, 1.0))
    whole = learned(every, "r00-sft")
    assert len(whole) == 30
    assert learned(every, "r00-m1") == learned(every, "r00-m2") == whole
    for name in ("r00-m1", "r00-m2"):
        assert 6 <= len(learned(some, name)) <= 18
        assert learned(some, name) < whole
    assert learned(some, "r00-m1") != learned(some, "r00-m2")
    assert learned(some, "r00-sft") == whole
