"""A model folder is whole or not there, and a changed one is found out."""

from collections.abc import Callable
from pathlib import Path

import pytest

from wizloop.backends import artifacts
from wizloop.backends.guard_types import BadArtifact


def write(final: Path) -> None:
    with artifacts.writing(final, {"step": 3}) as folder:
        (folder / "model.safetensors").write_bytes(b"weights" * 100)
        (folder / "config.json").write_text("{}", encoding="utf-8")


def test_a_written_folder_is_verified_and_says_what_it_is(tmp_path: Path) -> None:
    write(tmp_path / "r01")
    assert len(artifacts.verify(tmp_path / "r01")) == 64
    assert artifacts.about(tmp_path / "r01") == {"step": 3}


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with artifacts.writing(tmp_path / "r01", {}) as folder:
            (folder / "config.json").write_text("{}", encoding="utf-8")
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_swept(tmp_path: Path) -> None:
    (tmp_path / "tmp-r01-123").mkdir()
    write(tmp_path / "r02")
    artifacts.sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["r02"]


@pytest.mark.parametrize("name", ["..", "../x", "R01", "", "x" * 65, "tmp\x00", "r01\n", "é"])
def test_a_name_that_is_not_plain_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises((ValueError, FileExistsError)), artifacts.writing(tmp_path / name, {}):
        pass
    assert list(tmp_path.iterdir()) == []


def flip(folder: Path) -> None:
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[300] ^= 1
    path.write_bytes(bytes(data))


def link(folder: Path) -> None:
    (folder / "config.json").rename(folder.parent / "elsewhere.json")
    (folder / "config.json").symlink_to(folder.parent / "elsewhere.json")


CHANGES: dict[str, Callable[[Path], object]] = {
    "a flipped bit": flip,
    "a cut file": lambda folder: (folder / "model.safetensors").write_bytes(b"weights"),
    "an empty file": lambda folder: (folder / "config.json").write_bytes(b""),
    "a missing file": lambda folder: (folder / "config.json").unlink(),
    "a new pickle": lambda folder: (folder / "model.bin").write_bytes(b"\x80\x04"),
    "a symlink": link,
    "no manifest": lambda folder: (folder / "manifest.json").unlink(),
    "a broken manifest": lambda folder: (folder / "manifest.json").write_text("{", encoding="utf-8"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_folder_is_refused(tmp_path: Path, change: str) -> None:
    write(tmp_path / "r01")
    CHANGES[change](tmp_path / "r01")
    with pytest.raises(BadArtifact, match="r01"):
        artifacts.verify(tmp_path / "r01")


def test_a_pickle_cannot_be_written(tmp_path: Path) -> None:
    def fail() -> None:
        with artifacts.writing(tmp_path / "r01", {}) as folder:
            (folder / "model.bin").write_bytes(b"\x80\x04")

    with pytest.raises(BadArtifact, match=r"model\.bin"):
        fail()
    assert list(tmp_path.iterdir()) == []
