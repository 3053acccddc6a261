"""Which way answers a task: what dev says of each, and what the recipe asks for."""

import pytest

from wizloop.loop.measures.answer_choice import Answer, Written, answered_ways, chosen
from wizloop.loop.measures.calibration import Calibration, DevRow, calibrate, without_linear

BOTH = {"direct": 0.6, "traces": 0.7, "linear": 0.8}


@pytest.mark.parametrize(
    ("answer", "written", "precision", "way"),
    [
        ("written", "auto", BOTH, "traces"),
        ("written", "direct", BOTH, "direct"),
        ("direct", "direct", BOTH, "direct"),
        ("linear", "auto", BOTH, "linear"),
        ("linear", "auto", {**BOTH, "linear": 0.1}, "linear"),
        ("auto", "auto", BOTH, "linear"),
        ("auto", "auto", {**BOTH, "linear": 0.7}, "traces"),
        ("auto", "direct", {**BOTH, "linear": 0.65}, "linear"),
        # Without a head, or without both classes on dev, the guard's own answer stands.
        ("linear", "auto", {"direct": 0.6, "traces": 0.7}, "traces"),
        ("auto", "auto", {"direct": None, "traces": None, "linear": None}, "direct"),
    ],
)
def test_the_recipe_and_dev_choose(
    answer: Answer, written: Written, precision: dict[str, float | None], way: str
) -> None:
    assert chosen(answer, written, precision, unread=0.0, max_unparsable=0.05) == way


def test_traces_that_cannot_be_read_are_no_source() -> None:
    assert chosen("written", "auto", BOTH, unread=0.1, max_unparsable=0.05) == "direct"


def test_a_head_that_left_out_a_row_is_no_way() -> None:
    rows = [{"p_direct_request": 0.1, "p_linear_request": 0.2}, {"p_direct_request": 0.3}]
    assert answered_ways(rows, "request") == ("direct", "traces")
    assert answered_ways(rows[:1], "request") == ("direct", "traces", "linear")


def rows() -> list[DevRow]:
    """Twenty rows that the linear head knows better than the guard."""
    return [
        DevRow(
            {"p_direct_request": 0.5 + 0.02 * ((n * 7) % 20 - 10), "p_linear_request": 0.9 if n % 2 else 0.2 - n / 200},
            {"request": "harmful" if n % 2 else "unharmful"},
            "request",
        )
        for n in range(20)
    ]


def learned(answer: Answer) -> Calibration:
    return calibrate(rows(), lowest_groups=[], window=16, keep_top_percent=90, answer=answer)


def test_each_way_has_its_own_threshold_and_scale() -> None:
    known = learned("auto")
    assert known.source == {"request": "linear"}
    assert set(known.thresholds["request"]) == set(known.scales["request"]) == {"direct", "traces", "linear"}
    assert known.verdict({"p_direct_request": 0.99, "p_linear_request": 0.1}, "request") == "unharmful"
    # What the head did not answer is answered at once.
    assert known.verdict({"p_direct_request": 0.99}, "request") == "harmful"
    assert known.own == "margin_linear"
    assert known.is_only_linear(["request"])


def test_without_the_head_the_answer_at_once_decides() -> None:
    left = without_linear(learned("linear"), rows())
    assert left.source == {"request": "direct"}
    assert "linear" not in left.to_json()
    assert left.own == "margin_direct"
    assert left == without_linear(left, rows())


def test_by_default_the_head_is_measured_and_changes_nothing() -> None:
    plain = [DevRow({"p_direct_request": row.signals["p_direct_request"]}, row.labels, row.main) for row in rows()]
    without = calibrate(plain, lowest_groups=[], window=16, keep_top_percent=90)
    assert without_linear(learned("written"), rows()) == without
    assert "linear" in learned("written").thresholds["request"]
