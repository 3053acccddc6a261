"""A dry run reads the header of a GGUF base, says what it holds, refuses what cannot be read, and writes nothing."""

from pathlib import Path
from typing import Any

import pytest

from tests.backends.gguf import made
from tests.loop.preflight.test_look import told, written


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "hf"))
    return tmp_path / "hf"


def model_check(tmp_path: Path, file: Path, status: int) -> dict[str, Any]:
    found = told(written(tmp_path, f'[guard]\nbase = "{file}"'), "-w", tmp_path / "runs", status=status)
    (check,) = (one for one in found["checks"] if one["name"] == "model")
    return dict(check)


def test_a_gguf_base_is_described_and_not_unpacked(tmp_path: Path, cache: Path) -> None:
    file = made.llama(tmp_path / "model.gguf")
    assert model_check(tmp_path, file, 0)["found"] == f"{file}: a GGUF file of a llama with 2 layers, in F32"
    assert not cache.exists()


def test_what_cannot_be_read_is_missing(tmp_path: Path) -> None:
    file = made.llama(tmp_path / "model.gguf", architecture="rwkv7")
    found = model_check(tmp_path, file, 2)
    assert found["found"].startswith(f"{file}: a GGUF file of architecture 'rwkv7' cannot be read, only llama")


def test_a_file_of_another_kind_is_missing(tmp_path: Path) -> None:
    file = tmp_path / "model.bin"
    file.write_bytes(b"\0")
    assert "of files only GGUF is read" in model_check(tmp_path, file, 2)["found"]
