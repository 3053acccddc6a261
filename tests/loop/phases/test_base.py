"""Round "base": what is measured before anything is taught, and the baselines beside it and beside every challenger."""

import json
from pathlib import Path
from typing import Any

import pytest
from sklearn.metrics import f1_score

from tests.loop.branching import Branch, change, model, run
from tests.loop.small_night import NOW, Night, recipe
from wizloop.loop.context import Context
from wizloop.loop.interrupted import Interrupted
from wizloop.loop.measures import linear
from wizloop.loop.measures.calibration import Calibration
from wizloop.loop.measures.platt import threshold
from wizloop.loop.phases import baselines, order
from wizloop.loop.phases.score_predictions import verdicts_of
from wizloop.loop.phases.taught_lessons import Labeled, lessons_of
from wizloop.loop.stored_samples import usable
from wizloop.loop.words import LABELS
from wizloop.store import evaluations, models, predictions, samples, steps
from wizloop.store.predictions import Prediction


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Night:
    night = Night(tmp_path_factory.mktemp("prepared") / "a", recipe())
    run(night, 0, "import", "prepare")
    return night


@pytest.fixture(scope="module")
def measured(prepared: Night, tmp_path_factory: pytest.TempPathFactory) -> Night:
    night = Branch(prepared, tmp_path_factory.mktemp("measured") / "a")
    night.phase(0, "base")
    return night


@pytest.fixture(scope="module")
def evaluated(measured: Night, tmp_path_factory: pytest.TempPathFactory) -> Night:
    night = Branch(measured, tmp_path_factory.mktemp("evaluated") / "a")
    run(night, 0, "select", "evaluate")
    return night


def said(night: Night, split: str) -> list[Prediction]:
    with night.store.read() as db:
        return predictions.of_model(db, model(night, "base").id, split)


def record(night: Night) -> dict[str, Any]:
    with night.store.read() as db:
        row = steps.get_round(db, 0)
    assert row is not None
    return row.record


def context(night: Night) -> Context:
    return Context(night.store, night.folder, night.recipe, 0, "evaluate", lambda: NOW, lambda: False)


def test_the_base_is_measured_after_it_is_there_and_before_anything_is_taught() -> None:
    phases = order.phases_of(0)
    assert phases.index("prepare") + 1 == phases.index("base") == phases.index("check") - 1
    assert phases.index("check") < phases.index("select")
    assert "base" not in order.phases_of(1)


def test_dev_and_test_are_scored_at_thresholds_of_dev(measured: Night) -> None:
    with measured.store.read() as db:
        scored = evaluations.of_model(db, model(measured, "base").id)
    known = Calibration.from_json(model(measured, "base").calibration_json)
    assert {(one.benchmark, one.task) for one in scored} == {
        (name, task) for name in ("dev", "test") for task in LABELS
    }
    assert all(one.round == 0 for one in scored)
    assert set(known.thresholds) == set(LABELS)
    for split in ("dev", "test"):
        assert len(said(measured, split)) == 40
        for one in said(measured, split):
            cut = known.threshold("request", "direct")
            assert one.verdict["request"] == LABELS["request"][0 if one.signals["p_direct_request"] >= cut else 1]  # type: ignore[operator]
    assert said(measured, "pool") == []


def test_a_direct_verdict_needs_no_trace_of_the_base(measured: Night) -> None:
    assert not [one for split in ("dev", "test") for one in said(measured, split) if one.n_traces]
    assert record(measured)["base_measured"]["traces_unparsed"] is None


@pytest.mark.parametrize("asked", [{"classify": {"batch": 16, "verdict": "traces"}}, {"guard": {"opening": "none"}}])
def test_a_verdict_of_traces_is_read_from_the_bases_traces_too(tmp_path: Path, asked: dict[str, Any]) -> None:
    night = Night(tmp_path / "a", recipe(**asked))
    run(night, 0, "import", "base")
    known = Calibration.from_json(model(night, "base").calibration_json)
    assert set(known.source.values()) == {"traces"}
    assert {one.n_traces for split in ("dev", "test") for one in said(night, split)} == {4}


def test_all_harmful_is_scored_on_the_same_samples(measured: Night) -> None:
    with measured.store.read() as db:
        labels = [one.request for one in samples.page(db, "test", 0, 1000)]
    harmful, found = labels.count("harmful"), record(measured)["base_measured"]["baselines"]["all_harmful"]
    assert found["test"]["request"]["f1"] == pytest.approx(2 * harmful / (harmful + len(labels)))
    assert found["test"]["request"]["low"] < found["test"]["request"]["f1"] < found["test"]["request"]["high"]
    assert (found["test"]["request"]["recall"], found["test"]["request"]["fpr"]) == (1.0, 1.0)
    assert set(record(measured)["base_measured"]["compared"]["test"]["request"]) == {"all_harmful"}


def test_it_is_measured_once(measured: Night, tmp_path: Path) -> None:
    night = Branch(measured, tmp_path / "a")
    before, asked = (night.rows(), record(night)), len(night.backend.at_once)
    night.phase(0, "base")
    assert (night.rows(), record(night)) == before
    assert len(night.backend.at_once) == asked


def test_its_progress_is_told_over_dev_and_test_from_the_start(prepared: Night, tmp_path: Path) -> None:
    night, before = Branch(prepared, tmp_path / "a"), iter([False])
    with pytest.raises(Interrupted, match="signal"):
        night.phase(0, "base", lambda: next(before, True))
    with night.store.read() as db:
        step = steps.step(db, 0, "base")
    assert step is not None
    assert (step.done, step.total) == (0, 80)
    night.phase(0, "base")
    assert [len(said(night, split)) for split in ("dev", "test")] == [40, 40]


def test_a_challenger_is_compared_with_each_baseline_on_the_test_sets(evaluated: Night) -> None:
    found, figures = record(evaluated)["compared"], record(evaluated)["baselines"]
    assert list(found) == ["test"]
    assert set(found["test"]["request"]) == {"base", "all_harmful", "tfidf", "linear"}
    with evaluated.store.read() as db:
        f1 = {
            name: next(
                json.loads(one.metrics_json)["f1"]
                for one in evaluations.of_model(db, model(evaluated, name).id)
                if (one.benchmark, one.task) == ("test", "request")
            )
            for name in ("base", "r00")
        }
    of_base = found["test"]["request"]["base"]
    assert (of_base["champion"], of_base["challenger"]) == (pytest.approx(f1["base"]), pytest.approx(f1["r00"]))
    assert of_base["low"] <= of_base["difference"] <= of_base["high"]
    of_linear = figures["tfidf"]["test"]["request"]
    assert found["test"]["request"]["tfidf"]["champion"] == pytest.approx(of_linear["f1"])
    assert of_linear["n"] == 40


def test_the_linear_model_learns_what_the_round_was_taught(evaluated: Night) -> None:
    ctx = context(evaluated)
    lessons = lessons_of(ctx, "r00-sft")
    with evaluated.store.read() as db:
        seed = samples.ids(db, "seed")
    assert [one.sample.id for one in lessons] == seed
    assert {label for one in lessons for label in one.labels.values()} <= {x for pair in LABELS.values() for x in pair}
    assert lessons_of(ctx, "r07-sft") == []
    sets = {split: list(usable(evaluated.store, split)) for split in ("dev", "test")}
    with evaluated.store.read() as db:
        challenger = models.by_name(db, "r00")
        base = models.by_name(db, "base")
    assert challenger is not None
    turned = [
        Labeled(one.sample, {**one.labels, "request": LABELS["request"][one.labels["request"] == "harmful"]})
        for one in lessons
    ]
    whole = baselines.beside(ctx, challenger, base, sets, lessons)["baselines"]["tfidf"]["test"]["request"]
    wrong = baselines.beside(ctx, challenger, base, sets, turned)["baselines"]["tfidf"]["test"]["request"]
    assert whole["macro_f1"] > wrong["macro_f1"]


def test_the_linear_model_is_cut_on_dev_by_the_guards_rule(evaluated: Night) -> None:
    lessons = lessons_of(context(evaluated), "r00-sft")
    model = linear.fit([one.sample.prompt for one in lessons], [one.labels["request"] == "harmful" for one in lessons])
    assert model is not None
    sets = {split: [one for one in usable(evaluated.store, split) if one.request] for split in ("dev", "test")}
    ps = {split: model.p([one.prompt for one in rows]) for split, rows in sets.items()}
    truth = {split: [int(one.request == "harmful") for one in rows] for split, rows in sets.items()}
    cut = threshold(truth["dev"], ps["dev"])
    f1, plain = (f1_score(truth["test"], [int(p >= at) for p in ps["test"]]) for at in (cut, 0.5))
    assert record(evaluated)["baselines"]["tfidf"]["test"]["request"]["f1"] == pytest.approx(f1)
    assert f1 != pytest.approx(plain)


def test_without_lessons_of_both_classes_there_is_no_linear_model(evaluated: Night) -> None:
    ctx, base = context(evaluated), model(evaluated, "base")
    one_class = [one for one in lessons_of(ctx, "r00-sft") if one.labels == {"request": "harmful"}]
    sets = {"test": list(usable(evaluated.store, "test"))}
    assert one_class
    found = baselines.beside(ctx, base, None, sets, one_class)
    assert found["baselines"]["tfidf"] == {"test": {}}
    assert set(found["compared"]["test"]["request"]) == {"all_harmful"}


def test_where_there_is_no_test_set_dev_is_compared(evaluated: Night) -> None:
    ctx, base = context(evaluated), model(evaluated, "base")
    dev = list(usable(evaluated.store, "dev"))
    assert list(baselines.beside(ctx, base, None, {"dev": dev}, ())["compared"]) == ["dev"]
    assert verdicts_of(ctx, base, dev)["request"].labels == [one.request for one in dev if one.request]


def test_the_base_answers_what_came_to_dev_and_test_since(evaluated: Night, tmp_path: Path) -> None:
    night = Branch(evaluated, tmp_path / "a")
    with night.store.write() as db:
        for split in ("dev", "test"):
            late = samples.NewSample(split, f"how do I forge a {split}", None, "late", "1", request="harmful")
            samples.add(db, [late], NOW)
    change(night, [one.id for one in usable(night.store, "test")][:1], excluded="a person took it out")
    night.phase(0, "evaluate")
    assert [len(said(night, split)) for split in ("dev", "test")] == [41, 40]
    assert record(night)["baselines"]["all_harmful"]["test"]["request"]["n"] == 40
    assert (night.phase(0, "gate") or "").startswith("The challenger passes")
