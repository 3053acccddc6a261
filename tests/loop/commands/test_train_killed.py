"""`train` killed in the middle of R-SFT: the same command goes on from the checkpoint and ends with the same guard."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.loop.commands.test_train import given, labeled
from wizloop.store import models, teacher_calls, training
from wizloop.store.db import Store

RECIPE = """
name = "small"
source = "imported"
seed = 5
[guard]
instruction = "none"
max_trace_tokens = 32
[guard.tiny]
vocab = 800
width = 64
mlp = 128
[members]
count = 0
[train]
epochs = 2
least_steps = 60
checkpoint_every = 3
[review]
rule = "nothing"
[gate]
max_over_refusal_rise = 1.0
max_unparsable = 1.0
margin = 1.0
[export]
formats = ["safetensors"]
"""


def command(folder: Path, runs: Path) -> list[str]:
    recipe, dev = folder / "small.toml", labeled(folder / "dev.csv", "please {} {} for me")
    recipe.write_text(RECIPE, encoding="utf-8")
    words = ["train", str(given(folder)), "--recipe", str(recipe), "--dev", str(dev), "-w", str(runs)]
    return [sys.executable, "-m", "wizloop.loop.cli", *words]


def killed_in_training(words: list[str], runs: Path) -> bool:
    """Start it and kill its whole session at the first checkpoint; return whether it was still at work."""
    began = subprocess.Popen(words, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    checkpoint = runs / "models" / ".checkpoints" / "r00-sft"
    while began.poll() is None and not (checkpoint.is_dir() and any(checkpoint.iterdir())):
        time.sleep(0.02)
    running = began.poll() is None
    os.killpg(began.pid, signal.SIGKILL)
    began.wait()
    return running


def ending(runs: Path) -> dict[str, object]:
    with Store.open(runs, readonly=True) as store, store.read() as db:
        made = models.by_name(db, "r00")
        assert made is not None
        calls = [(call.key, call.state) for call in teacher_calls.calls(db, 0)]
        return {"sha256": made.sha256, "calls": calls, "used": sorted(training.used(db, made.id))}


@pytest.mark.long
@pytest.mark.timeout(900)
def test_it_ends_with_the_same_guard_as_if_it_had_been_left_alone(tmp_path: Path) -> None:
    alone, killed = tmp_path / "alone", tmp_path / "killed"
    subprocess.run(command(tmp_path, alone), check=True, capture_output=True)
    words = command(tmp_path, killed)
    assert killed_in_training(words, killed)
    subprocess.run(words, check=True, capture_output=True)
    assert ending(killed) == ending(alone)
    cards = [json.loads((runs / "exports" / "00-safetensors" / "guard.json").read_text()) for runs in (alone, killed)]
    assert cards[0] == cards[1]
