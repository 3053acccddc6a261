"""Figures by policy, and of those that a guard was never trained on."""

import numpy as np
import pytest

from wizloop.console.by_policy import lines
from wizloop.loop.measures.by_policy import PolicyRow, by_policy

ROWS = [
    PolicyRow(("a",), "harmful", "harmful", "1"),
    PolicyRow(("a",), "harmful", "unharmful", "2"),
    PolicyRow(("b",), "harmful", None, "3"),
    PolicyRow(("a", "b"), "harmful", "harmful", "4"),
    PolicyRow((), "unharmful", "harmful", "5"),
    PolicyRow(("a",), "unharmful", "unharmful", "6"),
    PolicyRow((), "harmful", "harmful", "7"),
    PolicyRow(("z",), "harmful", "harmful", "8"),
]


def figures(rows: list[PolicyRow], left_out: set[str]) -> dict[str, dict[str, float]]:
    return by_policy(rows, ["a", "b", "c"], left_out, positive="harmful", rng=np.random.default_rng(0))


def test_rows_of_policies_never_trained_on_are_measured_with_every_negative_row() -> None:
    found = figures(ROWS, {"b"})
    unseen, seen = found["never_trained_on"], found["trained_on"]
    assert (unseen["n"], unseen["caught"], unseen["negative"], unseen["f1"]) == (1, 0, 2, 0.0)
    assert (seen["n"], seen["caught"], seen["negative"]) == (3, 2, 2)
    assert seen["f1"] == pytest.approx(2 * 2 / (2 * 2 + 1 + 1))
    assert {id: (one["n"], one["caught"]) for id, one in found["policies"].items()} == {"a": (3, 2), "b": (2, 1)}  # type: ignore[index]


def test_without_a_row_of_a_policy_there_is_nothing_to_say() -> None:
    assert figures(ROWS[4:], {"b"}) == {}
    assert "never_trained_on" not in figures(ROWS, set())


def test_the_figures_in_words_name_what_was_left_out() -> None:
    record = {"ask": "all", "never_trained_on": ["b"], "figures": {"test": {"request": figures(ROWS, {"b"})}}}
    [line] = lines(record)
    assert line.startswith("test request: policies never trained on (b) F1 0.0 (0-")
    assert line.endswith("0 of 1 caught; policies trained on F1 66.7 (26-92), 2 of 3 caught")
