"""A night killed at random ends with the rows of one left alone: benchmarks/kill.py on a small recipe."""

from pathlib import Path

import pytest

from tests.benchmarks.running import objects, printed

RECIPE = """
name = "small"
source = "demo"
seed = 5
rounds = 1
[data_demo]
pool = 120
seed = 40
dev = 40
test = 40
[guard]
instruction = "none"
max_trace_tokens = 32
[guard.tiny]
vocab = 1500
width = 64
mlp = 128
[classify]
batch = 16
[members]
count = 1
[select]
budget = 20
[train]
epochs = 2
least_steps = 24
checkpoint_every = 3
[review]
rule = "nothing"
[gate]
max_over_refusal_rise = 1.0
max_unparsable = 1.0
margin = 1.0
[export]
formats = ["adapter", "safetensors"]
"""


@pytest.mark.timeout(900)
def test_a_night_killed_three_times_ends_with_the_same_rows(tmp_path: Path) -> None:
    recipe = tmp_path / "small.toml"
    recipe.write_text(RECIPE, encoding="utf-8")
    (report,) = objects(printed("kill.py", str(recipe), "--kills", "3", "--seed", "3"))
    assert report["kills"] == 3
    assert report["rows"] > 400
    assert report["differences"] == {}
    assert report["answered_twice"] == 0
    assert report["half_exports"] == []
