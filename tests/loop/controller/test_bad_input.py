"""What a person gets who starts a night on bad input: one sentence, status 2, and a run that goes on when it is mended.

The whole command on real files and the tiny guard; what happens inside a phase is held beside that phase.
"""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from wizloop.loop.guard.backend import Mlx
from wizloop.recipes.demo_text import demo_samples

RECIPE = """
name = "mine"
seed = 3
rounds = 1
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
[guard]
instruction = "none"
max_prompt_tokens = 64
max_trace_tokens = 40
[guard.tiny]
vocab = 600
width = 32
mlp = 64
[classify]
verdict = "direct"
[members]
count = 1
[select]
budget = 16
[train]
epochs = 1
least_steps = 0
[review]
rule = "nothing"
[gate]
max_over_refusal_rise = 1.0
max_unparsable = 1.0
margin = 1.0
[export]
parity_n = 0
"""
Rows = list[dict[str, str]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a recipe and its three files, of the demo's prompts."""
    made = demo_samples(random.Random(1))
    for split, most in (("pool", 90), ("seed", 20), ("dev", 30)):
        prompts = {one.prompt: str(one.labels["request"]) for one in made if one.split == split}
        write(tmp_path / f"{split}.jsonl", [{"prompt": p, "label": prompts[p]} for p in list(prompts)[:most]])
    (tmp_path / "mine.toml").write_text(RECIPE, encoding="utf-8")
    return tmp_path


def write(path: Path, rows: Rows) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def rows(path: Path) -> Rows:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def start(folder: Path, *words: str) -> tuple[int, str]:
    """Exit status, and the last line on stderr."""
    command = [sys.executable, "-P", "-m", "wizloop.loop.cli", "start", "mine.toml", "--headless", *words]
    offline = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=offline, timeout=300)
    assert "Traceback" not in done.stderr + done.stdout
    return done.returncode, done.stderr.splitlines()[-1]


def ended(folder: Path, *words: str) -> str:
    """Start a run that ends well, and return why it ended, without what follows about its champion."""
    status, said = start(folder, *words)
    assert status == 0, said
    return said.partition(";")[0]


def mend(folder: Path, old: str, new: str) -> None:
    path = folder / "mine.toml"
    path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        pytest.param(lambda path: path.write_bytes(b""), "pool.jsonl: it has no rows", id="empty"),
        pytest.param(
            lambda path: (path.unlink(), path.mkdir()), "pool.jsonl: cannot be read: it is a folder", id="folder"
        ),
        pytest.param(
            lambda path: path.write_bytes(b'{"prompt": "a\xff"}\n'),
            "pool.jsonl: no row can be used for pool; the first reason is in row 1",
            id="not UTF-8",
        ),
    ],
)
def test_an_unreadable_pool_is_a_sentence(folder: Path, make: object, sentence: str) -> None:
    assert callable(make)
    make(folder / "pool.jsonl")
    status, said = start(folder)
    assert status == 2
    assert sentence in said


def test_a_missing_model_is_a_sentence(folder: Path) -> None:
    mend(folder, "[guard]\n", '[guard]\nbase = "nobody/no-such-model"\n')
    status, said = start(folder)
    assert status == 2
    assert "nobody/no-such-model: is not on this disk and could not be fetched" in said


def test_each_fault_is_a_sentence_and_the_run_goes_on_once_all_are_mended(folder: Path) -> None:
    pool = folder / "pool.jsonl"
    pool.rename(folder / "elsewhere.jsonl")
    mend(folder, "[guard]\n", '[guard]\nbackend = "mlx"\n')
    mend(folder, "[export]\n", '[export]\nformats = ["nf4"]\n')
    why = f"the MLX backend does not write nf4: it writes {', '.join(Mlx.FORMATS)}"
    assert start(folder, "--rounds", "0") == (2, f"failed: import of round 0: export.formats: {why}")
    mend(folder, "nf4", "adapter")
    assert start(folder) == (2, "failed: import of round 0: pool.jsonl: no such file; check the name")
    mend(folder, "pool.jsonl", "elsewhere.jsonl")
    assert ended(folder, "--rounds", "0") == "done: round 0 is done"


def test_what_was_imported_is_run_on_and_what_is_missing_is_named(folder: Path) -> None:
    files, listed = RECIPE.index("[[data]]"), RECIPE.index("[guard]")
    mine = RECIPE[:files] + 'source = "imported"\n' + RECIPE[listed:]
    (folder / "mine.toml").write_text(mine, encoding="utf-8")
    for split in ("pool", "seed"):
        command = [sys.executable, "-P", "-m", "wizloop.loop.cli", "import", f"{split}.jsonl", "--split", split]
        assert subprocess.run(command, capture_output=True, cwd=folder, timeout=60).returncode == 0
    status, said = start(folder)
    assert status == 2
    assert "the split dev has no usable sample: import some" in said
    (folder / "more.jsonl").write_bytes((folder / "dev.jsonl").read_bytes())
    command[-3:] = ["more.jsonl", "--split", "dev"]
    assert subprocess.run(command, capture_output=True, cwd=folder, timeout=60).returncode == 0
    assert ended(folder, "--rounds", "0") == "done: round 0 is done"


def of_one_class(path: Path) -> Rows:
    return [row for row in rows(path) if row["label"] == "unharmful"]


def test_a_seed_of_one_class_is_refused(folder: Path) -> None:
    write(folder / "seed.jsonl", of_one_class(folder / "seed.jsonl"))
    status, said = start(folder)
    assert status == 2
    assert "every labeled request of seed is unharmful: nothing can be learned from one class" in said


def of_one_class_with_a_huge_text(folder: Path) -> None:
    huge = {"prompt": "ten megabytes of this " * 460_000, "label": "unharmful"}
    write(folder / "pool.jsonl", [huge, *of_one_class(folder / "pool.jsonl")])


def test_a_text_of_ten_megabytes_is_refused_with_its_row(folder: Path) -> None:
    of_one_class_with_a_huge_text(folder)
    status, said = start(folder, "--rounds", "0")
    assert status == 2
    assert "pool.jsonl: row 1: the prompt is 10,120,000 bytes, more than 1,000,000; none of its" in said


@pytest.mark.long
def test_a_pool_of_one_class_is_read_a_huge_text_left_out_if_so_asked_and_a_damaged_adapter_is_not(
    folder: Path,
) -> None:
    of_one_class_with_a_huge_text(folder)
    mend(folder, "hide_labels = true\n", "hide_labels = true\nskip_bad = true\n")
    assert start(folder, "--rounds", "0")[0] == 0
    # The champion's is among them, whichever round it is of.
    whole = {path: path.read_bytes() for path in (folder / "runs" / "models").glob("r*/adapters.safetensors")}
    for path, content in whole.items():
        path.write_bytes(content[:-4] + b"oops")
    status, said = start(folder, "--rounds", "1")
    assert status != 0
    assert "adapters.safetensors" in said
    for path, content in whole.items():
        path.write_bytes(content)
    assert ended(folder, "--rounds", "1") == "done: the one round is done"
