"""benchmarks/speed_cells.py: which cell is next, and between which cells ratios are taken."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.running import module, printed


def cell(
    contender: str, seconds: float, repeat: int = 1, gflops: tuple[float, float] = (100.0, 100.0)
) -> dict[str, Any]:
    return {
        "model": "smollm2",
        "prompts": 24,
        "tokens": 24,
        "contender": contender,
        "repeat": repeat,
        "seconds_per_unit": seconds,
        "reference_gflops": list(gflops),
    }


def test_a_cell_is_measured_once_and_stands_in_the_table(tmp_path: Path) -> None:
    size = ("--model", "tiny", "--prompts", "3", "--tokens", "2", "--seconds", "0", "--repeats", "1")
    small = (*size, "--results", str(tmp_path / "results.jsonl"))
    found = json.loads(printed("speed_cells.py", "cell", "batch_generate 24", *small).splitlines()[0])
    assert (found["contender"], found["repeat"], found["runs"]) == ("batch_generate 24", 1, 1)
    assert found["tokens_per_trace"] == 2
    assert found["processor_s"] > 0
    assert "| batch_generate 24 |" in printed("speed_cells.py", "table", *small)
    (tmp_path / "results.jsonl").write_text(json.dumps(found | {"reference_gflops": [9.0, 9.1]}) + "\n")
    assert "has its result" in printed("speed_cells.py", "cell", "batch_generate 24", *small)
    assert "batch_generate 24, repeat 1" not in printed("speed_cells.py", "cells", *small)
    assert "batch_generate 24, repeat 1" in printed("speed_cells.py", "cells", *small, "--tokens", "3")


def test_the_next_cell_is_in_order_and_one_on_an_unsteady_machine_is_run_again() -> None:
    cells = module("speed_cells.py")
    first = [cell(name, 1.0) for name in cells.CONTENDERS]
    assert list(cells.wanted(1, [])) == [(name, 1) for name in cells.CONTENDERS]
    assert list(cells.wanted(1, first)) == []
    unsteady = [*first[1:], cell("loop", 1.0, gflops=(100.0, 80.0))]
    assert list(cells.wanted(1, unsteady)) == [("loop", 1)]


def test_later_repeats_take_the_fastest_batch_at_the_machines_speed() -> None:
    cells = module("speed_cells.py")
    given = [
        cell("batch_generate 24", 2.0),
        cell("batch_generate 48", 1.5),
        cell("batch_generate 96", 1.4, 1, (150, 150)),
    ]
    assert cells.fastest(given) == "batch_generate 48"
    later = [name for name, repeat in cells.wanted(2, given) if repeat == 2]
    assert later == ["loop", "label alone", "matrix products", "ours", "batch_generate 48"]


@pytest.mark.parametrize(
    ("loops", "expected"),
    [
        ([cell("loop", 40.0), cell("loop", 60.0, 2)], ([20.0], "same repeat")),
        ([cell("loop", 40.0, 1, (120, 120)), cell("loop", 60.0, 2)], ([30.0], "any repeat")),
        ([cell("loop", 40.0, 1, (120, 120))], ([], "any repeat")),
        ([cell("loop", 40.0, 1, (100, 60))], ([], "any repeat")),
    ],
)
def test_a_ratio_is_taken_where_the_machine_was_equally_fast(
    loops: list[dict[str, Any]], expected: tuple[list[float], str]
) -> None:
    assert module("speed_cells.py").ratios([*loops, cell("label alone", 2.0)], "loop", "label alone") == expected
