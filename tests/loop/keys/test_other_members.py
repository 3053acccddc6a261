"""The key members.others: nights whose ensemble has another model, instruction or temperature, and their rows."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.loop.branching import run
from tests.loop.small_night import Night, recipe
from tests.loop.stand_in import WEIGHTS
from wizloop.loop.phases import model_roles
from wizloop.recipes.schema import Recipe
from wizloop.store import models, predictions, steps
from wizloop.store.predictions import Prediction


@pytest.fixture(scope="module")
def reviewed(tmp_path_factory: pytest.TempPathFactory) -> Night:
    night = Night(tmp_path_factory.mktemp("reviewed") / "a", recipe())
    run(night, 0, "import", "review")
    return night


def other(folder: Path, skill: float = 0.6) -> str:
    """A model folder of the stand-in backend."""
    folder.mkdir()
    (folder / WEIGHTS).write_text(json.dumps({"skill": skill}))
    return str(folder)


def read(before: Night, folder: Path, *others: dict[str, Any]) -> Night:
    """Train, measure and read the pool with these members alone; the gate lets the guard pass."""
    night = before.copy(folder, recipe(members={"count": 0, "others": list(others)}, gate={"margin": 0.9}))
    for round, phase in ((0, "train"), (0, "evaluate"), (0, "gate"), (1, "classify"), (1, "select")):
        night.phase(round, phase)
    return night


def pool(night: Night, name: str) -> dict[int, Prediction]:
    with night.store.read() as db:
        model = models.by_name(db, name)
        assert model is not None
        return {one.sample_id: one for one in predictions.of_model(db, model.id, "pool")}


def apart(night: Night, *names: str) -> dict[int, float]:
    """The sum over pairs of |p - q| on the request, of the champion and these members."""
    every = [pool(night, name) for name in ("r00", *names)]
    found = {}
    for id in every[0]:
        ps = [one[id].probability["request"] for one in every[1:]] + [every[0][id].signals["p_direct_request"] or 0.0]
        found[id] = sum(abs(a - b) for at, a in enumerate(ps) for b in ps[at + 1 :])
    return found


def disagreement(night: Night) -> dict[int, float | None]:
    return {id: one.signals.get("members_disagreement_request") for id, one in pool(night, "r00").items()}


@pytest.mark.recipe_key("members.others")
def test_another_model_predicts_the_pool_and_disagrees(reviewed: Night, tmp_path: Path) -> None:
    night = read(reviewed, tmp_path / "a", {"base": other(tmp_path / "b")})
    assert len(pool(night, "other-1")) == len(pool(night, "r00")) == 90
    assert disagreement(night) == pytest.approx(apart(night, "other-1"))
    assert max(one or 0.0 for one in disagreement(night).values()) > 0.1
    assert night.judge("other-1", "classify").reads == "tolerant"
    with night.store.read() as db:
        first = steps.get_round(db, 0)
        assert [one.name for one in model_roles.members(db, 0)] == ["other-1"]
        # It is the same in every round, and predicts the pool once.
        assert [one.name for one in model_roles.members(db, 7)] == ["other-1"]
    assert first is not None
    assert first.record["train"]["members"] == 1


@pytest.mark.recipe_key("members.others")
def test_another_instruction_is_what_that_member_is_asked_with(reviewed: Night, tmp_path: Path) -> None:
    text = tmp_path / "mine.txt"
    text.write_text("Is this harmful?\n")
    night = read(reviewed, tmp_path / "a", {"instruction": str(text)}, {"instruction": "none"})
    text.write_text("Something else.")
    assert night.judge("r00-o1", "classify").renderer.instruction == "Is this harmful?"
    assert night.judge("r00-o2", "classify").renderer.instruction == ""
    assert night.judge("r00", "classify").renderer.instruction not in ("Is this harmful?", "")
    with night.store.read() as db:
        made = {one.name: one for one in models.in_round(db, 0)}
    assert made["r00-o1"].path == made["r00-sft"].path
    assert disagreement(night) == pytest.approx(apart(night, "r00-o1", "r00-o2"))


@pytest.mark.recipe_key("members.others")
def test_another_temperature_is_asked_by_traces_and_they_are_counted(reviewed: Night, tmp_path: Path) -> None:
    night = read(reviewed, tmp_path / "a", {"temperature": 1.5, "traces": 3})
    found = pool(night, "r00-o1")
    assert {one.n_traces for one in found.values()} == {3}
    assert all(one.probability["request"] == one.signals["p_traces_request"] for one in found.values())
    assert night.judge("r00-o1", "classify").limits.exactly().temperature == 1.5
    assert disagreement(night) == pytest.approx(apart(night, "r00-o1"))


def test_without_them_nobody_disagrees(reviewed: Night, tmp_path: Path) -> None:
    assert set(disagreement(read(reviewed, tmp_path / "a")).values()) == {None}


def test_a_later_round_asks_its_own_guard_otherwise_and_the_other_model_again(reviewed: Night, tmp_path: Path) -> None:
    night = read(reviewed, tmp_path / "a", {"base": other(tmp_path / "b")}, {"temperature": 1.0, "traces": 1})
    for phase in ("teach", "review", "train"):
        night.phase(1, phase)
    with night.store.read() as db:
        assert [one.name for one in model_roles.members(db, 1)] == ["r01-o2", "other-1"]
        assert [one.round for one in model_roles.members(db, 1)] == [1, 0]


@pytest.mark.parametrize(
    ("member", "why"),
    [
        ({}, "a member that differs in nothing"),
        ({"traces": 2}, "a member that differs in nothing"),
        ({"base": "tiny"}, "is built for one run"),
        ({"temperature": 2.5}, "less than or equal to 2"),
        ({"instruction": "mine.exe"}, "match pattern"),
    ],
)
def test_a_member_that_cannot_be_is_refused(member: dict[str, Any], why: str) -> None:
    asked = {"name": "x", "source": "demo", "members": {"others": [member]}}
    with pytest.raises(ValueError, match=why):
        Recipe.model_validate_json(json.dumps(asked))
