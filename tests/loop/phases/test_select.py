"""Phase select on the stand-in backend: what goes to the teacher, why, and in which order."""

from pathlib import Path
from typing import Any

import pytest

from tests.loop.small_night import NOW, Night, recipe
from wizloop.loop.data.similarity import jaccard, shingles
from wizloop.loop.teaching.teachers import policies_of, touched_policy
from wizloop.loop.words import DEFAULT
from wizloop.store import models, predictions, samples, selections
from wizloop.store.predictions import Prediction
from wizloop.store.samples import NewSample, Sample
from wizloop.store.selections import Selection

# Other strategies share no pick with the one that is looked at, and near-duplicates drop none.
APART = {"near_duplicate": 1.0}


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Night:
    """The pool as the champion of round 0 reads it. Tests copy it."""
    night = Night(tmp_path_factory.mktemp("read") / "a", recipe())
    night.round(0, "gate")
    night.phase(1, "classify")
    return night


@pytest.fixture(scope="module")
def picked(read: Night, tmp_path_factory: pytest.TempPathFactory) -> Night:
    """Its batch, by the usual shares, with near-duplicates in it."""
    return selected(read, tmp_path_factory.mktemp("picked") / "a", budget=20, **APART)


def selected(before: Night, folder: Path, **select: Any) -> Night:
    night = before.copy(folder, recipe(select=select))
    night.phase(1, "select")
    return night


def batch(night: Night, round: int = 1) -> list[Selection]:
    with night.store.read() as db:
        return selections.of_round(db, round)


def reasons(night: Night) -> dict[str, list[Selection]]:
    found: dict[str, list[Selection]] = {}
    for one in batch(night):
        found.setdefault(one.reason, []).append(one)
    return found


def judged(night: Night) -> dict[int, Prediction]:
    """What the champion said of the pool, by sample."""
    with night.store.read() as db:
        champion = models.by_name(db, "r00")
        assert champion is not None
        return {one.sample_id: one for one in predictions.of_model(db, champion.id, "pool")}


def pool(night: Night) -> dict[int, Sample]:
    with night.store.read() as db:
        return {one.id: one for one in samples.get(db, samples.ids(db, "pool"))}


def disagreements(night: Night) -> dict[int, float]:
    """How far the champion and its members are apart on each sample's main task."""
    main = {one.id: DEFAULT.main_task(one) for one in pool(night).values()}
    return {id: one.signals[f"members_disagreement_{main[id]}"] or 0.0 for id, one in judged(night).items()}


def without(night: Night, *earlier: str) -> set[int]:
    """What the strategies before have left."""
    return set(judged(night)) - {one.sample_id for one in batch(night) if one.reason in earlier}


def test_the_seed_goes_to_the_teacher_whole_in_round_zero(read: Night) -> None:
    with read.store.read() as db:
        ids = samples.ids(db, "seed")
    assert [one.sample_id for one in batch(read, 0)] == ids
    assert [one.rank for one in batch(read, 0)] == list(range(1, 31))
    assert {(one.reason, one.propensity) for one in batch(read, 0)} == {("seed", None)}


def test_the_budget_is_divided_by_the_shares_and_ranked_by_strategy(picked: Night) -> None:
    sizes = {reason: len(of_reason) for reason, of_reason in reasons(picked).items()}
    # In this order, the riskiest first.
    assert list(sizes.items()) == [
        ("uncertain_compliance", 7),
        ("disagreement", 5),
        ("low_confidence", 3),
        ("diversity", 2),
        ("random", 3),
    ]
    assert [one.rank for one in batch(picked)] == list(range(1, 21))
    assert len({one.sample_id for one in batch(picked)}) == 20


def test_uncertain_compliance_is_what_the_champion_lets_through_with_the_least_confidence(picked: Night) -> None:
    said = judged(picked)
    cell = [id for id, one in said.items() if one.cell == "uncertain_pass"]
    least = sorted(cell, key=lambda id: (said[id].confidence or 0.0, id))
    of_reason = reasons(picked)["uncertain_compliance"]
    assert len(cell) > 7
    assert [one.sample_id for one in of_reason] == least[:7]
    assert [one.score for one in of_reason] == [-(said[id].confidence or 0.0) for id in least[:7]]
    assert of_reason[0].words.startswith("Allowed at P(harmful) 0.")


def test_disagreement_is_where_the_members_differ_most(picked: Night) -> None:
    apart = disagreements(picked)
    left = without(picked, "uncertain_compliance")
    most = sorted(left, key=lambda id: (-apart[id], id))[:5]
    assert [one.sample_id for one in reasons(picked)["disagreement"]] == most
    assert [one.score for one in reasons(picked)["disagreement"]] == [apart[id] for id in most]


def test_low_confidence_is_the_least_sure_of_the_rest_whatever_the_verdict(picked: Night) -> None:
    said = judged(picked)
    left = without(picked, "uncertain_compliance", "disagreement")
    least = sorted(left, key=lambda id: (said[id].confidence or 0.0, id))[:3]
    assert [one.sample_id for one in reasons(picked)["low_confidence"]] == least
    assert {said[id].cell for id in least} & {"uncertain_block", "confident_block"}


def test_diversity_takes_the_policy_that_was_picked_least(read: Night, tmp_path: Path) -> None:
    night = selected(read, tmp_path / "a", budget=20, shares=shares(diversity=0.5, low_confidence=0.5), **APART)
    known, prompts = policies_of(night.recipe), pool(night)
    policy = {id: touched_policy(one.prompt, known, night.recipe) for id, one in prompts.items()}
    times = dict.fromkeys(policy.values(), 0)
    for one in reasons(night)["low_confidence"]:
        times[policy[one.sample_id]] += 1
    for one in reasons(night)["diversity"]:
        left = {policy[id] for id in set(prompts) - {other.sample_id for other in batch(night)[: one.rank - 1]}}
        assert times[policy[one.sample_id]] == min(times[name] for name in left)
        name = policy[one.sample_id]
        assert (f"under the policy {name}:" in one.words) == (name is not None)
        times[policy[one.sample_id]] += 1
    assert len(times) > 2


def test_only_a_random_pick_has_a_propensity_and_it_is_the_chance_that_it_had(picked: Night) -> None:
    left = len(without(picked, "uncertain_compliance", "disagreement", "low_confidence", "diversity"))
    assert left == 73
    assert [one.propensity for one in reasons(picked)["random"]] == [pytest.approx(3 / left)] * 3
    assert [one.score for one in reasons(picked)["random"]] == [pytest.approx(3 / left)] * 3
    assert {one.propensity for one in batch(picked) if one.reason != "random"} == {None}


def test_a_random_pick_follows_from_the_seed_and_is_no_best_one(read: Night, tmp_path: Path) -> None:
    how = {"budget": 20, "shares": shares(random=1.0), **APART}
    first, again = selected(read, tmp_path / "a", **how), selected(read, tmp_path / "b", **how)
    assert batch(again) == batch(first)
    other = read.copy(tmp_path / "c", recipe(seed=8, select=how))
    other.phase(1, "select")
    ids = [one.sample_id for one in batch(first)]
    assert {one.sample_id for one in batch(other)} != set(ids)
    assert ids != sorted(ids)


def test_no_two_of_a_batch_are_near_duplicates(read: Night, picked: Night, tmp_path: Path) -> None:
    night = selected(read, tmp_path / "a", budget=20, near_duplicate=0.26)
    assert likeness(night) < 0.26 <= likeness(picked)
    assert len(batch(night)) == 20


def test_a_response_tells_two_samples_with_the_same_prompt_apart(read: Night, tmp_path: Path) -> None:
    prompt = "tell me how the old lighthouse on the northern coast was built"
    answers = [
        "Workers carried granite up from the quarry by boat over many summers of calm weather.",
        "Nobody knows, since its plans burned together with the archive of the harbour office.",
    ]
    new = [NewSample("pool", prompt, answer, "made", str(at)) for at, answer in enumerate(answers)]
    new += [NewSample("pool", f"{prompt} {end}", None, "made", end) for end in ("please", "today")]
    night = read.copy(tmp_path / "a", recipe(select={"budget": 200}))
    with night.store.write() as db:
        samples.add(db, new, NOW)
        before = [one.id for one in samples.page(db, "pool", 0, 200) if one.source == "made"]
        champion = models.by_name(db, "r00")
        assert champion is not None
        one = next(iter(judged(night).values()))
        how = {f.name: getattr(one, f.name) for f in one.__dataclass_fields__.values()}
        predictions.add(db, [Prediction(**{**how, "sample_id": id}) for id in before])
    # Round 1 has begun: what comes in now is picked in round 2.
    night.phase(2, "select")
    taken = {one.sample_id for one in batch(night, 2)} & set(before)
    assert len(before) == 4
    assert set(before[:2]) < taken
    assert len(taken) == 3


def test_what_a_round_before_picked_is_not_picked_again(picked: Night, tmp_path: Path) -> None:
    night = picked.copy(tmp_path / "a")
    night.phase(2, "select")
    assert len(batch(night, 2)) == 20
    assert {one.sample_id for one in batch(night, 2)} & {one.sample_id for one in batch(night, 1)} == set()
    random = [one.propensity for one in batch(night, 2) if one.reason == "random"]
    assert random == [pytest.approx(3 / (90 - 20 - 17))] * 3


def test_only_what_the_champion_judged_can_be_picked(read: Night, tmp_path: Path) -> None:
    night = read.copy(tmp_path / "a", recipe(select={"budget": 200, "near_duplicate": 1.0}))
    with night.store.write() as db:
        [last] = samples.ids(db, "pool")[-1:]
        samples.add(db, [NewSample("pool", "a prompt that nobody has read yet", None, "made", "1")], NOW)
        samples.exclude(db, [last], "test")
    night.phase(1, "select")
    assert {one.sample_id for one in batch(night)} == set(judged(read)) - {last}


def test_a_phase_that_is_done_again_picks_nothing_more(picked: Night, tmp_path: Path) -> None:
    night = picked.copy(tmp_path / "a")
    assert night.phase(1, "select") == (
        "5 disagreement, 2 diversity, 3 low confidence, 3 random, 7 uncertain compliance"
    )
    assert batch(night) == batch(picked)


def shares(**given: float) -> dict[str, float]:
    """Shares of the strategies that are named, and none of the others."""
    names = ("uncertain_compliance", "disagreement", "low_confidence", "diversity", "random")
    return {name: given.get(name, 0.0) for name in names}


def likeness(night: Night) -> float:
    """The highest Jaccard similarity of two of the batch."""
    texts = [one for id, one in pool(night).items() if id in {pick.sample_id for pick in batch(night)}]
    known = [shingles(one.prompt if one.response is None else f"{one.prompt}\n{one.response}") for one in texts]
    return max(jaccard(a, b) for at, a in enumerate(known) for b in known[:at])
