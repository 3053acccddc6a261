"""A night on the real model, from its GGUF file to exports, and killed while it trains: the same rows either way."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from tests.benchmarks.running import module
from wizloop.backends import artifacts
from wizloop.loop.phases import model_roles, order

WIZLOOP = str(Path(sys.executable).parent / "wizloop")
SMALL = """
rounds = 1
[data_demo]
pool = 4
seed = 4
dev = 4
test = 4
[guard]
instruction = "none"
max_trace_tokens = 40
[classify]
least = 1
most = 1
[select]
budget = 2
[train]
epochs = 1
layers = 2
batch = 2
checkpoint_every = 1
held_out = 2
[dpo]
enabled = false
[gate]
max_over_refusal_rise = 1.0
max_unparsable = 1.0
margin = 1.0
[export]
formats = ["adapter"]
parity_n = 2
"""


@pytest.mark.timeout(1200)
def test_a_night_killed_while_it_trains_ends_with_the_same_rows(smollm2_gguf: Path, tmp_path: Path) -> None:
    kill, alone, killed = module("kill.py"), tmp_path / "alone", tmp_path / "killed"
    recipe = _small(tmp_path, smollm2_gguf)
    _finish(_start(recipe, alone, rounds=0))
    shutil.copytree(alone, killed)
    _finish(_start(recipe, alone, rounds=1))
    _kill_while_training(_start(recipe, killed, rounds=1), killed, model_roles.sft_name(1))
    _finish(_start(recipe, killed, rounds=1))
    rows = kill.rows_of(killed)
    assert kill.differences(kill.rows_of(alone), rows) == {}
    assert kill.half_exports(killed) == []
    assert sum(map(len, rows.values())) > 70
    _look_at(killed, smollm2_gguf)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_night_killed_in_each_phase_ends_with_the_same_rows(
    smollm2_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in module("real.py").environment().items():
        monkeypatch.setenv(name, value)
    phases = [*order.phases_of(0), *order.phases_of(1)]
    report = module("kill.py").run(str(_small(tmp_path, smollm2_gguf)), len(phases), 7, tmp_path)
    assert report["clean"], report
    assert report["kills"] == len(phases)
    assert report["phases_hit"] == sorted(order.PHASES)


def _small(folder: Path, gguf: Path) -> Path:
    """Write the shipped recipe, made small, on the model's file."""
    recipe = folder / "small.toml"
    base = {"guard": {"base": str(gguf)}}
    recipe.write_text(tomli_w.dumps(module("nights.py").changed("smollm2-135m", tomllib.loads(SMALL), base)))
    return recipe


def _look_at(workspace: Path, file: Path) -> None:
    """Check what a finished night shows of its rounds, and its exports."""
    shown = subprocess.run([WIZLOOP, "rounds", "--json", "-w", str(workspace)], stdout=subprocess.PIPE, check=True)
    assert [one["round"] for one in json.loads(shown.stdout)] == ["base", 0, 1]
    exported = {each.name: artifacts.verify(each) for each in (workspace / "exports").iterdir()}
    assert "01-adapter" in exported
    named = json.loads((workspace / "exports" / "01-adapter" / "base.json").read_text(encoding="utf-8"))
    assert named["base"] == file.name


def _start(recipe: Path, workspace: Path, *, rounds: int) -> subprocess.Popen[bytes]:
    """Start a headless night, offline, that shares the tests' folder of the model."""
    command = [WIZLOOP, "start", str(recipe), "--headless", "--workspace", str(workspace), "--rounds", str(rounds)]
    environment: dict[str, Any] = module("real.py").environment()
    with workspace.with_suffix(".log").open("ab") as log:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)


def _finish(process: subprocess.Popen[bytes]) -> None:
    assert process.wait(timeout=400) == 0


def _kill_while_training(process: subprocess.Popen[bytes], workspace: Path, name: str) -> None:
    """Send SIGKILL to the supervisor, with which its worker dies, once a model's training has a checkpoint."""
    checkpoints = workspace / "models" / ".checkpoints" / name
    while process.poll() is None:
        if any(each for each in checkpoints.glob("*") if not each.name.startswith("tmp-")):
            os.kill(process.pid, signal.SIGKILL)
        time.sleep(0.02)
    assert process.wait() == -signal.SIGKILL
