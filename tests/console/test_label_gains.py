"""What choosing saved and what more labels bring, in words."""

from typing import Any

import pytest

from wizloop.console import label_gains

SAVED: dict[str, Any] = {"labels": 400, "figure": 0.61, "needed": 781.4, "low": 492.0, "high": 1423.0, "why": None}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {},
            "average precision of 0.610 on dev; chance would have needed about 781 (95 % interval 492 to 1,423)",
        ),
        ({"low": 300.0}, "492 to 1,423)".replace("492", "300") + "; a saving cannot be told from none"),
        ({"needed": None, "high": None}, "chance would have needed 492 or more"),
        ({"needed": None, "high": None, "low": 200.0}, "200 or more; whether that is a saving cannot be told yet"),
        ({"why": "12 labels"}, "choosing: what it saved cannot be told yet: 12 labels"),
    ],
)
def test_what_choosing_saved_is_said_with_its_interval_or_not_told(change: dict[str, Any], said: str) -> None:
    [line, following] = label_gains.lines({label_gains.KEY: {"saved": SAVED | change, "next": None}})
    assert line.endswith(said)
    assert following == "next 100 labels: what they bring cannot be told yet"


def test_the_next_hundred_are_said_with_their_dollars() -> None:
    found = {"gain": 0.012, "low": -0.001, "high": 0.02, "usd": 0.4}
    assert label_gains.next_hundred(found) == (
        "next 100 labels: expected to add +1.2 points of average precision on dev (95 % interval -0.1 to +2.0), "
        "for about $0.40"
    )
    assert label_gains.next_hundred({**found, "usd": 0.0}).endswith("at no cost")


def test_a_round_that_recorded_nothing_says_nothing() -> None:
    assert label_gains.lines({}) == []
