"""The gathered view of a run, on a workspace in which a night has been."""

from pathlib import Path

import pytest

from wizloop.store import errors
from wizloop.store.db import Store
from wizloop.store.overview import base_summary, overview, summaries


def test_the_overview_is_of_the_latest_round_and_phase(after_a_night: Path) -> None:
    with Store.open(after_a_night, readonly=True) as store, store.read() as db:
        found = overview(db)
    assert (found.run.state, found.round, found.to_review) == ("done", 1, 2)
    assert found.step is not None
    assert (found.step.phase, found.step.done) == ("evaluate", 80)
    assert (found.budget.settled_micro, found.budget.reserved_micro) == (500_000, 0)


def test_a_round_is_summed_up_with_its_challengers_figures(after_a_night: Path) -> None:
    with Store.open(after_a_night, readonly=True) as store, store.read() as db:
        before, after = summaries(db)
    assert [row.benchmark for row in after.evaluations] == ["dev", "test"]
    assert {row.model_id for row in before.evaluations} == {1}
    assert (after.selected, after.answers, after.spent_micro) == ({"random": 2}, 2, 500_000)
    assert [export.path for export in after.exports] == ["exports/1-safetensors"]


def test_the_base_is_summed_up_beside_the_rounds(after_a_night: Path) -> None:
    with Store.open(after_a_night, readonly=True) as store, store.read() as db:
        base = base_summary(db)
    assert base is not None
    assert [(row.benchmark, row.metrics["f1"]) for row in base.evaluations] == [("dev", 0.6), ("test", 0.6)]
    assert (base.name, list(base.record["baselines"])) == ("base", ["all_harmful"])


def test_a_workspace_without_a_run_has_no_overview(tmp_path: Path) -> None:
    with Store.create(tmp_path / "runs") as store, store.read() as db:
        assert summaries(db) == []
        assert base_summary(db) is None
        with pytest.raises(errors.NoRun):
            overview(db)
