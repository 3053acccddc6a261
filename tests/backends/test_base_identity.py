"""A base is known by the files that a loader reads: names and contents count, times and other files do not."""

import json
import os
from pathlib import Path

import pytest

from wizloop.backends import artifacts, base_identity


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    (tmp_path / "chat_template.jinja").write_text("{{ messages }}")
    (tmp_path / "README.md").write_text("A card.")
    return tmp_path


def later(path: Path, text: str) -> None:
    """Write as many bytes at another time."""
    before = path.stat().st_mtime_ns
    path.write_text(text)
    os.utime(path, ns=(before + 10**9, before + 10**9))


def test_a_copy_has_the_same_hash_and_other_contents_another(folder: Path) -> None:
    known = base_identity.taken(folder)
    assert set(known) == {"model.safetensors", "config.json", "chat_template.jinja"}
    later(folder / "model.safetensors", "weights")
    (folder / "README.md").write_text("Another card.")
    assert base_identity.changed(folder, known) == []
    assert base_identity.sha256(base_identity.taken(folder)) == base_identity.sha256(known)
    later(folder / "model.safetensors", "WEIGHTS")
    assert base_identity.changed(folder, known) == ["model.safetensors"]
    assert base_identity.sha256(base_identity.taken(folder)) != base_identity.sha256(known)


def test_a_file_that_is_new_or_gone_is_a_change(folder: Path) -> None:
    known = base_identity.taken(folder)
    (folder / "chat_template.jinja").unlink()
    (folder / "generation_config.json").write_text("{}")
    assert base_identity.changed(folder, known) == ["chat_template.jinja", "generation_config.json"]


@pytest.mark.parametrize(
    ("base", "named"),
    [
        ("owner/name", {"base": "owner/name"}),
        ("owner/name@0123", {"base": "owner/name", "revision": "0123"}),
    ],
)
def test_an_adapter_names_its_base_of_the_hub_with_its_revision(
    tmp_path: Path, base: str, named: dict[str, str]
) -> None:
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA", "revision": null}')
    base_identity.name_base(base, tmp_path)
    assert json.loads((tmp_path / "base.json").read_text()) == named
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == (named["base"], named.get("revision"))


def test_an_adapter_names_a_folder_by_its_hash_and_our_own_by_its_manifest(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "to").mkdir()
    base_identity.name_base(str(folder), tmp_path / "to")
    digest = base_identity.sha256(base_identity.taken(folder))
    assert json.loads((tmp_path / "to" / "base.json").read_text()) == {"base": folder.name, "sha256": digest}
    with artifacts.writing(tmp_path / "ours", {}) as ours:
        (ours / "config.json").write_text("{}")
    base_identity.name_base(str(tmp_path / "ours"), tmp_path / "to")
    named = json.loads((tmp_path / "to" / "base.json").read_text())
    assert named == {"base": "ours", "manifest_sha256": artifacts.verify(tmp_path / "ours")}
