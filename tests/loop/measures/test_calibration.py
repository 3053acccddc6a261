"""What dev teaches: source, thresholds, the confidence; and verdicts that follow from it."""

import json
from dataclasses import replace

import pytest

from wizloop.loop.measures.calibration import Calibration, DevRow, calibrate, traces_agree
from wizloop.loop.measures.confidence import value_of


def row(label: str, direct: float, traces: float | None = None, **more: float) -> DevRow:
    signals: dict[str, float | None] = {"p_direct_request": direct, "p_traces_request": traces, **more}
    return DevRow(signals, {"request": label}, "request")


GOOD_DIRECT = [row("harmful", 0.4), row("harmful", 0.35), row("unharmful", 0.2), row("unharmful", 0.1)]


def test_the_threshold_is_learned_and_used() -> None:
    known = calibrate(GOOD_DIRECT, lowest_groups=[], window=8, keep_top_percent=90)
    assert known.threshold("request", "direct") == pytest.approx(0.275)
    judged = known.apply({"p_direct_request": 0.3}, ("request",), "request")
    assert judged.verdict == {"request": "harmful"}
    assert known.apply({"p_direct_request": 0.25}, ("request",), "request").verdict == {"request": "unharmful"}


def test_a_guard_that_is_too_sure_is_believed_as_far_as_dev_bears_it_out() -> None:
    # It says 0.99 and 0.01, and is right three times in four.
    rows = [row("harmful", 0.99)] * 75 + [row("unharmful", 0.99)] * 25
    rows += [row("unharmful", 0.01)] * 75 + [row("harmful", 0.01)] * 25
    known = calibrate(rows, lowest_groups=[], window=8, keep_top_percent=90)
    sure = known.apply({"p_direct_request": 0.99}, ("request",), "request")
    assert sure.verdict == {"request": "harmful"}
    assert sure.probability["request"] == pytest.approx(0.75, abs=0.01)
    other = known.apply({"p_direct_request": 0.01}, ("request",), "request").probability["request"]
    assert other == pytest.approx(0.25, abs=0.01)


def traced(better: bool) -> list[DevRow]:
    """Four samples; the direct order has one mistake in it, the traces' has none, or the other way round."""
    poor, fine = (0.9, 0.3, 0.5, 0.1), (0.9, 0.8, 0.2, 0.1)
    direct, traces = (poor, fine) if better else (fine, poor)
    labels = ("harmful", "harmful", "unharmful", "unharmful")
    return [row(label, d, t) for label, d, t in zip(labels, direct, traces, strict=True)]


@pytest.mark.parametrize(
    ("better", "asked", "expected"),
    [(True, "auto", "traces"), (False, "auto", "direct"), (True, "direct", "direct"), (False, "traces", "traces")],
)
def test_the_source_is_the_better_one_unless_the_recipe_says(better: bool, asked: str, expected: str) -> None:
    known = calibrate(traced(better), lowest_groups=[], window=8, keep_top_percent=90, verdict=asked)  # type: ignore[arg-type]
    assert known.source_of("request") == expected
    assert known.average_precision["request"]["direct"] == pytest.approx(5 / 6 if better else 1.0)


def test_traces_that_often_cannot_be_read_are_not_the_source() -> None:
    rows = [*traced(True), row("unharmful", 0.1, None)]
    known = calibrate(rows, lowest_groups=[], window=8, keep_top_percent=90, max_unparsable=0.1)
    assert known.source_of("request") == "direct"


def test_the_confidence_is_the_measure_that_tells_right_from_wrong() -> None:
    # At the best threshold the second and the third cannot both be right; the members know that it is not the second.
    rows = [
        row("harmful", 0.9, members_mean_request=0.95, members_disagreement_request=0.1),
        row("unharmful", 0.8, members_mean_request=0.55, members_disagreement_request=1.0),
        row("harmful", 0.7, members_mean_request=0.9, members_disagreement_request=0.2),
        row("unharmful", 0.1, members_mean_request=0.1, members_disagreement_request=0.3),
        row("unharmful", 0.05, members_mean_request=0.05, members_disagreement_request=0.2),
    ]
    known = calibrate(rows, lowest_groups=[1.0, 2.0, 3.0], window=8, keep_top_percent=90)
    assert known.measure == "members_margin"
    assert known.auroc["members_margin"] == 1.0
    assert known.n["votes"] == 0
    assert known.own == "margin_direct"
    assert known.cut == pytest.approx(0.8)
    assert known.cut_below == pytest.approx(1.2)


def test_a_measure_that_few_rows_have_is_not_the_confidence() -> None:
    rows = [row("harmful" if n % 2 else "unharmful", 0.5 + (n % 2) * (0.1 + n / 100)) for n in range(1, 9)]
    rows[:2] = [
        replace(one, signals={**one.signals, "deepconf_bottom": value}, labels={"request": label})
        for one, value, label in zip(rows, (9.0, 1.0), ("harmful", "harmful"), strict=False)
    ]
    known = calibrate(rows, lowest_groups=[], window=8, keep_top_percent=90, verdict="direct")
    assert known.auroc["deepconf_bottom"] == 1.0
    assert known.n["deepconf_bottom"] == 2
    assert known.measure != "deepconf_bottom"
    traced = [
        replace(one, signals={**one.signals, "p_traces_request": one.signals["p_direct_request"]}) for one in rows
    ]
    by_traces = calibrate(traced, lowest_groups=[], window=8, keep_top_percent=90, verdict="traces")
    assert by_traces.votes
    assert by_traces.own != "deepconf_bottom"


def test_members_that_disagree_more_leave_less_confidence() -> None:
    signals = {"members_disagreement_request": 0.3, "members_mean_request": 0.9}
    assert value_of("members_spread", signals, "request", Calibration()) == -0.3


def test_a_guard_alone_has_the_measures_of_traces_only_where_they_are_its_verdict() -> None:
    rows = [
        row("harmful" if right else "unharmful", 0.9, deepconf_bottom=8.0 if right else 1.0, p_traces_request=0.9)
        for right in (True, True, False, True)
    ]
    known = calibrate(rows, lowest_groups=[], window=8, keep_top_percent=90, verdict="direct")
    assert (known.measure, known.own) == ("deepconf_bottom", "margin_direct")
    by_traces = calibrate(rows, lowest_groups=[], window=8, keep_top_percent=90, verdict="traces")
    assert (by_traces.measure, by_traces.own) == ("deepconf_bottom", "deepconf_bottom")


@pytest.mark.parametrize(("p", "value"), [(0.8, 0.0), (0.9, 0.5), (1.0, 1.0), (0.4, 0.5), (0.0, 1.0)])
def test_the_margin_is_the_distance_from_the_threshold(p: float, value: float) -> None:
    known = Calibration(thresholds={"request": {"direct": 0.8}})
    assert value_of("margin_direct", {"p_direct_request": p}, "request", known) == pytest.approx(value)


def test_a_guard_never_measured_uses_the_direct_answer_and_one_half() -> None:
    judged = Calibration().apply({"p_direct_request": 0.3}, ("request",), "request")
    assert (judged.verdict, judged.cell) == ({"request": "unharmful"}, "uncertain_pass")
    assert judged.confidence == pytest.approx(0.4)


def test_an_unread_sample_is_unparsed_and_as_unsure_as_can_be() -> None:
    known = Calibration(source={"request": "traces"}, measure="votes")
    judged = known.apply({"p_direct_request": 0.9, "p_traces_request": None}, ("request",), "request")
    assert (judged.verdict, judged.confidence, judged.cell) == ({"request": None}, 0.0, None)
    assert known.needs_traces


def test_one_class_on_dev_keeps_one_half() -> None:
    known = calibrate([row("harmful", 0.9), row("harmful", 0.4)], lowest_groups=[], window=8, keep_top_percent=90)
    assert known.threshold("request", "direct") == 0.5


def test_nothing_on_dev_is_refused() -> None:
    with pytest.raises(ValueError, match="no dev sample"):
        calibrate([], lowest_groups=[], window=8, keep_top_percent=90)


def test_a_calibration_survives_the_store() -> None:
    known = calibrate(traced(True), lowest_groups=[1.0], window=8, keep_top_percent=90)
    assert Calibration.from_json(known.to_json()) == known
    assert Calibration.from_json(None) == Calibration()


def test_an_unknown_measure_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown measure"):
        value_of("luck", {}, "request", Calibration())


@pytest.mark.parametrize(
    ("direct", "traces", "same"),
    [(0.35, 0.65, True), (0.35, 0.55, False), (0.25, 0.55, True), (0.25, 0.65, False), (0.35, None, None)],
)
def test_traces_agree_by_the_threshold_of_each(direct: float, traces: float | None, same: bool | None) -> None:
    known = Calibration(thresholds={"request": {"direct": 0.3, "traces": 0.6}})
    assert traces_agree({"p_direct_request": direct, "p_traces_request": traces}, known, "request") is same
    assert traces_agree({"p_direct_request": direct}, known, "request") is None


def test_a_source_without_probabilities_has_no_rates_and_no_cut() -> None:
    rows = [row("harmful", 0.9 - at / 1000) for at in range(60)] + [row("unharmful", 0.1)]
    known = calibrate(
        rows, lowest_groups=[], window=8, keep_top_percent=90, operating_point="fpr<=0.01", let_through=0.05
    )
    assert list(known.reached["request"]) == list(known.cuts["request"]) == ["direct"]
    assert known.decision({"p_direct_request": 0.4}, "request") == "pass"
    assert known.decision({"p_direct_request": 0.4, "p_traces_request": 0.0}, "request") == "pass"


def test_rows_of_one_prompt_count_once_for_a_promise_and_by_the_lowest() -> None:
    rows = [replace(row("harmful", 0.9 - at / 1000), prompt=f"p{at % 59}") for at in range(118)]
    cut = calibrate(rows, lowest_groups=[], window=8, keep_top_percent=90, let_through=0.05).cuts["request"]["direct"]
    assert (cut.n, cut.missing, cut.misses) == (59, 0, 0)
    assert cut.below < 0.9 - 117 / 1000


def test_a_calibration_with_a_promise_survives_its_file_and_one_without_has_no_key_more() -> None:
    rows = [row("harmful", 0.9 - at / 1000) for at in range(60)] + [row("unharmful", 0.1)]
    plain = calibrate(rows, lowest_groups=[], window=8, keep_top_percent=90)
    asked = calibrate(rows, lowest_groups=[], window=8, keep_top_percent=90, let_through=0.05)
    assert Calibration.from_json(asked.to_json()) == asked
    assert not {"operating_point", "reached", "let_through", "cuts"} & set(json.loads(plain.to_json()))


@pytest.mark.parametrize(("measure", "p", "value"), [
    ("committee_p", 0.9, 0.3),
    ("committee_p", 0.1, 0.7),
    ("committee_margin", 0.9, 0.4),
    ("committee_spread", 0.9, 0.5),
])  # fmt: skip
def test_the_committee_says_how_likely_the_guards_own_verdict_is_or_how_sure_it_is(
    measure: str, p: float, value: float
) -> None:
    signals = {"p_direct_request": p, "committee_p_request": 0.3, "committee_margin_request": 0.4}
    assert value_of(measure, signals, "request", Calibration()) is None
    known = signals | {"committee_disagreement_request": 0.25}
    assert value_of(measure, known, "request", Calibration()) == pytest.approx(value)


def test_a_committee_that_knows_better_becomes_the_confidence_and_never_that_of_a_guard_alone() -> None:
    def row(label: str, p: float, committee: float) -> DevRow:
        told = {"p": committee, "margin": abs(2 * committee - 1), "disagreement": 0.1}
        beside = {f"committee_{name}_request": value for name, value in told.items()}
        return DevRow({"p_direct_request": p, **beside}, {"request": label}, "request")

    rows = [
        row("harmful", 0.9, 0.8), row("unharmful", 0.95, 0.2), row("harmful", 0.7, 0.9), row("unharmful", 0.1, 0.1),
        row("harmful", 0.05, 0.9), row("unharmful", 0.2, 0.3),
    ]  # fmt: skip
    known = calibrate(rows, lowest_groups=[], window=16, keep_top_percent=90)
    assert (known.measure, known.own) == ("committee_p", "margin_direct")
    assert known.auroc["committee_p"] == 1.0
