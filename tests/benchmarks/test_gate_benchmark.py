"""The benchmark of the gate, with few nights and draws."""

import pytest

from tests.benchmarks.running import printed
from tests.where import NEEDS_SHARED_DATA


def test_simulated_nights_are_counted_for_one_task_and_for_three() -> None:
    _, _, one, three = printed("gate.py", "simulated", "--nights", "2", "--sizes", "40").splitlines()
    assert one.startswith("| 40 | 1 | ")
    assert three.startswith("| 40 | 3 | ")
    assert " of 2 (" in one


@NEEDS_SHARED_DATA
def test_stored_predictions_give_pairs_of_which_the_second_is_truly_better() -> None:
    lines = printed("gate.py", "stored", "--draws", "2", "--sizes", "60").splitlines()
    rows = [line.split(" | ") for line in lines if line.startswith("| ") and " to " in line]
    assert [row[0] for row in rows if row[0] == "| 1B to 3B"] == ["| 1B to 3B"]
    assert all(float(row[1]) >= 0 for row in rows)
    assert lines[-1].startswith("better by a point or more: ")
    assert float(lines[-1].partition("held ")[2].partition(" %")[0]) == pytest.approx(50, abs=50)
