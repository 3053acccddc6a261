"""The words that the screens repeat, because they may not import the loop, are the loop's own, in its order."""

from typing import get_args

import pytest

from wizloop.console import words
from wizloop.loop import words as loops
from wizloop.loop.measures import uncertainty
from wizloop.loop.phases import order


def test_tasks_and_labels_are_the_loops() -> None:
    assert words.TASKS == loops.TASKS
    assert list(words.LABELS.items()) == [(task, loops.LABELS[task]) for task in loops.TASKS]


def test_cells_are_the_loops_with_uncertain_compliance_first() -> None:
    assert sorted(words.CELL_NAMES) == sorted(get_args(uncertainty.Cell))
    assert next(iter(words.CELL_NAMES.values())) == "uncertain compliance"


@pytest.mark.parametrize("round", [0, 1, 7])
def test_phases_are_the_loops(round: int) -> None:
    assert words.PHASES == order.PHASES
    assert words.phases_of(round) == order.phases_of(round)


def test_before_the_first_round_its_phases_are_shown() -> None:
    assert words.phases_of(None) == order.phases_of(0)
