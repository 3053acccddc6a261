"""A caller killed among faults, over real wire formats, in a process of its own; the full version is a benchmark."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.where import ROOT


@pytest.fixture(scope="module")
def fire() -> ModuleType:
    path = ROOT / "benchmarks" / "teachers.py"
    spec = importlib.util.spec_from_file_location("wizloop_fire", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before = list(sys.path)
    spec.loader.exec_module(module)
    sys.path[:] = before
    return module


def test_live_calls_are_never_paid_twice_and_every_bill_is_in_the_ledger(fire: ModuleType, tmp_path: Path) -> None:
    report: dict[str, Any] = fire.kills(tmp_path, "gemini", calls=60, times=2, mode="live", cap_share=0.6)
    assert report["wrong"] == []
    assert report["kills"] == 2
    assert report["lost_in_flight"] <= 32
    assert sum(report["fates"].values()) == 60
    assert report["fates"]["waits for budget"] > 0
    assert report["cap_micro"] >= report["settled_micro"] + report["ambiguous_micro"] >= report["billed_micro"] > 0


def test_batches_leave_nothing_in_doubt_and_nothing_twice(fire: ModuleType, tmp_path: Path) -> None:
    report: dict[str, Any] = fire.kills(tmp_path, "gemini", calls=60, times=1, mode="batch", cap_share=None, seed=3)
    assert report["wrong"] == []
    assert report["kills"] == 1
    assert (report["lost_in_flight"], report["billed_twice"], report["ambiguous_micro"]) == (0, 0, 0)
    assert sum(report["fates"].values()) == 60
