"""Every key of [classify]: two nights that differ in it alone, and how their rows differ."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.loop.small_night import Night, recipe
from wizloop.loop.measures.calibration import Calibration
from wizloop.store import models, predictions, samples
from wizloop.store.predictions import GuardTrace, Prediction

# A confidence that needs no traces, so that only a share of the pool gets them.
DIRECT = Calibration()


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Night:
    """Round 0 up to the training. Tests copy it."""
    night = Night(tmp_path_factory.mktemp("taught") / "a", recipe())
    night.round(0, "train")
    return night


@pytest.fixture(scope="module")
def begun(taught: Night, tmp_path_factory: pytest.TempPathFactory) -> Night:
    """Round 0 with a champion that nothing was learned of: nothing is cut. Tests copy it."""
    night = taught.copy(tmp_path_factory.mktemp("begun") / "a")
    night.phase(0, "evaluate")
    night.phase(0, "gate")
    with night.store.write() as db:
        champion = models.by_name(db, "r00")
        assert champion is not None
        models.set_calibration(db, champion.id, DIRECT.to_json())
    return night


def classified(before: Night, folder: Path, **classify: Any) -> Night:
    """Read the pool with other settings."""
    night = before.copy(folder, recipe(classify=classify))
    night.phase(1, "classify")
    return night


OPEN = {"margin": 1.0, "max_unparsable": 1.0, "max_over_refusal_rise": 1.0}
"""A gate that any challenger passes."""


def measured(before: Night, folder: Path, **classify: Any) -> Night:
    """Measure the challenger on dev, make it champion and read the pool, with other settings."""
    night = before.copy(folder, recipe(classify=classify, gate=OPEN))
    night.phase(0, "evaluate")
    night.phase(0, "gate")
    night.phase(1, "classify")
    return night


def said(night: Night, split: str = "pool") -> list[Prediction]:
    with night.store.read() as db:
        champion = models.by_name(db, "r00")
        assert champion is not None
        return predictions.of_model(db, champion.id, split)


def drawn(night: Night, split: str = "pool") -> list[GuardTrace]:
    with night.store.read() as db:
        champion = models.by_name(db, "r00")
        assert champion is not None
        return predictions.traces_of(db, champion.id, samples.ids(db, split))


def numbers(night: Night, split: str = "pool") -> list[int]:
    """How many traces each sample has that has any."""
    return [one.n_traces for one in said(night, split) if one.n_traces]


def calibration(night: Night) -> Calibration:
    with night.store.read() as db:
        champion = models.by_name(db, "r00")
    assert champion is not None
    return Calibration.from_json(champion.calibration_json)


def split_votes(night: Night) -> int:
    """How many samples have traces that come to different verdicts."""
    votes: dict[int, set[str]] = {}
    for trace in drawn(night):
        votes.setdefault(trace.sample_id, set()).add(str(trace.verdict))
    return sum(len(of_sample) > 1 for of_sample in votes.values())


@pytest.mark.recipe_key("classify.least")
def test_no_sample_has_fewer_traces_than_least(begun: Night, tmp_path: Path) -> None:
    one, three = (classified(begun, tmp_path / str(least), least=least) for least in (1, 3))
    # One trace agrees with itself.
    assert set(numbers(one)) == {1}
    assert min(numbers(three)) == 3


@pytest.mark.recipe_key("classify.most")
def test_no_sample_has_more_traces_than_most(taught: Night, begun: Night, tmp_path: Path) -> None:
    three, six = (classified(begun, tmp_path / str(most), most=most) for most in (3, 6))
    assert (max(numbers(three)), max(numbers(six))) == (3, 6)
    # What is learned of the confidence on dev takes all of them.
    night = measured(taught, tmp_path / "dev", most=3)
    assert numbers(night, "dev") == [3] * 40


@pytest.mark.recipe_key("classify.share")
def test_the_share_of_the_pool_gets_traces_least_certain_first(begun: Night, tmp_path: Path) -> None:
    few, many, none = (classified(begun, tmp_path / str(share), share=share) for share in (0.1, 0.5, 0.0))
    assert [len(numbers(night)) for night in (few, many, none)] == [9, 45, 0]
    for night in (few, many):
        sure = sorted(said(night), key=lambda one: (one.confidence or 0.0, one.sample_id))
        assert [one.n_traces > 0 for one in sure] == [at < len(numbers(night)) for at in range(90)]
    # The rest keeps its direct verdict.
    assert [one.verdict for one in said(none)] == [one.verdict for one in said(many)]


@pytest.mark.recipe_key("classify.consensus")
def test_sampling_stops_at_the_consensus(begun: Night, tmp_path: Path) -> None:
    low, high = (classified(begun, tmp_path / str(tau), most=8, consensus=tau) for tau in (0.4, 0.95))
    # The winner of two traces has half of the vote at least.
    assert set(numbers(low)) == {2}
    assert max(numbers(high)) == 8


@pytest.mark.recipe_key("classify.temperature")
def test_traces_differ_more_at_a_higher_temperature_and_not_at_all_at_zero(begun: Night, tmp_path: Path) -> None:
    zero, usual, high = (classified(begun, tmp_path / str(t), share=0.5, temperature=t) for t in (0.0, 0.7, 2.0))
    assert len({(trace.sample_id, trace.text, trace.mean) for trace in drawn(zero)}) == 45
    assert len({(trace.sample_id, trace.text, trace.mean) for trace in drawn(usual)}) == len(drawn(usual))
    assert 0 == split_votes(zero) < split_votes(usual) < split_votes(high)


@pytest.mark.recipe_key("classify.top_p")
def test_a_small_nucleus_leaves_the_likelier_verdict_alone(begun: Night, tmp_path: Path) -> None:
    small, large = (classified(begun, tmp_path / str(p), share=0.5, top_p=p) for p in (0.5, 1.0))
    assert split_votes(small) == 0
    assert split_votes(large) > 0


@pytest.mark.recipe_key("classify.batch")
def test_batches_change_no_row(taught: Night, tmp_path: Path) -> None:
    few, many = (measured(taught, tmp_path / str(batch), batch=batch) for batch in (7, 64))
    assert (max(few.backend.at_once), max(many.backend.at_once)) == (7, 64)
    assert few.rows() == many.rows()


@pytest.mark.recipe_key("classify.verdict")
@pytest.mark.parametrize("source", ["direct", "traces"])
def test_the_verdict_is_the_direct_one_or_the_votes_as_asked(taught: Night, tmp_path: Path, source: str) -> None:
    night = measured(taught, tmp_path / "a", verdict=source, share=1.0)
    known = calibration(night)
    assert known.source == dict.fromkeys(("request", "completion", "response"), source)
    bar = known.thresholds["request"][source]
    for split, n in (("pool", 90), ("dev", 40)):
        found = [(one.verdict["request"], one.signals[f"p_{source}_request"]) for one in said(night, split)]
        assert [verdict for verdict, _ in found] == [
            None if p is None else "harmful" if p >= bar else "unharmful" for _, p in found
        ]
        assert sum(p is not None for _, p in found) > 0.9 * n


@pytest.mark.recipe_key("classify.verdict")
def test_auto_takes_for_each_task_what_is_better_on_dev(taught: Night, tmp_path: Path) -> None:
    known = calibration(measured(taught, tmp_path / "a", verdict="auto"))
    better = {
        task: "traces" if (of_task["traces"] or 0.0) > (of_task["direct"] or 0.0) + 0.01 else "direct"
        for task, of_task in known.average_precision.items()
    }
    assert known.source == better
    assert set(better.values()) == {"direct", "traces"}


@pytest.mark.recipe_key("classify.keep_top_percent")
def test_more_traces_are_cut_the_fewer_of_dev_are_kept(taught: Night, tmp_path: Path) -> None:
    share = {}
    for keep in (90, 50):
        night = measured(taught, tmp_path / str(keep), keep_top_percent=keep)
        lowest = [trace.lowest for trace in drawn(night, "dev")]
        assert calibration(night).cut_below == pytest.approx(np.percentile(lowest, 100 - keep))
        # What is measured on dev is never cut.
        assert {trace.stop for trace in drawn(night, "dev")} == {"stop"}
        share[keep] = sum(trace.stop == "cut" for trace in drawn(night)) / len(drawn(night))
    assert 0.02 < share[90] < 0.2 < 0.3 < share[50] < 0.6
