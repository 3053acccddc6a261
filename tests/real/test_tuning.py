"""A training of benchmarks/tuning.py, made small, on the real model."""

import json
from pathlib import Path

import pytest

from tests.benchmarks.running import printed
from tests.where import SHARED_DATA


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_cell_is_trained_once_and_stands_in_the_table(smollm2: Path, tmp_path: Path) -> None:
    if not SHARED_DATA.exists():
        pytest.skip("the real data is not here")
    results = ("--results", str(tmp_path / "results.jsonl"))
    small = ("cell", "lr=0.001-seed=1", "--lessons", "4", "--measured", "24")
    assert "lr=0.001 | 1 |" in printed("tuning.py", *small, *results)
    (found,) = (json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines())
    assert (found["lr"], found["epochs"], found["seed"]) == (0.001, 3, 1)
    assert found["taught"] != found["untaught"]
    assert "has its result" in printed("tuning.py", *small, *results)
    assert printed("tuning.py", "table", *results).count("\n") == 5
