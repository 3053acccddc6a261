"""Each key of [export], changed alone: other folders, or other checks of them."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.loop.branching import Branch, run
from tests.loop.small_night import Night, recipe
from wizloop.store import exports
from wizloop.store.exports import Export

USUAL: dict[str, Any] = {"formats": ["safetensors"], "every_round": True, "parity_n": 8}


@pytest.fixture(scope="module")
def passed(tmp_path_factory: pytest.TempPathFactory) -> Night:
    """A night whose first challenger has passed the gate, with one round to come."""
    night = Night(tmp_path_factory.mktemp("passed") / "a", recipe(export=USUAL))
    run(night, 0, "import", "gate")
    return night


def written(night: Night, round: int, **changed: Any) -> list[Export]:
    """Export in a round by a recipe in which these keys alone are changed."""
    night.recipe = recipe(export=USUAL | changed)
    night.phase(round, "export")
    with night.store.read() as db:
        return exports.of_round(db, round)


@pytest.mark.recipe_key("export.formats")
@pytest.mark.parametrize("formats", [["safetensors"], ["adapter", "mlx-4bit"], []])
def test_a_folder_is_written_in_each_format(passed: Night, tmp_path: Path, formats: list[str]) -> None:
    night = Branch(passed, tmp_path / "a")
    assert [one.format for one in written(night, 0, formats=formats)] == formats
    folders = {folder.name for folder in night.folder.glob("exports/*")}
    assert folders == {f"00-{format}" for format in formats}


@pytest.mark.recipe_key("export.every_round")
@pytest.mark.parametrize(("every", "rounds"), [(True, [1, 0]), (False, [0, 1])])
def test_every_round_is_exported_or_the_last_alone(
    passed: Night, tmp_path: Path, every: bool, rounds: list[int]
) -> None:
    night = Branch(passed, tmp_path / "a")
    # The champion is the same in both rounds, and is not exported twice.
    assert [len(written(night, round, every_round=every)) for round in (0, 1)] == rounds


@pytest.mark.recipe_key("export.every_round")
def test_some_formats_are_written_in_every_round_and_all_in_the_last(passed: Night, tmp_path: Path) -> None:
    night, how = Branch(passed, tmp_path / "a"), {"formats": ["safetensors", "adapter"], "every_round": ["adapter"]}
    assert [[one.format for one in written(night, round, **how)] for round in (0, 1)] == [["adapter"], ["safetensors"]]
    with pytest.raises(ValueError, match="every_round has nf4, which formats has not"):
        recipe(export={"every_round": ["nf4"]})


@pytest.mark.recipe_key("export.parity_n")
@pytest.mark.parametrize("n", [0, 1, 8])
def test_the_exported_model_is_asked_about_so_many_dev_samples(passed: Night, tmp_path: Path, n: int) -> None:
    night = Branch(passed, tmp_path / "a", spoils=True)
    (one,) = written(night, 0, parity_n=n)
    parity = json.loads(one.parity_json)
    # One verdict of a prompt alone, three of a prompt with a response.
    assert n <= parity["n"] <= 3 * n
    assert (parity["max_difference"] > 0.1) is (n > 0)
