"""The benchmarks of imports, screens, teachers and peers, with few rows, keys and calls; and that none is left out.

kill.py is run in tests/test_kill.py, and `teachers.py kills` in tests/loop/teaching/test_money_under_fire.py.
"""

import re
from importlib.util import find_spec

import pytest

from tests.benchmarks.running import FOLDER, objects, printed, printed_apart
from tests.where import NEEDS_SHARED_DATA, ROOT

PROGRAMS = sorted(path.name for path in FOLDER.glob("*.py") if "__main__" in path.read_text(encoding="utf-8"))
HAS_DBOS = find_spec("dbos") is not None


def test_import_measures_both_sides_on_the_same_rows() -> None:
    words = ("--rows", "400", "--repeats", "1", "--held-out", "40", "--clock", "processor")
    where, head, row, last = printed("import.py", *words).splitlines()
    assert where.endswith("rows per second, processor clock")
    names, values = head.split(), row.split()
    assert names[:3] == ["rows", "bare", "bare_insert"]
    assert {"ours", "ours_without_hashing", "ratio", "ratio_writing", "hashing", "near", "peak_mb"} < set(names)
    assert len(values) == len(names)
    assert values[0] == "400"
    assert all(float(value.replace(",", "")) > 0 for value in values)
    assert last == "from 400 to 400 rows the rate is 1.00 of the first"


def test_tui_goes_through_all_its_parts() -> None:
    small = ("--samples", "400", "--waiting", "30", "--presses", "3", "--starts", "1", "--turns", "1")
    lines = printed_apart("tui.py", *small, "--seconds", "0.3", "--rest", "0.3").splitlines()
    assert lines[0].startswith("400 samples, 30 traces wait, load ")
    assert [line.partition(":")[0] for line in lines[1:]] == [
        "first screen from the command",
        "memory",
        "key to screen",
        "  samples",
        "  review",
        "  screens",
        "approval",
        "first paint of the samples",
        "writer",
    ]
    assert re.search(r"writer: [\d,]+ a second alone, [\d,]+ with two watching", lines[-1])


def test_pace_answers_every_call_once() -> None:
    made = ("--calls", "12", "--latency", "0.05", "--concurrency", "4")
    (found,) = objects(printed("teachers.py", "pace", *made))
    assert (found["calls"], found["ideal_s"], found["status"], found["billed_twice"]) == (12, pytest.approx(0.15), 0, 0)
    assert {"phase_s", "cpu_s", "ratio", "with_start_s"} < set(found)


@NEEDS_SHARED_DATA
def test_costs_halve_in_a_batch() -> None:
    (rows,) = objects(printed("teachers.py", "costs", "--samples", "5"))
    about, *prices = rows
    assert about["samples"] == 5
    assert min(about["shared"], about["own"], about["out"]) > 0
    assert len({one["model"] for one in prices}) == 2
    for live, cached, batch, both in (prices[:4], prices[4:]):
        assert [one["mode"] for one in (live, cached, batch, both)] == [
            "live",
            "live, cached",
            "batch",
            "batch, cached",
        ]
        assert live["usd"] == pytest.approx(2 * batch["usd"], abs=0.02)
        assert live["usd"] > cached["usd"] > both["usd"] > 0


@NEEDS_SHARED_DATA
def test_the_policy_reasoner_misses_most_harm_and_is_left_out() -> None:
    found = objects(printed("policy_teacher.py", "--rows", "400", "--draws", "20"))
    assert len(found) == 6
    assert all(one["recall"][0] < 0.3 < one["precision"][0] for one in found)
    assert all(one["left out, share of draws"] > 0.8 for one in found)


@pytest.mark.filterwarnings("default")
def test_both_sdks_retry_under_the_same_faults() -> None:
    # The faults of this seed are one alone, at the first request: a reply that breaks off when it was paid for.
    (found,) = objects(printed("peers.py", "sdk", "--calls", "4", "--seed", "758"))
    assert [one["peer"].split(",")[0] for one in found] == ["anthropic", "google-genai"]
    for one in found:
        assert (one["calls"], one["kills"]) == (4, 0)
        assert one["questions_billed"] == 4
        assert one["billed_more_than_once"] == one["bills_too_many"] == one["requests"] - 4


@pytest.mark.skipif(not HAS_DBOS, reason="dbos is not installed")
def test_dbos_goes_on_after_a_kill() -> None:
    (found,) = objects(printed("peers.py", "dbos", "--calls", "12", "--kills", "1"))
    assert (found["calls"], found["kills"]) == (12, 1)
    assert 0 < found["questions_billed"] <= 12


@pytest.mark.skipif(HAS_DBOS, reason="dbos is installed")
def test_what_wants_dbos_says_so() -> None:
    with pytest.raises(SystemExit, match="pip install dbos"):
        printed("peers.py", "dbos")


def test_every_benchmark_is_run_by_a_test() -> None:
    assert "speed.py" in PROGRAMS
    texts = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    run = set(re.findall(r'\bprinted(?:_apart)?\(\s*"(\w+\.py)"', texts))
    assert set(PROGRAMS) - run == set()


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_page_and_the_program_name_no_option_that_is_not_there(name: str) -> None:
    page, program = text_of("README.md"), text_of(name)
    lines = rf"^    \S*python benchmarks/{name}\b([^#\n]*(?:\n {{20,}}\S[^\n]*)*)"
    assert re.search(lines, page, re.M), "benchmarks/README.md does not tell of it"
    told = "".join(re.findall(lines, page + program, re.M))
    shared = text_of("nights.py") if "add_options" in program else ""
    assert set(re.findall(r"--[a-z-]+", told)) <= set(re.findall(r'"(--[a-z-]+)"', program + shared))


def text_of(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")
