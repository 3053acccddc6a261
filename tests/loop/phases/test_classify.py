"""Phase classify on the stand-in backend: who is asked about which pool samples, and the rows that are left."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.loop.small_night import Night, recipe
from wizloop.loop.measures.calibration import Calibration
from wizloop.loop.measures.uncertainty import disagreement
from wizloop.loop.phases import classify
from wizloop.loop.words import DEFAULT
from wizloop.store import control, events, models, predictions, samples, selections, steps
from wizloop.store.predictions import GuardTrace, Prediction
from wizloop.store.rows import pieces

DIRECT = {"request": "direct", "completion": "direct", "response": "direct"}


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Night:
    """Round 0 up to the training: no champion yet. Tests copy it."""
    night = Night(tmp_path_factory.mktemp("taught") / "a", recipe())
    night.round(0, "train")
    return night


@pytest.fixture(scope="module")
def begun(taught: Night, tmp_path_factory: pytest.TempPathFactory) -> Night:
    """Round 0 with its champion. Tests copy it."""
    night = taught.copy(tmp_path_factory.mktemp("begun") / "a")
    for phase in ("evaluate", "gate"):
        night.phase(0, phase)
    return night


@pytest.fixture(scope="module")
def read(begun: Night, tmp_path_factory: pytest.TempPathFactory) -> Night:
    """The pool as a champion read it whose confidence needs no traces."""
    return classified(begun, tmp_path_factory.mktemp("read") / "a", measure="margin_direct", source=DIRECT)


def classified(before: Night, folder: Path, **changes: Any) -> Night:
    """Run classify in a copy, with changes to what dev taught of the champion."""
    night = before.copy(folder)
    with night.store.write() as db:
        champion = models.by_name(db, "r00")
        assert champion is not None
        known = replace(Calibration.from_json(champion.calibration_json), **changes)
        models.set_calibration(db, champion.id, known.to_json())
    night.phase(1, "classify")
    return night


def said(night: Night, model: str = "r00", split: str = "pool") -> list[Prediction]:
    with night.store.read() as db:
        found = models.by_name(db, model)
        assert found is not None
        return predictions.of_model(db, found.id, split)


def drawn(night: Night, model: str = "r00") -> dict[int, list[GuardTrace]]:
    """The traces on the pool by sample."""
    with night.store.read() as db:
        found = models.by_name(db, model)
        assert found is not None
        by_sample: dict[int, list[GuardTrace]] = {one: [] for one in samples.ids(db, "pool")}
        for trace in predictions.traces_of(db, found.id, list(by_sample)):
            by_sample[trace.sample_id].append(trace)
    return by_sample


def calibration(night: Night) -> Calibration:
    with night.store.read() as db:
        champion = models.by_name(db, "r00")
    assert champion is not None
    return Calibration.from_json(champion.calibration_json)


def main_task_of(night: Night, one: Prediction) -> Any:
    with night.store.read() as db:
        (sample,) = samples.get(db, [one.sample_id])
    return DEFAULT.main_task(sample)


def stored_events(night: Night) -> list[events.Event]:
    with night.store.read() as db:
        return events.page(db, 0, 1000)


def record(night: Night, round: int = 1) -> dict[str, Any]:
    with night.store.read() as db:
        found = steps.get_round(db, round)
    assert found is not None
    of_phase: dict[str, Any] = found.record["classify"]
    return of_phase


def test_only_the_least_certain_share_of_the_pool_gets_traces(read: Night) -> None:
    traced = [one for one in said(read) if one.n_traces]
    rest = [one for one in said(read) if not one.n_traces]
    assert (len(traced), len(rest)) == (22, 68)
    # The confidence is the direct margin here, which the traces do not change.
    assert max(one.confidence or 0.0 for one in traced) <= min(one.confidence or 0.0 for one in rest)
    assert {one: len(of_one) for one, of_one in drawn(read).items() if of_one} == {
        one.sample_id: one.n_traces for one in traced
    }
    assert record(read)["share_with_traces"] == pytest.approx(22 / 90)
    assert record(read)["pool_read"] == 90
    assert record(read)["read_by"] == "r00"


@pytest.mark.parametrize("measure", ["members_margin", "members_spread"])
def test_the_members_say_who_is_least_certain_where_they_are_the_confidence(
    begun: Night, tmp_path: Path, measure: str
) -> None:
    night = classified(begun, tmp_path / "a", measure=measure, source=DIRECT)
    traced = [one.confidence for one in said(night) if one.n_traces]
    rest = [one.confidence for one in said(night) if not one.n_traces]
    assert len(traced) == 22
    assert max(one for one in traced if one is not None) <= min(one for one in rest if one is not None)


@pytest.mark.parametrize(
    ("needs", "why"),
    [
        ({"measure": "votes", "source": DIRECT}, "the confidence (votes) needs traces"),
        ({"measure": "margin_direct", "source": {"request": "traces"}}, "verdicts come from the traces' votes"),
    ],
)
def test_the_share_holds_where_dev_chose_what_needs_traces_and_all_is_priced(
    begun: Night, tmp_path: Path, needs: dict[str, Any], why: str
) -> None:
    night = classified(begun, tmp_path / "a", **needs)
    traced, rest = ([one for one in said(night) if (one.n_traces > 0) is given] for given in (True, False))
    assert (len(traced), len(rest)) == (22, 68)
    # The rest has the direct verdict, and those with traces are the least certain without any.
    known = calibration(night)
    assert all(one.verdict["request"] == known.verdict(one.signals, "request") is not None for one in rest)
    doubt = {one.sample_id: known.without_traces(one.signals, main_task_of(night, one)) for one in said(night)}
    assert max(doubt[one.sample_id] for one in traced) <= min(doubt[one.sample_id] for one in rest)
    (told,) = [one.message for one in stored_events(night) if "classify.share" in one.message]
    each = sum(one.n_traces for one in traced) / 22
    assert why in told
    assert f"about {each * 68:,.0f} more traces" in told


def test_a_share_of_one_reads_the_whole_pool_with_traces(begun: Night, tmp_path: Path) -> None:
    night = begun.copy(tmp_path / "a", recipe(classify={"batch": 16, "share": 1.0}))
    night.phase(1, "classify")
    assert all(one.n_traces >= 2 for one in said(night))
    assert not any("classify.share" in one.message for one in stored_events(night))


def test_a_trace_is_cut_when_its_confidence_falls_below_what_dev_taught(read: Night) -> None:
    known = calibration(read)
    traces = [trace for of_one in drawn(read).values() for trace in of_one]
    cut = [trace for trace in traces if trace.stop == "cut"]
    whole = [trace for trace in traces if trace.stop == "stop"]
    assert known.cut_below is not None
    assert cut
    assert whole
    assert len(cut) + len(whole) == len(traces)
    # The stand-in is as sure of all of a trace's tokens: it is cut once a window is full, or never.
    assert all(trace.lowest < known.cut_below and trace.tokens == known.window for trace in cut)
    assert all(trace.verdict is None and not trace.verdict_p for trace in cut)
    assert all(trace.lowest >= known.cut_below and trace.tokens > known.window for trace in whole)


def test_no_trace_is_cut_where_dev_taught_no_threshold(begun: Night, tmp_path: Path) -> None:
    night = classified(begun, tmp_path / "a", cut_below=None)
    assert {trace.stop for of_one in drawn(night).values() for trace in of_one} == {"stop"}


def test_a_cut_trace_has_no_vote_and_is_not_counted_as_unparsed(begun: Night, tmp_path: Path) -> None:
    night = classified(begun, tmp_path / "a", measure="votes", cut_below=1.5)
    traces = drawn(night)
    some_cut = [one for one in said(night) if {trace.stop for trace in traces[one.sample_id]} == {"cut", "stop"}]
    all_cut = [one for one in said(night) if {trace.stop for trace in traces[one.sample_id]} == {"cut"}]
    assert some_cut
    assert all_cut
    assert all(one.signals["parsed"] == 1.0 for one in some_cut)
    assert all(one.signals["parsed"] is None and one.signals["votes_request"] is None for one in all_cut)
    # Without a vote a sample is as unsure as can be, and was asked as often as the recipe allows.
    assert all(one.confidence == 0.0 and one.n_traces == 4 for one in all_cut)


def test_sampling_goes_on_until_the_traces_agree(read: Night) -> None:
    traces = {sample: of_one for sample, of_one in drawn(read).items() if of_one}
    with read.store.read() as db:
        tasks = {one.id: str(DEFAULT.main_task(one)) for one in samples.get(db, list(traces))}
    answers = {
        sample: [trace.verdict[tasks[sample]] for trace in of_one if trace.verdict] for sample, of_one in traces.items()
    }
    agree = {sample for sample, of_one in answers.items() if len(set(of_one)) == 1}
    assert {sample for sample, of_one in traces.items() if len(of_one) < 4} <= agree
    assert all(len(traces[sample]) == 4 for sample in set(traces) - agree)
    assert agree
    assert set(traces) - agree


def test_every_member_answers_the_whole_pool_at_once(read: Night) -> None:
    for member in ("r00-m1", "r00-m2"):
        assert [one.sample_id for one in said(read, member)] == [one.sample_id for one in said(read)]
        assert {one.n_traces for one in said(read, member)} == {0}
        assert not any(drawn(read, member).values())


def test_the_champion_stands_beside_its_members_in_the_signals(read: Night) -> None:
    members = [{one.sample_id: one for one in said(read, name)} for name in ("r00-m1", "r00-m2")]
    for one in said(read):
        for task in one.probability:
            others = [of_member[one.sample_id].probability[task] for of_member in members]
            together = [one.signals[f"p_direct_{task}"] or 0.0, *others]
            assert one.signals[f"members_mean_{task}"] == pytest.approx(sum(together) / 3)
            assert one.signals[f"members_disagreement_{task}"] == pytest.approx(disagreement(together))
    assert any(one.signals["members_disagreement_request"] for one in said(read))


def test_the_members_are_those_that_were_made_with_the_champion(taught: Night, tmp_path: Path) -> None:
    """After a failed gate there are newer ones, which are not asked."""
    night = taught.copy(tmp_path / "a")
    night.phase(1, "train")
    with night.store.write() as db:
        champion = models.by_name(db, "r00")
        assert champion is not None
        assert [one.name for one in models.members(db, 1)] == ["r01-m1", "r01-m2"]
        control.set_champion(db, champion.id)
    night.phase(2, "classify")
    asked = {name: len(said(night, name)) for name in ("r00-m1", "r00-m2", "r01-m1", "r01-m2")}
    assert asked == {"r00-m1": 90, "r00-m2": 90, "r01-m1": 0, "r01-m2": 0}


def test_a_base_reads_the_pool_without_members(taught: Night, tmp_path: Path) -> None:
    night = taught.copy(tmp_path / "a")
    night.phase(1, "classify")
    assert record(night)["read_by"] == "base"
    assert (len(said(night, "base")), len(said(night, "r00-m1"))) == (90, 0)
    assert not any("members" in name for one in said(night, "base") for name in one.signals)
    # It was never measured on dev: nothing is cut, and the direct margin says what is least certain.
    assert sum(one.n_traces > 0 for one in said(night, "base")) == 22
    assert {trace.stop for of_one in drawn(night, "base").values() for trace in of_one} == {"stop"}


@pytest.mark.parametrize("source", ["direct", "traces"])
def test_verdict_probability_and_cell_follow_from_what_dev_taught(begun: Night, tmp_path: Path, source: str) -> None:
    scales = {"request": {source: (0.5, 1.0)}}
    taught = {"source": {"request": source}, "thresholds": {"request": {source: 0.4}}, "scales": scales}
    begun = begun.copy(tmp_path / "all", recipe(classify={"batch": 16, "share": 1.0}))
    night = classified(begun, tmp_path / "a", measure="margin_direct", cut=0.3, **taught)
    known = calibration(night)
    for one in said(night):
        p = one.signals[f"p_{source}_request"]
        believed = None if p is None else known.scaled("request", source, p)  # type: ignore[arg-type]
        expected = None if p is None else "harmful" if p >= 0.4 else "unharmful"
        assert one.verdict["request"] == expected
        assert one.probability.get("request") == believed
        assert one.probability.get("request") != p or p is None
    alone = [one for one in said(night) if set(one.verdict) == {"request"}]
    assert all(one.unparsed == (one.cell is None) == (one.verdict["request"] is None) for one in alone)
    alone = [one for one in alone if one.cell]
    assert {one.cell for one in alone} == {"confident_pass", "uncertain_pass", "confident_block", "uncertain_block"}
    for one in alone:
        sure = "confident" if (one.confidence or 0.0) >= 0.3 else "uncertain"
        assert one.cell == f"{sure}_{'pass' if one.verdict['request'] == 'unharmful' else 'block'}"


def test_the_record_tells_how_often_traces_and_direct_answer_agree(read: Night) -> None:
    known, agree = calibration(read), []
    with read.store.read() as db:
        tasks = {one.id: DEFAULT.main_task(one) for one in samples.get(db, samples.ids(db, "pool"))}
    for one in said(read):
        task = tasks[one.sample_id]
        p = one.signals.get(f"p_traces_{task}")
        if p is not None:
            of_traces = p >= known.thresholds[task]["traces"]
            agree.append(of_traces == ((one.signals[f"p_direct_{task}"] or 0.0) >= known.thresholds[task]["direct"]))
    assert 0 < sum(agree) < len(agree)
    assert record(read)["traces_with_verdict"] == len(agree)
    assert record(read)["traces_agree"] == pytest.approx(sum(agree) / len(agree))


def test_agreement_is_counted_over_all_batches_of_a_large_pool(
    read: Night, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    night, before = read.copy(tmp_path / "a"), record(read)
    monkeypatch.setattr(classify, "pieces", partial(pieces, size=7))
    night.phase(1, "classify")
    names = ("traces_with_verdict", "traces_agree", "share_with_traces")
    assert [record(night)[name] for name in names] == [before[name] for name in names]


def test_what_an_earlier_round_selected_or_an_import_excluded_is_not_read(begun: Night, tmp_path: Path) -> None:
    night = begun.copy(tmp_path / "a")
    with night.store.write() as db:
        first, second, third = samples.ids(db, "pool")[:3]
        samples.exclude(db, [second], "test")
        for round, one in ((0, first), (1, third)):
            selections.add(db, [selections.Selection(round, one, "random", 0.1, 1, 0.1, "drawn")])
    night.phase(1, "classify")
    for model in ("r00", "r00-m1"):
        ids = [one.sample_id for one in said(night, model)]
        assert len(ids) == 88
        assert {first, second} & set(ids) == set()
        # Its own round's selection must not change what a phase that is done again reads.
        assert third in ids
    assert record(night)["pool_read"] == 88


def test_traces_follow_from_the_seed(read: Night, begun: Night, tmp_path: Path) -> None:
    how = {"measure": "margin_direct", "source": DIRECT}
    assert drawn(classified(begun, tmp_path / "same", **how)) == drawn(read)
    other = begun.copy(tmp_path / "other", recipe(seed=8))
    theirs = drawn(classified(other, tmp_path / "again", **how))
    assert {sample for sample, of_one in theirs.items() if of_one} == {
        sample for sample, of_one in drawn(read).items() if of_one
    }
    assert theirs != drawn(read)


def test_no_sample_draws_the_noise_of_another_and_no_trace_that_of_its_sample(read: Night) -> None:
    means = [trace.mean for of_one in drawn(read).values() for trace in of_one]
    assert len(set(means)) == len(means)
