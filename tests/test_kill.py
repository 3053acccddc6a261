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
pool = 60
seed = 24
dev = 24
test = 24
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
budget = 10
[train]
epochs = 2
least_steps = 12
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
@pytest.mark.parametrize("kills", [1, pytest.param(5, marks=pytest.mark.long)])
def test_a_night_that_is_killed_ends_with_the_same_rows(tmp_path: Path, kills: int) -> None:
    recipe = tmp_path / "small.toml"
    recipe.write_text(RECIPE, encoding="utf-8")
    (report,) = objects(printed("kill.py", str(recipe), "--kills", str(kills), "--seed", "3"))
    assert report["kills"] == kills
    assert report["rows"] > 200
    assert report["differences"] == {}
    assert report["answered_twice"] == 0
    assert report["half_exports"] == []
