"""benchmarks/linear_ways.py: its table pairs a way with TF-IDF by seed. tests/real measures a cell."""

import json
from pathlib import Path

from tests.benchmarks.running import printed


def one(seed: int, ours: float, theirs: float) -> str:
    figures = [{"both": {"macro_f1": value, "auroc": value / 100}} for value in (ours, theirs)]
    return json.dumps({"way": "linear", "labels": 100, "seed": seed, "ours": figures[0], "tfidf": figures[1]})


def test_the_table_pairs_the_seeds(tmp_path: Path) -> None:
    results = tmp_path / "results.jsonl"
    results.write_text("\n".join([one(1, 70.0, 60.0), one(2, 71.0, 61.0)]))
    *_, line = printed("linear_ways.py", "table", "--results", str(results)).splitlines()
    assert line == (
        "| linear | 100 | both | 2 | 70.5 | 60.5 | +10.0 (+10.0 to +10.0) | 0.705 | 0.605 | +0.100 (+0.100 to +0.100) |"
    )
