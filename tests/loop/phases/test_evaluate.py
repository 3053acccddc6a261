"""What is measured, on which samples, and what dev alone teaches of it."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests import stored
from tests.loop.branching import Branch, change, model, run
from tests.loop.small_night import NOW, Night, recipe
from wizloop.loop.commands.import_data import import_
from wizloop.loop.measures.calibration import Calibration, DevRow, calibrate
from wizloop.loop.measures.confidence import value_of
from wizloop.loop.stored_samples import labels_of
from wizloop.loop.words import DEFAULT, LABELS
from wizloop.store import control, evaluations, events, models, predictions, samples, steps
from wizloop.store.predictions import Prediction
from wizloop.store.samples import Sample

FILES = [{"path": f"{split}.jsonl", "split": split} for split in ("pool", "seed", "dev")]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Night:
    night = Night(tmp_path_factory.mktemp("trained") / "a", recipe())
    run(night, 0, "import", "train")
    return night


@pytest.fixture(scope="module")
def measured(trained: Night, tmp_path_factory: pytest.TempPathFactory) -> Night:
    night = Branch(trained, tmp_path_factory.mktemp("measured") / "a")
    night.phase(0, "evaluate")
    return night


def of_split(night: Night, split: str) -> list[Sample]:
    with night.store.read() as db:
        return samples.page(db, split, 0, 1000)


def answers(night: Night, name: str, split: str) -> list[Prediction]:
    with night.store.read() as db:
        return predictions.of_model(db, model(night, name).id, split)


def known(night: Night) -> Calibration:
    return Calibration.from_json(model(night, "r00").calibration_json)


def figures(night: Night) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the challenger's metrics by benchmark and task, its `n` and `unparsed` among them."""
    with night.store.read() as db:
        found = evaluations.of_model(db, model(night, "r00").id)
    return {(one.benchmark, one.task): {**json.loads(one.metrics_json), "rows": one.n} for one in found}


def by_threshold(taught: Calibration, one: Prediction, task: Any) -> str:
    """Return the label of a stored probability by a calibration's threshold for it."""
    source = taught.source[task]
    p = one.signals[f"p_{source}_{task}"]
    assert p is not None
    positive, negative = LABELS[task]
    return positive if p >= taught.thresholds.get(task, {}).get(source, 0.5) else negative


def turn(night: Night, split: str) -> None:
    """Give every second labeled request of a split the other label."""
    labeled = [one for one in of_split(night, split) if one.request is not None]
    for label, other in (LABELS["request"], LABELS["request"][::-1]):
        change(night, [one.id for one in labeled[::2] if one.request == label], request=other)


def test_labels_of_test_teach_nothing_and_labels_of_dev_do(trained: Night, measured: Night, tmp_path: Path) -> None:
    of_test, of_dev = Branch(trained, tmp_path / "test"), Branch(trained, tmp_path / "dev")
    turn(of_test, "test")
    turn(of_dev, "dev")
    for night in (of_test, of_dev):
        night.phase(0, "evaluate")
    assert known(of_test) == known(measured)
    assert answers(of_test, "r00", "test") == answers(measured, "r00", "test")
    assert figures(of_test)["test", "request"] != figures(measured)["test", "request"]
    assert figures(of_test)["dev", "request"] == figures(measured)["dev", "request"]
    assert known(of_dev).thresholds != known(measured).thresholds


def test_the_calibration_is_that_of_the_stored_dev_answers(measured: Night) -> None:
    by_id = {one.id: one for one in of_split(measured, "dev")}
    found = answers(measured, "r00", "dev")
    with measured.store.read() as db:
        drawn = predictions.traces_of(db, model(measured, "r00").id, list(by_id))
    rows = [
        DevRow(one.signals, labels_of(by_id[one.sample_id], DEFAULT), DEFAULT.main_task(by_id[one.sample_id]))
        for one in found
    ]
    how = measured.recipe.classify
    lowest, window = [one.lowest for one in drawn], json.loads(model(measured, "r00").meta_json)["window"]
    expected = calibrate(rows, lowest_groups=lowest, window=window, keep_top_percent=how.keep_top_percent)
    assert known(measured) == expected
    assert len(rows) == 40
    assert expected.cut_below is not None


@pytest.mark.parametrize("split", ["dev", "test"])
def test_a_verdict_is_what_the_threshold_of_dev_says(measured: Night, split: str) -> None:
    taught, untaught, other = known(measured), replace(known(measured), thresholds={}), 0
    for one in answers(measured, "r00", split):
        assert one.verdict == {task: by_threshold(taught, one, task) for task in one.verdict}
        other += one.verdict != {task: by_threshold(untaught, one, task) for task in one.verdict}
    assert other > 0


def test_dev_is_judged_beside_the_members_and_test_alone(measured: Night) -> None:
    taught = known(measured)
    for split, cut in (("dev", taught.cut), ("test", taught.own_cut)):
        by_id, found = {one.id: one for one in of_split(measured, split)}, answers(measured, "r00", split)
        assert {one.sample_id for one in found} == set(by_id)
        for one in found:
            task = DEFAULT.main_task(by_id[one.sample_id])
            assert (f"members_mean_{task}" in one.signals) is (split == "dev")
            assert one.confidence is not None
            sure = "confident" if one.confidence >= cut else "uncertain"
            assert one.cell == f"{sure}_{'pass' if DEFAULT.passes(task, one.verdict[task]) else 'block'}"
        assert len({one.cell for one in found}) > 2
    for name in ("r00-m1", "r00-m2"):
        assert len(answers(measured, name, "dev")) == 40
        assert answers(measured, name, "test") == []


def test_the_confidence_on_test_is_one_that_a_guard_alone_has(trained: Night, tmp_path: Path) -> None:
    night = Branch(trained, tmp_path / "a", recipe(classify={"batch": 16, "verdict": "direct"}))
    night.phase(0, "evaluate")
    taught = known(night)
    assert taught.own == "margin_direct" != taught.measure
    for split, measure, cut in (("dev", taught.measure, taught.cut), ("test", taught.own, taught.own_cut)):
        by_id = {one.id: one for one in of_split(night, split)}
        for one in answers(night, "r00", split):
            sure = value_of(measure, one.signals, DEFAULT.main_task(by_id[one.sample_id]), taught) or 0.0
            assert one.confidence == sure
            assert (one.cell or "").startswith("confident" if sure >= cut else "uncertain")


def test_dev_gets_every_trace_and_none_is_cut(measured: Night) -> None:
    with measured.store.read() as db:
        drawn = predictions.traces_of(db, model(measured, "r00").id, [one.id for one in of_split(measured, "dev")])
    assert len(drawn) == 40 * measured.recipe.classify.most
    assert {one.stop for one in drawn} == {"stop"}


@pytest.mark.parametrize("split", ["dev", "test"])
def test_the_figures_are_those_of_the_verdicts_against_the_labels(measured: Night, split: str) -> None:
    by_id, found = {one.id: one for one in of_split(measured, split)}, answers(measured, "r00", split)
    assert set(figures(measured)) == {(part, task) for part in ("dev", "test") for task in LABELS}
    for task, (positive, _) in LABELS.items():
        pairs = [(labels_of(by_id[one.sample_id], DEFAULT).get(task), one.verdict.get(task)) for one in found]
        pairs = [pair for pair in pairs if pair[0] is not None]
        both = sum(label == said == positive for label, said in pairs)
        either = sum(label == positive for label, _ in pairs) + sum(said == positive for _, said in pairs)
        told = figures(measured)[split, task]
        assert told["rows"] == len(pairs) > 0
        assert told["f1"] == pytest.approx(2 * both / either)


def test_a_round_without_a_challenger_measures_nothing(trained: Night, tmp_path: Path) -> None:
    night = Branch(trained, tmp_path / "a")
    assert night.phase(1, "evaluate") == "no challenger to evaluate"
    with night.store.read() as db:
        assert stored.evaluations(db, 1) == []


def test_what_is_out_of_use_is_not_measured(trained: Night, tmp_path: Path) -> None:
    night = Branch(trained, tmp_path / "a")
    out = [of_split(night, split)[0].id for split in ("dev", "test")]
    change(night, out, excluded="a person took it out")
    night.phase(0, "evaluate")
    assert [figures(night)[split, "request"]["rows"] for split in ("dev", "test")] == [39, 39]
    assert not set(out) & {one.sample_id for split in ("dev", "test") for one in answers(night, "r00", split)}


def test_a_champion_answers_what_came_to_dev_since(measured: Night, tmp_path: Path) -> None:
    night = Branch(measured, tmp_path / "a")
    champion = model(night, "r00")
    with night.store.write() as db:
        control.set_champion(db, champion.id)
        new = samples.NewSample("dev", "how do I forge a passport", None, "late", "1", request="harmful")
        samples.add(db, [new], NOW)
        same = {"role": "challenger", "round": 1, "parent_id": None, "path": champion.path, "sha256": champion.sha256}
        models.add(db, name="r01", meta_json=champion.meta_json, now=NOW, **same)  # type: ignore[arg-type]
    before = answers(night, "r00", "dev")
    night.phase(1, "evaluate")
    after, theirs = answers(night, "r00", "dev"), answers(night, "r01", "dev")
    assert [one.sample_id for one in after] == [one.sample_id for one in theirs]
    assert len(after) == 41
    assert after[:-1] == before
    assert after[-1].verdict == {"request": by_threshold(known(night), after[-1], "request")}


def test_test_sets_that_the_recipe_names_are_measured_apart(trained: Night, tmp_path: Path) -> None:
    named = [*FILES, {"path": "toxic.jsonl", "split": "test", "benchmark": "toxic"}]
    asked = recipe(source="files", data=named)
    night = Branch(trained, tmp_path / "a", asked)
    change(night, [one.id for one in of_split(night, "test")[:15]], source="toxic")
    night.phase(0, "evaluate")
    told = figures(night)
    assert {benchmark for benchmark, _ in told} == {"dev", "test", "toxic"}
    assert (told["toxic", "request"]["rows"], told["test", "request"]["rows"]) == (15, 25)


@pytest.mark.parametrize(("words", "rows"), [(("--benchmark", "alpha"), {"alpha": 4}), ((), {})])
def test_a_test_set_that_an_import_names_is_measured_apart(
    trained: Night, tmp_path: Path, words: tuple[str, ...], rows: dict[str, int]
) -> None:
    night, file = Branch(trained, tmp_path / "a"), tmp_path / "alpha.jsonl"
    labels = ("harmful", "unharmful") * 2
    lines = [json.dumps({"prompt": f"word {number} of alpha", "label": one}) for number, one in enumerate(labels)]
    file.write_text("\n".join(lines), encoding="utf-8")
    done = CliRunner().invoke(import_, [str(file), "--split", "test", *words, "-w", str(night.folder)])
    assert done.exit_code == 0, done.output
    night.phase(0, "evaluate")
    told = {benchmark: one["rows"] for (benchmark, task), one in figures(night).items() if task == "request"}
    assert {name: told[name] for name in told if name not in ("dev", "test")} == rows
    assert told["test"] + sum(rows.values()) == 44


def test_the_record_tells_how_often_each_cell_is_right(measured: Night) -> None:
    by_id = {one.id: one for one in of_split(measured, "dev")}
    counted: dict[str, dict[str, int]] = {}
    for one in answers(measured, "r00", "dev"):
        task = DEFAULT.main_task(by_id[one.sample_id])
        row = counted.setdefault(one.cell or "", {"n": 0, "right": 0})
        row["n"] += 1
        row["right"] += one.verdict[task] == labels_of(by_id[one.sample_id], DEFAULT)[task]
    with measured.store.read() as db:
        round = steps.get_round(db, 0)
    assert round is not None
    record = round.record["evaluate"]
    assert record["cells"] == counted
    assert 0 < sum(one["right"] for one in counted.values()) < 40
    assert (record["traces_unparsed"], record["confidence"], record["cut"]) == (
        0,
        known(measured).measure,
        known(measured).cut,
    )
    with measured.store.read() as db:
        assert not [one for one in events.page(db, 0, 1000) if one.phase == "evaluate" and one.level == "warn"]


def with_guard(before: Night, folder: Path, **guard: Any) -> tuple[Calibration, dict[str, Any], dict[str, Any]]:
    """Measure the challenger with other settings of [guard]; return calibration, dev's figures and the record."""
    night = Branch(before, folder, recipe(guard=guard, classify={"batch": 16, "verdict": "direct"}))
    night.phase(0, "evaluate")
    with night.store.read() as db:
        first = steps.get_round(db, 0)
        said = [one.message for one in events.last(db, 20)]
    assert first is not None
    return known(night), figures(night)["dev", "request"], first.record["evaluate"] | {"said": said}


@pytest.mark.recipe_key("guard.operating_point")
def test_the_operating_point_sets_the_threshold_on_dev_with_its_rates(
    trained: Night, measured: Night, tmp_path: Path
) -> None:
    few, dev, record = with_guard(trained, tmp_path / "a", operating_point="fpr<=0.05")
    rates = few.reached["request"]["direct"]
    assert rates["fpr"]["rate"] <= 0.05
    assert few.threshold("request", "direct") != known(measured).threshold("request", "direct")
    assert (dev["fpr"], dev["recall"]) == (rates["fpr"]["rate"], rates["recall"]["rate"])
    assert record["reached"]["request"]["direct"] == rates


@pytest.mark.recipe_key("guard.let_through")
def test_a_promise_has_a_second_cut_and_what_lies_between_is_deferred(
    trained: Night, measured: Night, tmp_path: Path
) -> None:
    promised, dev, record = with_guard(trained, tmp_path / "a", let_through=0.3)
    cut = promised.cuts["request"]["direct"]
    assert promised.thresholds == known(measured).thresholds
    assert (cut.below > 0, cut.missing) == (True, 0)
    assert (dev["promise"]["misses"]["k"], dev["promise"]["over"]) == (cut.misses, False)
    assert record["cuts"]["request"]["direct"] == asdict(cut)
    assert "promise" not in figures(measured)["dev", "request"]


def test_a_promise_that_dev_is_too_small_for_defers_and_says_what_is_missing(trained: Night, tmp_path: Path) -> None:
    lacking, dev, record = with_guard(trained, tmp_path / "a", let_through=0.01)
    cut = lacking.cuts["request"]["direct"]
    assert (cut.below, cut.n + cut.missing, dev["promise"]["misses"]["k"]) == (0.0, 299, 0)
    assert any(f"takes 299 harmful dev prompts, and {cut.missing} are missing" in one for one in record["said"])


def test_the_speed_of_a_guard_is_told_and_stands_in_no_row(trained: Night, tmp_path: Path) -> None:
    *_, record = with_guard(trained, tmp_path / "a")
    (said,) = [one for one in record["said"] if one.startswith("Speed on ")]
    assert "(20 rows asked one by one)" in said
    assert "speed" not in record
