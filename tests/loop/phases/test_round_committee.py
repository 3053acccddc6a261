"""A night without members on the stand-in backend: the committee's signals, what it picks, and what it refers to."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.loop.branching import model, run
from tests.loop.small_night import NOW, Night, recipe
from wizloop.loop.context import Context
from wizloop.loop.measures.calibration import Calibration
from wizloop.loop.phases import round_committee
from wizloop.loop.words import DEFAULT
from wizloop.store import control, models, predictions, samples, selections, steps, tables
from wizloop.store.predictions import Prediction
from wizloop.store.selections import Selection

ALONE = {"members": {"count": 0}}


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Night:
    """Round 0 up to its gate, which lets the guard pass. Tests copy it."""
    night = Night(tmp_path_factory.mktemp("measured") / "a", recipe(**ALONE, gate={"margin": 0.9}))
    run(night, 0, "import", "gate")
    return night


@pytest.fixture(scope="module")
def picked(measured: Night, tmp_path_factory: pytest.TempPathFactory) -> Night:
    """Round 1 up to its batch. Tests copy it."""
    night = measured.copy(tmp_path_factory.mktemp("picked") / "a")
    run(night, 1, "classify", "select")
    return night


def said(night: Night, name: str, split: str) -> dict[int, Prediction]:
    with night.store.read() as db:
        return {one.sample_id: one for one in predictions.of_model(db, model(night, name).id, split)}


def main_tasks(night: Night) -> dict[int, Any]:
    with night.store.read() as db:
        return {one.id: DEFAULT.main_task(one) for one in samples.get(db, samples.ids(db, "pool"))}


def apart(night: Night, name: str) -> dict[int, float]:
    main = main_tasks(night)
    return {id: one.signals[f"committee_disagreement_{main[id]}"] or 0 for id, one in said(night, name, "pool").items()}


def disputed(night: Night, round: int = 1) -> list[Selection]:
    with night.store.read() as db:
        return [one for one in selections.of_round(db, round) if one.reason == "disagreement"]


def record(night: Night, round: int, phase: str) -> Mapping[str, Any]:
    with night.store.read() as db:
        found = steps.get_round(db, round)
    assert found is not None
    of_phase: Mapping[str, Any] = found.record[phase]
    return of_phase


def _context(night: Night, phase: str) -> Context:
    return Context(night.store, night.folder, night.recipe, 1, phase, lambda: NOW, lambda: False, given=night.backend)


def test_its_signals_stand_beside_the_guards_on_dev_and_pool_and_nowhere_else(picked: Night) -> None:
    names = {f"committee_{what}_request" for what in ("p", "margin", "disagreement")}
    for split in ("dev", "pool"):
        assert all(names <= set(one.signals) for one in said(picked, "r00", split).values())
        one = next(iter(said(picked, "r00", split).values())).signals
        assert one["committee_margin_request"] == pytest.approx(
            abs(2 * (one["committee_p_request"] or 0) - 1), abs=1e-6
        )
    assert not any("committee" in name for one in said(picked, "r00", "test").values() for name in one.signals)
    assert not any("committee" in name for one in said(picked, "base", "dev").values() for name in one.signals)


def test_dev_measures_it_among_the_candidates_for_the_confidence(picked: Night) -> None:
    known = Calibration.from_json(model(picked, "r00").calibration_json)
    assert {"committee_p", "committee_margin", "committee_spread"} <= set(known.auroc)
    assert "committee" not in known.own
    told = record(picked, 0, "evaluate")["committee"]
    assert (told["request"]["n"], 0 <= told["request"]["auroc"] <= 1) == (40, True)


def test_the_most_disputed_are_picked_and_the_reviewer_reads_by_whom(picked: Night) -> None:
    spread, batch = apart(picked, "r00"), disputed(picked)
    with picked.store.read() as db:
        earlier = {one.sample_id for one in selections.of_round(db, 1) if one.reason == "uncertain_compliance"}
    left = [id for id in spread if id not in earlier]
    assert len(batch) == 4
    assert min(one.score for one in batch) >= sorted((spread[id] for id in left), reverse=True)[5]
    assert [one.score for one in batch] == [pytest.approx(spread[one.sample_id], abs=1e-6) for one in batch]
    assert batch[0].words.startswith("The committee disagrees by 0.")
    assert record(picked, 1, "select")["committee"] == {
        "round": 0,
        "labels": record(picked, 1, "classify")["committee"]["labels"],
    }
    assert record(picked, 1, "select")["committee"]["labels"]["request"] == 30


def test_a_phase_that_is_done_again_picks_the_same_and_says_from_what(picked: Night, tmp_path: Path) -> None:
    night = picked.copy(tmp_path / "a")
    with night.store.write() as db:
        db.execute(tables.selections.delete().where(tables.selections.c.round == 1))
    assert night.phase(1, "select") == (
        "4 disagreement, 2 diversity, 2 low confidence, 2 random, 6 uncertain compliance; "
        "the committee of round 0 learned from these labels: 30 request, 5 completion, 5 response"
    )
    assert disputed(night) == disputed(picked)


def test_after_a_held_gate_the_newest_committee_picks_and_the_champions_own_is_its_confidence(
    picked: Night, tmp_path: Path
) -> None:
    night = picked.copy(tmp_path / "a", recipe(**ALONE, rounds=2))
    run(night, 1, "teach", "evaluate")
    with night.store.write() as db:
        champion = models.by_name(db, "r00")
        assert champion is not None
        control.set_champion(db, champion.id)
    run(night, 2, "classify", "select")
    assert record(night, 2, "classify")["committee"]["round"] == 0
    assert record(night, 2, "select")["committee"]["round"] == 1
    assert record(night, 2, "select")["committee"]["labels"]["request"] == 46
    old = apart(night, "r00")
    assert [one.score for one in disputed(night, 2)] != [
        pytest.approx(old[one.sample_id]) for one in disputed(night, 2)
    ]


def test_it_says_who_is_least_certain_where_it_is_the_confidence(measured: Night, tmp_path: Path) -> None:
    night, spread = measured.copy(tmp_path / "a"), "committee_spread"
    known = json.loads(model(night, "r00").calibration_json or "") | {"measure": spread, "rest": spread}
    with night.store.write() as db:
        models.set_calibration(db, model(night, "r00").id, json.dumps(known))
    night.phase(1, "classify")
    traced = [one.confidence or 0 for one in said(night, "r00", "pool").values() if one.n_traces]
    rest = [one.confidence or 0 for one in said(night, "r00", "pool").values() if not one.n_traces]
    assert len(traced) == 22
    assert max(traced) <= min(rest)


def test_it_reads_the_hidden_states_of_the_base_where_there_are_some(picked: Night) -> None:
    assert len(list((picked.folder / "vectors").iterdir())) == 1
    with picked.store.read() as db:
        pool = samples.get(db, samples.ids(db, "pool"))
    context = _context(picked, "select")
    found = round_committee.newest(context)
    assert found is not None
    assert found.space.center is not None
    assert {one.id: found.disagreement([one])[one.id] for one in pool[:3]} == pytest.approx(
        {id: found.disagreement(pool)[id] for id in (one.id for one in pool[:3])}
    )


@pytest.mark.parametrize("members", [{"count": 1}, {"count": 0, "others": [{"temperature": 0.5}]}])
def test_where_members_stand_there_is_no_committee(measured: Night, members: dict[str, Any]) -> None:
    night = measured.copy(measured.folder.parent / f"{len(members)}", recipe(members=members))
    assert round_committee.of_round(_context(night, "classify"), 0) is None
