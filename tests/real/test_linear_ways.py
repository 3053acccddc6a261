"""A small cell of benchmarks/linear_ways.py on the real model: states are read once, and it is measured once."""

import json
from pathlib import Path

import pytest

from tests.benchmarks.running import printed
from tests.where import NEEDS_SHARED_DATA


@pytest.mark.long
@pytest.mark.timeout(900)
@NEEDS_SHARED_DATA
def test_a_cell_is_measured_once_after_its_states(smollm2: Path, tmp_path: Path) -> None:
    few = ("--base", str(smollm2), "--pool", "31", "--dev", "12", "--test", "12")
    once = ("cell", "linear-100-1", *few, "--results", str(tmp_path / "results.jsonl"))
    printed("linear_ways.py", "states", *few)
    assert printed("linear_ways.py", "states", *few) == ""
    assert "| linear | 31 | both | 1 |" in printed("linear_ways.py", *once)
    (found,) = map(json.loads, (tmp_path / "results.jsonl").read_text().splitlines())
    assert 0 < found["ours"]["both"]["auroc"] < 1
    assert "has its result" in printed("linear_ways.py", *once)
