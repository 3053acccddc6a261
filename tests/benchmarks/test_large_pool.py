"""The benchmark of choosing from a large pool, on a small one."""

import json
from pathlib import Path

import pytest

from tests.benchmarks.running import printed, printed_apart


@pytest.mark.long
def test_a_pool_with_vectors_is_made_and_chosen_from(tmp_path: Path) -> None:
    printed("large_pool.py", "make", str(tmp_path / "large"), "--rows", "1500")
    found = json.loads(printed_apart("large_pool.py", "choose", str(tmp_path / "large")))
    assert (found["pool"], found["picked"]) == (1700, 100)
    assert "the committee of round 0 learned from" in found["said"]
    assert found["peak_rss_gb"] < 2
