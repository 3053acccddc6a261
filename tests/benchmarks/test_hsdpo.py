"""benchmarks/hsdpo.py: its figures and intervals by hand, its rows on the real data, and one seed made small."""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.benchmarks.running import module, printed
from tests.where import NEEDS_SHARED_DATA


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    return module("hsdpo_table.py")


def test_an_unparsed_trace_is_wrong_once_and_undecided_in_auroc(tables: ModuleType) -> None:
    found = tables.figures([True, True, False, False], [0.9, None, 0.1, 0.2])
    assert found == {"f1": 66.67, "macro_f1": 73.33, "auroc": 100.0, "unparsed": 25.0}


def test_the_interval_is_students_over_the_seeds(tables: ModuleType) -> None:
    assert tables.interval([1.0, 2.0, 3.0]) == pytest.approx((2.0, 2 - 2.4841, 2 + 2.4841), abs=1e-3)
    assert tables.interval([1.0]) is None


def result(seed: int, arm: str, f1: float) -> dict[str, Any]:
    by_way = {"f1": f1, "macro_f1": 50.0, "auroc": 50.0 + seed, "unparsed": 0.0}
    measured = {"held-out half": {"traces": by_way, "direct": by_way}}
    return {"cell": f"tiny-{seed}-{arm}", "guard": "tiny", "seed": seed, "arm": arm, "steps": 10, "measured": measured}


def test_only_an_interval_clear_of_0_tells_arms_apart(tables: ModuleType) -> None:
    seeds, lower = (1, 2, 3), {1: 10.0, 2: 10.5, 3: 11.0}
    results = [result(seed, "rsft", 40.0) for seed in seeds] + [result(seed, "up", 40 + lower[seed]) for seed in seeds]
    text = tables.table(results, ["tiny-3-up", "tiny-3-down"])
    (line,) = [line for line in text.splitlines() if "after reasoning | up minus rsft" in line]
    assert line.split(" | ")[3:] == [
        "3",
        "+10.5 (9.3 to 11.7)",
        "+0.0 (0.0 to 0.0), cannot be told apart",
        "+0.0 (0.0 to 0.0), cannot be told apart |",
    ]
    assert "up minus longer" not in text
    assert text.endswith("Not yet run: 1 of 2 cells, from tiny-3-down on.")


@NEEDS_SHARED_DATA
def test_no_lesson_is_measured_and_each_ends_in_its_label() -> None:
    made = module("hsdpo_rows.py")
    rows = made.rows(40, None)
    lessons = made.drawn(rows.lessons, 20, 1, lambda text: len(text) < 400)
    measured = {made.normalize(row.prompt) for each in rows.measured.values() for row in each}
    assert [row.harmful for row in lessons] == [True] * 10 + [False] * 10
    assert not measured & {made.normalize(row.prompt) for row in rows.lessons}
    assert lessons == made.drawn(rows.lessons, 20, 1, lambda text: len(text) < 400)
    assert lessons != made.drawn(rows.lessons, 20, 2, lambda text: len(text) < 400)
    assert all(row.explanation and "\n" not in row.explanation for row in rows.lessons)


@pytest.mark.long
@pytest.mark.timeout(900)
@NEEDS_SHARED_DATA
def test_the_arms_of_a_seed_share_their_rsft_and_pairs(tmp_path: Path) -> None:
    at = ("--results", str(tmp_path / "results.jsonl"), "--made", str(tmp_path / "made"))
    small = ("--lessons", "8", "--measured", "12", *at)
    for arm in ("rsft", "down", "longer"):
        assert "| held-out half | after reasoning |" in printed("hsdpo.py", "cell", f"tiny-1-{arm}", *small)
    lines = (tmp_path / "results.jsonl").read_text(encoding="utf-8").splitlines()
    alone, down, longer = (json.loads(line) for line in lines)
    assert (alone["pairs"], alone["rows"]) == ({}, {"held-out half": 12, "WildGuardTest": 12})
    assert down["pairs"] == longer["pairs"]
    assert set(down["pairs"]) == {"rsft", "member-1", "member-2"}
    assert longer["steps"] > 0
    assert {path.name for path in (tmp_path / "made" / "tiny-1").iterdir() if path.is_dir()} == {
        "rsft",
        "member-1",
        "member-2",
        "up",
        "down",
        "longer",
    }
    assert "has its result" in printed("hsdpo.py", "cell", "tiny-1-down", *small)
    assert "Not yet run: 62 of 65 cells, from tiny-1-up on." in printed("hsdpo.py", "table", *at)
