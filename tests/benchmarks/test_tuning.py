"""benchmarks/tuning.py: which training is next, without one being run. tests/real/test_tuning.py runs one."""

from typing import Any

from tests.benchmarks.running import module


def result(name: str, ap: float) -> dict[str, Any]:
    return {"cell": name, "taught": {"ap": ap}}


def test_the_changes_that_were_best_go_on_to_the_next_seed() -> None:
    tuning = module("tuning.py")
    first = list(tuning.wanted([]))
    assert first == [tuning.named(change, 1) for change in tuning.CHANGES]
    results = [result(name, 50.0 + number) for number, name in enumerate(first)]
    assert list(tuning.wanted(results[:-1])) == first[-1:]
    second = list(tuning.wanted(results))
    assert second == ["start-seed=2", "batch=4-seed=2", "batch=16-seed=2", "warmup=0.0-seed=2", "layers=-1-seed=2"]
    results += [result(name, {"batch=4-seed=2": 90.0, "layers=-1-seed=2": 20.0}.get(name, 50.0)) for name in second]
    third = list(tuning.wanted(results))
    assert third == ["start-seed=3", "batch=4-seed=3", "warmup=0.0-seed=3"]
    assert list(tuning.wanted([*results, *(result(name, 50.0) for name in third)])) == []
