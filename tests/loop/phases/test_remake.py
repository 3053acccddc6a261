"""What a damaged disk takes of a run's models is made again from the records, and nothing else is touched."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.loop.branching import Branch
from tests.loop.small_night import NOW, Night
from wizloop.backends.guard_types import BadArtifact
from wizloop.loop.context import Standalone
from wizloop.loop.phases import remake
from wizloop.store import models


def repair(night: Night) -> list[str]:
    return remake.run(
        lambda round, phase: Standalone(
            night.store, night.folder, night.recipe, round, phase, lambda: NOW, lambda: False, given=night.backend
        )
    )


def flip(folder: Path) -> None:
    path = max(
        (each for each in folder.iterdir() if each.name != "manifest.json"), key=lambda each: each.stat().st_size
    )
    found = bytearray(path.read_bytes())
    found[-1] ^= 1
    path.write_bytes(bytes(found))


def other(folder: Path) -> None:
    """Put another whole model there, as a restored copy of another run would."""
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"about": {"window": 1}}))


HARM: dict[str, Callable[[Path], object]] = {
    "a flipped bit": flip,
    "no manifest": lambda folder: (folder / "manifest.json").unlink(),
    "no folder": shutil.rmtree,
    "another model": other,
}


@pytest.mark.parametrize("harm", HARM)
@pytest.mark.parametrize("lost", ["base", "r00-sft", "r00-m1", "r00"])
def test_a_damaged_model_is_made_again_the_same(trained: Night, tmp_path: Path, harm: str, lost: str) -> None:
    night = Branch(trained, tmp_path / "a")
    before = night.rows()
    with night.store.read() as db:
        found = models.by_name(db, lost)
    assert found is not None
    HARM[harm](night.folder / found.path)
    said = repair(night)
    assert said == [f"{Path(found.path).name} was damaged and is made again, the same to the byte"]
    assert night.rows() == before
    assert night.judge(lost, "evaluate").guard is not None
    assert repair(night) == []


def test_all_models_at_once_are_made_again_in_their_order(trained: Night, tmp_path: Path) -> None:
    night = Branch(trained, tmp_path / "a")
    shutil.rmtree(night.folder / "models")
    said = repair(night)
    assert [sentence.split()[0] for sentence in said][:2] == ["base", "r00-sft"]
    assert {sentence.partition(", ")[2] for sentence in said} == {"the same to the byte"}


def test_a_model_of_which_nothing_is_left_is_named_as_lost(trained: Night, tmp_path: Path) -> None:
    night = Branch(trained, tmp_path / "a")
    with night.store.write() as db:
        db.exec_driver_sql("DELETE FROM uses")
    shutil.rmtree(night.folder / "models" / "r00-m1")
    assert repair(night) == ["r00-m1 is lost: nothing is recorded that it could be made of"]


def test_a_damaged_model_says_how_it_is_made_again(trained: Night, tmp_path: Path) -> None:
    night = Branch(trained, tmp_path / "a")
    flip(night.folder / "models" / "r00-sft")
    with pytest.raises(BadArtifact, match="`wizloop repair` make it again"):
        night.judge("r00-sft", "evaluate")
