"""What is on record of a run's base, and which bases are refused, before a teacher is paid and at every load."""

import json
from collections.abc import Sequence
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from tests.loop.branching import model
from tests.loop.small_night import NOW, Night, recipe
from tests.loop.stand_in import StandInGuard
from wizloop.backends import base_identity, model_folder
from wizloop.backends.guard_types import BadArtifact, Choice, Encoded
from wizloop.loop.cli import app
from wizloop.loop.context import Context, standalone
from wizloop.store import steps

A, B = "a" * 40, "b" * 40


def folder_of(parent: Path) -> Path:
    """Write what a model folder holds; the stand-in reads none of it."""
    parent.mkdir(parents=True)
    (parent / "config.json").write_text('{"model_type": "llama"}')
    (parent / "model.safetensors").write_bytes(b"weights")
    return parent


def prepared(folder: Path, base: str) -> Night:
    night = Night(folder, recipe(guard={"base": base}))
    for phase in ("import", "prepare"):
        night.phase(0, phase)
    return night


def context(night: Night) -> Context:
    made = standalone(night.store, night.folder, night.recipe, "classify", NOW)
    made.given = night.backend
    return made


def test_a_folder_is_on_record_by_the_hash_of_its_files(tmp_path: Path) -> None:
    base = folder_of(tmp_path / "base")
    night = prepared(tmp_path / "a", str(base))
    row = model(night, "base")
    files = json.loads(row.meta_json)["files"]
    assert set(files) == {"config.json", "model.safetensors"}
    assert row.sha256 == base_identity.sha256(base_identity.taken(base))


def test_another_model_in_the_same_folder_is_refused_wherever_one_is_loaded(tmp_path: Path) -> None:
    base = folder_of(tmp_path / "base")
    night = prepared(tmp_path / "a", str(base))
    context(night).guard(model(night, "base"))
    (base / "model.safetensors").write_bytes(b"other weights")
    said = r"base: is another model than this run began with \(model.safetensors changed\): put the files back"
    with pytest.raises(BadArtifact, match=said):
        context(night).guard(model(night, "base"))
    with pytest.raises(BadArtifact, match=said):
        night.phase(0, "train")


@pytest.mark.parametrize("words", [["--headless"], ["--dry-run"]])
def test_a_start_says_that_the_base_is_another(tmp_path: Path, words: list[str]) -> None:
    base = folder_of(tmp_path / "base")
    prepared(tmp_path / "a", str(base)).store.close()
    (base / "config.json").write_text('{"model_type": "qwen3"}')
    said = CliRunner().invoke(app, ["start", "-w", str(tmp_path / "a"), *words])
    assert said.exit_code == 2
    assert "is another model than this run began with (config.json changed)" in " ".join(said.output.split())


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache of a hub's model with two commits, of which `main` is the first; nothing can be fetched."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    model = tmp_path / "cache" / "models--owner--name"
    for commit in (A, B):
        folder_of(model / "snapshots" / commit)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text(A)
    return model


def test_a_model_of_the_hub_keeps_the_commit_that_it_was_first_loaded_from(tmp_path: Path, hub: Path) -> None:
    night = prepared(tmp_path / "a", "owner/name")
    (hub / "refs" / "main").write_text(B)
    assert model_folder.find("owner/name").name == B
    assert context(night).base() == f"owner/name@{A}"
    assert model_folder.find(context(night).base()).name == A
    night.phase(0, "prepare")
    with night.store.read() as db:
        first = steps.get_round(db, 0)
    assert first is not None
    assert first.record["base_revision"] == A


def test_a_named_revision_is_taken(hub: Path) -> None:
    assert model_folder.find(f"owner/name@{B}").name == B
    assert model_folder.on_disk(f"owner/name@{B}") == hub / "snapshots" / B
    assert model_folder.on_disk(f"owner/name@{'c' * 40}") is None


def test_a_base_that_answers_with_no_number_is_refused_before_a_teacher_is_paid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def score(
        self: StandInGuard, prompts: Sequence[Encoded], choice: Choice, *, rows: int = 128
    ) -> NDArray[np.float64]:
        return np.full((len(prompts), len(choice.words)), np.nan)

    monkeypatch.setattr(StandInGuard, "score", score)
    with pytest.raises(BadArtifact, match="base: its logits are not finite numbers"):
        prepared(tmp_path / "a", str(folder_of(tmp_path / "base")))
