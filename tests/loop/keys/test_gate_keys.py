"""Each key of [gate], changed alone: another champion, on the same answers."""

from pathlib import Path
from typing import Any

import pytest

from tests.loop.phases.test_gate import HARMFUL, candidate, champion, decided, labeled
from tests.loop.phases.test_must_hold import ROWS, answering, file_of
from tests.loop.phases.test_must_hold import decided as right
from tests.loop.small_night import Night, recipe
from wizloop.loop.measures.calibration import DevRow, calibrate


def after_the_gate(
    folder: Path, before: dict[str, int], after: dict[str, int], parsed: float | None = None, **bounds: float
) -> str:
    """Return the name of the champion after a gate with these bounds, the others as they are by default."""
    night = Night(folder, recipe(gate=bounds))
    labeled(night)
    champion(night, before)
    candidate(night, "base", {"missed": HARMFUL}, round=0)
    candidate(night, "r01", after, parsed=parsed)
    return decided(night)[0]


@pytest.mark.recipe_key("gate.margin")
@pytest.mark.parametrize(("margin", "stands"), [(0.0, "r00"), (0.02, "r00"), (0.03, "r01")])
def test_a_challenger_may_be_below_the_champion_by_the_margin(tmp_path: Path, margin: float, stands: str) -> None:
    # One more mistake in forty is 2.5 points of macro-F1.
    assert after_the_gate(tmp_path / "a", {}, {"missed": 1}, margin=margin) == stands


@pytest.mark.recipe_key("gate.margin")
def test_a_challenger_that_is_as_good_needs_no_margin(tmp_path: Path) -> None:
    assert after_the_gate(tmp_path / "a", {"missed": 1}, {"missed": 1}, margin=0.0) == "r01"


@pytest.mark.recipe_key("gate.max_unparsable")
@pytest.mark.parametrize(("most", "stands"), [(0.0, "r00"), (0.07, "r00"), (0.075, "r01"), (1.0, "r01")])
def test_so_many_answers_may_be_unparsable(tmp_path: Path, most: float, stands: str) -> None:
    assert after_the_gate(tmp_path / "a", {"missed": 9}, {"unread": 3}, max_unparsable=most) == stands


@pytest.mark.recipe_key("gate.max_unparsable")
@pytest.mark.parametrize(("most", "stands"), [(0.0, "r00"), (0.48, "r00"), (0.49, "r01"), (1.0, "r01")])
def test_so_many_traces_may_have_no_whole_answer_where_every_verdict_is_read(
    tmp_path: Path, most: float, stands: str
) -> None:
    assert after_the_gate(tmp_path / "a", {"missed": 9}, {}, parsed=0.51, max_unparsable=most) == stands


@pytest.mark.recipe_key("gate.max_over_refusal_rise")
@pytest.mark.parametrize(("rise", "stands"), [(0.0, "r00"), (0.09, "r00"), (0.1, "r01")])
def test_over_refusal_may_rise_by_so_much(tmp_path: Path, rise: float, stands: str) -> None:
    assert after_the_gate(tmp_path / "a", {"missed": 9}, {"refused": 2}, max_over_refusal_rise=rise) == stands
    assert 2 / HARMFUL == 0.1


@pytest.mark.recipe_key("gate.max_unparsable")
@pytest.mark.parametrize(("most", "source"), [(0.19, "direct"), (0.2, "traces")])
def test_traces_of_which_more_cannot_be_read_are_not_the_verdict(most: float, source: str) -> None:
    known: list[tuple[Any, float, float | None]] = [("harmful", 0.3, 0.9), ("harmful", 0.5, 0.8)]
    known += [("unharmful", 0.4, 0.2), ("unharmful", 0.6, 0.1), ("unharmful", 0.1, None)]
    rows = [
        DevRow({"p_direct_request": direct, "p_traces_request": traces}, {"request": label}, "request")
        for label, direct, traces in known
    ]
    taught = calibrate(rows, lowest_groups=[], window=8, keep_top_percent=90, max_unparsable=most)
    assert taught.source_of("request") == source


@pytest.mark.recipe_key("gate.must_hold")
@pytest.mark.parametrize(("named", "passed"), [(False, True), (True, False)])
def test_a_row_that_must_hold_holds_the_challenger(tmp_path: Path, named: bool, passed: bool) -> None:
    path = file_of(tmp_path, ROWS)
    night = Night(tmp_path / "a", recipe(gate={"must_hold": str(path) if named else None}))
    night.phase(0, "import")
    answering(night, "base", [])
    answering(night, "r00", ["How do"])
    assert right(night, 0).passed == passed
