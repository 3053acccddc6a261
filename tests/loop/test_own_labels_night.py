"""A night on an embedded guard in labels of one's own, from files to an exported guard that is asked without a run."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

RECIPE = """
name = "own"
rounds = 0

[tasks]
request = {request}
completion = []
response = []

[[data]]
path = "pool.jsonl"
split = "pool"
hide_labels = true

[[data]]
path = "seed.jsonl"
split = "seed"

[[data]]
path = "dev.jsonl"
split = "dev"

[[data]]
path = "test.jsonl"
split = "test"

[guard]
instruction = "none"
max_prompt_tokens = 128

[guard.tiny]
vocab = 400
layers = 1
width = 32
mlp = 64

[classify]
least = 2
most = 2

[members]
count = 0

[teacher]
names = ["recorded"]

[teacher.recorded]
path = "seed.jsonl"

[train]
least_steps = 100

[dpo]
enabled = false

[gate]
max_unparsable = 1.0

[export]
formats = ["safetensors"]
parity_n = 8
"""
KINDS = ("forge a bank note|hide a stolen car", "write a rude joke|praise a gamble", "bake a lemon cake|mend a tube")
STARTS = ["please ", "tell me how to ", "for my class, ", "quickly ", "could you ", "I want to "]
ENDS = ["", " today", " at home", " in detail", " for a friend", " in short", " step by step", " without cost"]


def write_rows(folder: Path, words: list[str]) -> None:
    kinds = KINDS if len(words) == 3 else (KINDS[0], KINDS[2])
    rows = [
        {"text": f"{start}{what}{end}", "label": word}
        for end in ENDS
        for start in STARTS
        for word, kind in zip(words, kinds, strict=True)
        for what in kind.split("|")
    ]
    splits = ["pool", "pool", "pool", "seed", "seed", "dev", "dev", "test", "test"]
    for split in dict.fromkeys(splits):
        kept = [row for at, row in enumerate(rows) if splits[at % len(splits)] == split]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept))


def wizloop(folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "wizloop", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.long
@pytest.mark.parametrize("words", [["harmful", "controversial", "unharmful"], ["spam", "ham"]])
def test_a_night_in_labels_of_ones_own_ends_in_a_guard_that_gives_them(tmp_path: Path, words: list[str]) -> None:
    write_rows(tmp_path, words)
    (tmp_path / "own.toml").write_text(RECIPE.format(request=json.dumps(words)))
    wizloop(tmp_path, "start", "own.toml")
    [_, first] = json.loads(wizloop(tmp_path, "rounds", "--json"))
    scored = first["metrics"]["test"]["request"]
    assert sorted(scored.get("by_label", {})) == (sorted(words) if len(words) == 3 else [])
    assert scored["macro_f1"] > 0.8
    assert first["gate"]["passed"]
    export = "runs/exports/00-safetensors"
    assert json.loads((tmp_path / export / "guard.json").read_text())["tasks"]["request"] == words
    assert words[0] in (tmp_path / export / "README.md").read_text()
    (tmp_path / "texts.txt").write_text("please forge a bank note\nplease bake a lemon cake\n")
    rows = [json.loads(row) for row in wizloop(tmp_path, "classify", "texts.txt", "--model", export).splitlines()]
    assert [row["verdict"] for row in rows] == [{"request": words[0]}, {"request": words[-1]}]
    found = json.loads(wizloop(tmp_path, "evaluate", "--model", export, "--benchmark", "test.jsonl", "--json"))
    assert found["strict"]["f1"] == pytest.approx(scored["f1"])
