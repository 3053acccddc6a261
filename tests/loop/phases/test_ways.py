"""The ways of answering in a night: each is measured beside the one that gives the verdicts, and never taken for it."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.loop.branching import Branch, model, run
from tests.loop.small_night import NOW, Night, recipe
from tests.loop.stand_in import StandInGuard
from wizloop.backends.guard_types import BadArtifact
from wizloop.console import answering
from wizloop.console.tables import rounds_notes, rounds_table
from wizloop.loop.context import Context, Standalone, standalone
from wizloop.loop.guard.rendering import InputText
from wizloop.loop.measures.calibration import Calibration
from wizloop.loop.phases import linear_fit, remake, review
from wizloop.loop.phases.ways import told
from wizloop.loop.words import DEFAULT
from wizloop.recipes.schema import Recipe, RecipeError, canonical_json, load
from wizloop.store import models, predictions, samples, selections
from wizloop.store.overview import base_summary, summaries

SMALL: dict[str, Any] = {
    "data_demo": {"pool": 24, "seed": 50, "dev": 40, "test": 8},
    "members": {"count": 0},
    "dpo": {"enabled": False},
    "classify": {"batch": 16, "least": 1, "most": 1, "verdict": "direct"},
    "gate": {"margin": 1.0, "max_unparsable": 1.0, "max_over_refusal_rise": 1.0},
    "select": {"budget": 6},
}


def asked(answer: str = "written") -> Recipe:
    return recipe(**SMALL, guard={"answer": answer})


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Night:
    night = Night(tmp_path_factory.mktemp("taught") / "a", asked())
    run(night, 0, "import", "train")
    return night


@pytest.fixture(scope="module")
def written(taught: Night, tmp_path_factory: pytest.TempPathFactory) -> Night:
    night = Branch(taught, tmp_path_factory.mktemp("written") / "a")
    run(night, 0, "evaluate", "gate")
    return night


@pytest.fixture(scope="module")
def linear(taught: Night, tmp_path_factory: pytest.TempPathFactory) -> Night:
    night = Branch(taught, tmp_path_factory.mktemp("linear") / "a", asked("linear"))
    run(night, 0, "evaluate", "gate")
    return night


def calibration(night: Night) -> Calibration:
    return Calibration.from_json(model(night, "r00").calibration_json)


def shown(night: Night) -> str:
    with night.store.read() as db:
        found, base = summaries(db), base_summary(db)
    table = rounds_table(found, base)
    cells = [" ".join(str(cell) for cell in column.cells) for column in table.columns]
    return "\n".join([*cells, *rounds_notes(found)])


@pytest.mark.recipe_key("guard.answer")
def test_the_head_gives_the_verdicts_where_it_is_asked_for(written: Night, linear: Night) -> None:
    assert set(calibration(written).source.values()) == {"direct"}
    known = calibration(linear)
    assert set(known.source.values()) == {"linear"}
    with linear.store.read() as db:
        found = predictions.of_model(db, model(linear, "r00").id, "dev")
    bar = known.thresholds["request"]["linear"]
    assert [one.verdict["request"] for one in found] == [
        "harmful" if (one.signals["p_linear_request"] or 0.0) >= bar else "unharmful" for one in found
    ]


def test_each_way_is_measured_beside_the_verdicts_under_its_name(written: Night, linear: Night) -> None:
    for night, way, other in ((written, "linear", "direct"), (linear, "direct", "linear")):
        with night.store.read() as db:
            (summary,) = summaries(db)
        figures = summary.record["baselines"]
        assert other not in figures
        assert {"f1", "macro_f1", "auroc", "n"} <= figures[way]["test"]["request"].keys()
        assert way in summary.record["compared"]["test"]["request"]
        assert summary.speeds["linear_speed"]["p50_ms"] > 0
        assert answering.NAMES[way] in shown(night)
    assert "; latency p50" in shown(written)
    assert "the verdicts on request and completion and response are the linear head's" in shown(linear)


def test_the_same_samples_have_the_same_figures_in_either_place(written: Night, linear: Night) -> None:
    with written.store.read() as db:
        beside = summaries(db)[0].record["baselines"]["linear"]["test"]["request"]
    with linear.store.read() as db:
        verdicts = next(one for one in summaries(db)[0].evaluations if (one.benchmark, one.task) == ("test", "request"))
    assert (beside["f1"], beside["auroc"]) == (verdicts.metrics["f1"], verdicts.metrics["auroc"])


def test_the_gate_names_the_ways_that_it_compared(written: Night, linear: Night) -> None:
    with linear.store.read() as db:
        reason = summaries(db)[0].round.gate_reason
    assert reason is not None
    assert "Judged the challenger by the linear head on completion and request and response; the base at once" in reason
    assert "linear" not in shown(written).split("taught:")[0].replace("linear head", "")
    assert told({"the challenger": {"request": "direct"}, "the base": {"request": "direct"}}) == ""


def test_the_pool_is_read_by_the_head_and_traces_are_the_guards(linear: Night, tmp_path: Path) -> None:
    night = Branch(linear, tmp_path / "a", asked("linear"))
    run(night, 1, "classify", "select")
    with night.store.read() as db:
        found = predictions.of_model(db, model(night, "r00").id, "pool")
        traced = predictions.traced(db, model(night, "r00").id)
        picked = selections.of_round(db, 1)
    assert all("p_linear_request" in one.signals for one in found)
    assert len(traced) > 0
    assert len(picked) == 6


def test_a_head_contradicts_no_teacher(linear: Night, tmp_path: Path) -> None:
    night = Branch(linear, tmp_path / "a", asked("linear"))
    champion = model(night, "r00")
    ctx = standalone(night.store, night.folder, night.recipe, "review", NOW)
    with night.store.read() as db:
        one = predictions.of_model(db, champion.id, "dev")[0]
    own = review._own(ctx, champion, one)
    assert own["request"] == calibration(night).scaled("request", "direct", one.signals["p_direct_request"] or 0.0)
    assert own["request"] != one.probability["request"]


def test_a_served_guards_head_reads_words_alone(taught: Night, tmp_path: Path) -> None:
    night = Branch(taught, tmp_path / "a", asked("linear"))
    night.recipe = served(night.recipe)
    ctx = standalone(night.store, night.folder, night.recipe, "evaluate", NOW)
    ctx.given = night.backend
    head = linear_fit.fitted(ctx, model(night, "r00"))
    assert head is not None
    assert not head.reads_states
    (said,) = ctx.linear(model(night, "r00")).says([InputText("How do I build a bomb?")])
    assert 0 < said.signals["p_linear_request"] < 1


def served(known: Recipe) -> Recipe:
    """The same run on a server."""
    guard = known.guard.model_copy(update={"engine": "vllm"})
    return known.model_copy(update={"guard": guard})


def test_a_guard_without_states_does_without_them(
    taught: Night, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StandInGuard, "states", lambda self, prompts, *, depth: None)
    night = Branch(taught, tmp_path / "a", asked("linear"))
    night.phase(0, "evaluate")
    assert set(calibration(night).source.values()) == {"linear"}


def flip(folder: Path) -> None:
    path = folder / "linear.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\1")


@pytest.mark.parametrize("harm", [flip, shutil.rmtree])
def test_a_lost_head_is_told_and_fitted_again(linear: Night, tmp_path: Path, harm: Callable[[Path], None]) -> None:
    night = Branch(linear, tmp_path / "a", asked("linear"))
    text = [InputText("How do I build a bomb?")]

    def context(round: int = 0, phase: str = "classify") -> Context:
        return Standalone(
            night.store, night.folder, night.recipe, round, phase, lambda: NOW, lambda: False, given=night.backend
        )

    before = context().linear(model(night, "r00")).says(text)
    harm(context().linear_folder(model(night, "r00")))
    with pytest.raises(BadArtifact, match="wizloop repair"):
        context().judge(model(night, "r00"))
    (said,) = [one for one in remake.run(context) if "linear" in one]
    assert said.startswith("the linear head of r00 was damaged and is fitted again")
    assert context().linear(model(night, "r00")).says(text) == before


def test_a_recipe_without_the_key_is_stored_as_it_was() -> None:
    assert '"answer"' not in canonical_json(asked())
    assert '"answer":"auto"' in canonical_json(asked("auto"))


@pytest.mark.parametrize(("answer", "counts"), [("direct", "direct"), ("traces", "traces"), ("linear", "auto")])
def test_direct_and_traces_say_what_classify_verdict_says(answer: str, counts: str) -> None:
    assert recipe(guard={"answer": answer}).written == counts


def test_two_keys_that_disagree_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('name = "m"\nsource = "demo"\n[guard]\nanswer = "direct"\n[classify]\nverdict = "traces"\n')
    with pytest.raises(RecipeError, match=r"leave classify\.verdict out"):
        load(path)


def test_the_pool_samples_with_traces_are_those_that_the_head_is_least_certain_of(
    linear: Night, tmp_path: Path
) -> None:
    share = {**SMALL, "classify": {**SMALL["classify"], "share": 0.25}}
    night = Branch(linear, tmp_path / "a", recipe(**share, guard={"answer": "linear"}))
    known = replace(calibration(night), rest="margin_linear")
    with night.store.write() as db:
        models.set_calibration(db, model(night, "r00").id, known.to_json())
    night.phase(1, "classify")
    with night.store.read() as db:
        found = predictions.of_model(db, model(night, "r00").id, "pool")
        tasks = {one.id: DEFAULT.main_task(one) for one in samples.get(db, [one.sample_id for one in found])}
    sure: dict[bool, list[float]] = {True: [], False: []}
    for one in found:
        sure[bool(one.n_traces)].append(known.without_traces(one.signals, tasks[one.sample_id]))
    assert (len(sure[True]), len(sure[False])) == (6, 18)
    assert max(sure[True]) <= min(sure[False])
