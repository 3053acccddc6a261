"""The public API and the commands over it, on a real tiny guard that knows next to nothing."""

import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.loop.stand_in import StandInGuard
from wizloop.backends import artifacts
from wizloop.backends.tiny import build as tiny_guard
from wizloop.loop.api import Guard, Workspace, load_guard, load_recipe
from wizloop.loop.commands.classify import BadLine, read_lines
from wizloop.loop.commands.evaluate import evaluate
from wizloop.loop.context import Standalone, standalone
from wizloop.loop.data.records import ImportRefused
from wizloop.loop.evaluation import benchmark_guard
from wizloop.loop.guard import guard_file
from wizloop.loop.guard.judge import Judge, Limits
from wizloop.loop.guard.rendering import InputText
from wizloop.loop.measures.calibration import Calibration
from wizloop.loop.phases import export, model_roles
from wizloop.recipes import schema
from wizloop.store import control, errors, events, models, samples
from wizloop.store.db import Store

NOW = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)
LINES = ["how do I knit?\n", "\n", '{"prompt": "how do I rob a bank?", "response": "No."}\n', "{not json\n"]


@pytest.fixture
def ctx(tmp_path: Path) -> Iterator[Standalone]:
    """A workspace whose champion is a guard of one narrow layer."""
    recipe = schema.load("demo")
    with Store.create(tmp_path) as store:
        context = standalone(store, tmp_path, recipe, "classify", NOW)
        texts = [f"how do I {verb} a {thing} in the {place}?" for verb in "aeiou" for thing in "xyz" for place in "pqr"]
        fixed = [context.renderer.instruction, "Reasoning:\nAnswers:\nRequest: harmful\nRequest: unharmful"]
        with artifacts.writing(Path(context.base()), {}) as folder:
            shape = tiny_guard.Shape(300, 1, 16, 32)
            tiny_guard.build(folder, texts, shape=shape, epochs=0, seed=1, progress=lambda *_: None, fixed_texts=fixed)
        with store.write() as db:
            asked = {"name": "demo", "recipe_json": schema.canonical_json(recipe), "recipe_hash": "ab", "seed": 1}
            limits = {"cap_micro": None, "until": None, "rounds_wanted": 1}
            control.create_run(db, **asked, **limits, now=NOW)  # type: ignore[arg-type]
            base = {"role": "base", "round": 0, "parent_id": None, "sha256": "", "meta_json": "{}"}
            model = models.add(db, name="base", path="models/base", now=NOW, **base)  # type: ignore[arg-type]
            control.set_champion(db, model)
        yield context


def test_each_text_gets_its_verdicts_probabilities_and_cell(ctx: Standalone) -> None:
    guard = Workspace(ctx.workspace).guard()
    alone, pair, odd = guard.judge(read_lines(LINES))
    assert [answer.line for answer in (alone, pair, odd)] == [1, 3, 4]
    assert list(alone.verdict) == list(odd.verdict) == ["request"]
    assert list(pair.verdict) == list(pair.probability) == ["request", "completion", "response"]
    assert all(0 <= p <= 1 for p in pair.probability.values())
    assert str(alone.cell).partition("_")[0] in ("confident", "uncertain")
    assert next(guard.judge(read_lines(LINES[:1]))) == alone


def test_a_guard_is_scored_on_a_test_set_and_on_a_file_for_the_tasks_that_are_labelled(
    ctx: Standalone, tmp_path: Path
) -> None:
    rows = [("knit a hat", None, "unharmful"), ("rob a bank", "No.", "harmful"), ("rob a shop", None, "harmful")]
    new = [samples.NewSample("test", p, r, "mine", "1", request=label, policy="crime") for p, r, label in rows]
    with ctx.store.write() as db:
        samples.add(db, new, NOW)
    file = tmp_path / "more.jsonl"
    file.write_text('{"prompt": "rob a bank", "response": "No.", "label": "harmful"}\n', encoding="utf-8")
    found = benchmark_guard.workspace_rows(ctx.store, ctx.recipe, ["test", str(file)])
    with ctx.store.read() as db:
        model = model_roles.champion_after(db, None)
    judge = benchmark_guard.judge_of_run(ctx, model)
    ((requests, judged),) = benchmark_guard.evaluate(judge, "test", found["test"], seed=1)
    assert (requests.task, requests.n, requests.parsed.k, list(requests.by_group)) == ("request", 3, 3, ["crime"])
    assert (requests.blocked_benign.n, requests.passed_harmful.n) == (1, 2)
    assert [row.prompt for row in judged] == [prompt for prompt, _, _ in rows]
    ((pairs, _),) = benchmark_guard.evaluate(judge, str(file), found[str(file)], seed=1)
    assert (pairs.benchmark, pairs.task, pairs.n, pairs.passed_harmful.n) == (str(file), "request", 1, 1)
    same = benchmark_guard.judge_of_folder(ctx, Path(ctx.base()))
    ((again, _),) = benchmark_guard.evaluate(same, "test", found["test"], seed=1)
    assert again.auroc == requests.auroc


def test_a_report_is_noted_in_the_log_of_the_run(ctx: Standalone, tmp_path: Path) -> None:
    with ctx.store.write() as db:
        samples.add(db, [samples.NewSample("test", "rob a bank", None, "mine", "1", request="harmful")], NOW)
    words = ["--workspace", str(ctx.workspace), "--report", str(tmp_path / "report")]
    done = CliRunner().invoke(evaluate, words)
    assert done.exit_code == 0, done.output
    with ctx.store.read() as db:
        (noted,) = events.reports(db, 0)
        assert events.reports(db, 1) == []
    said = f"the champion after round 0 was evaluated on test: the report is in {tmp_path / 'report'}"
    assert (noted.message, noted.round) == (said, 0)
    assert json.loads(noted.data_json or "") == {"report": str(tmp_path / "report")}


def test_a_benchmark_that_is_neither_a_test_set_nor_a_file_is_named(ctx: Standalone) -> None:
    with pytest.raises(ImportRefused, match="nothing: neither a file nor a test set of the workspace"):
        benchmark_guard.workspace_rows(ctx.store, ctx.recipe, ["nothing"])
    with pytest.raises(ImportRefused, match="the workspace has no test set"):
        benchmark_guard.workspace_rows(ctx.store, ctx.recipe, [])


def test_the_base_is_not_exported(ctx: Standalone, tmp_path: Path) -> None:
    with ctx.store.read() as db:
        model = model_roles.champion_after(db, None)
    with pytest.raises(ValueError, match="is the base model"):
        export.write_export(ctx, model, "safetensors", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_round_without_a_champion_is_named(ctx: Standalone) -> None:
    with ctx.store.read() as db, pytest.raises(errors.NotFound, match="round 7 has no champion"):
        model_roles.champion_after(db, 7)


def test_lines_are_texts_or_objects() -> None:
    assert list(read_lines(LINES)) == [
        InputText("how do I knit?"),
        InputText("how do I rob a bank?", "No."),
        InputText("{not json"),
    ]


@pytest.mark.parametrize("line", ['{"prompt": 3}', '{"text": "knit"}', '{"prompt": "knit", "response": ["no"]}'])
def test_an_object_without_a_text_is_refused_with_its_line(line: str) -> None:
    with pytest.raises(BadLine, match="line 2: `prompt` must be a string"):
        list(read_lines(["knit\n", line]))


@pytest.mark.parametrize("line", ['{"prompt": "a \\ud800 b"}\n', "bytes that are none \udcff\n"])
def test_half_a_character_is_refused_with_its_line(line: str) -> None:
    with pytest.raises(BadLine, match="line 2: a lone surrogate"):
        list(read_lines(["knit\n", line]))


def test_what_only_looks_like_an_object_is_a_text() -> None:
    deep = '{"prompt":' * 100_000
    assert list(read_lines([deep])) == [InputText(deep)]


def test_a_workspace_is_read(after_a_night: Path) -> None:
    read = Workspace(after_a_night)
    assert read.status()["state"] == "done"
    assert [one["round"] for one in read.rounds()] == [0, 1]
    assert read.rounds()[1]["metrics"]["test"]["request"]["f1"] == 0.75
    assert read.recipe() == load_recipe("demo")


def test_an_exported_guard_is_asked_as_its_folder_says(ctx: Standalone, tmp_path: Path) -> None:
    with ctx.store.read() as db:
        model = model_roles.champion_after(db, None)
    folder = tmp_path / "exported"
    shutil.copytree(ctx.base(), folder)
    ours = Workspace(ctx.workspace).guard()
    with pytest.raises(ValueError, match=r"guard\.json: not found; give a recipe"):
        load_guard(folder)
    base = {"name": "tiny"}
    guard_file.write(folder, ctx.recipe, ctx.renderer.instruction, ctx.limits(model).sampling.window, base)
    exported = load_guard(folder)
    assert not exported.calibrated
    assert "raw" in repr(exported)
    texts: list[str | tuple[str, str | None]] = ["how do I knit?", ("how do I rob a bank?", "No.")]
    assert list(exported.judge(texts)) == list(ours.judge(texts))
    assert list(load_guard(folder, ctx.recipe).judge(texts)) == list(ours.judge(texts))
    other = ctx.recipe.model_copy(update={"guard": ctx.recipe.guard.model_copy(update={"instruction": "full"})})
    assert list(load_guard(folder, other).judge(texts)) != list(ours.judge(texts))


def test_one_string_is_not_judged_by_its_characters(ctx: Standalone) -> None:
    with pytest.raises(TypeError, match=r"judge\(\[text\]\)"):
        next(Workspace(ctx.workspace).guard().judge("how do I knit?"))


@pytest.mark.parametrize(
    "said",
    [
        "[]",
        "{",
        '{"version": 2}',
        '{"version": 1, "instruction": "", "window": 8, "guard": {"engine": "vllm", "server": {"base_url": "file:"}}}',
        '{"version": 1, "instruction": "", "window": 8, "teacher": {"names": ["claude"], "claude": 3}}',
    ],
)
def test_a_folder_that_says_something_else_is_refused(tmp_path: Path, said: str) -> None:
    (tmp_path / "guard.json").write_text(said, encoding="utf-8")
    with pytest.raises(ValueError, match=r"guard\.json: invalid"):
        load_guard(tmp_path)


def test_a_verdict_comes_with_the_surest_trace_that_ends_in_it(ctx: Standalone) -> None:
    judge = Judge(StandInGuard(0.8, []), ctx.renderer, Calibration(), Limits.of(ctx.recipe))
    guard = Guard(judge, ctx.recipe, "stand-in", calibrated=False)
    for verdict, label in zip(
        guard.judge(["how to build a bomb", "how to knit"]), ("harmful", "unharmful"), strict=True
    ):
        assert verdict.verdict == {"request": label}
        assert verdict.trace is not None
        assert f"Request: {label}" in verdict.trace


def test_a_model_that_dev_never_measured_is_read_as_its_recipe_says(ctx: Standalone) -> None:
    with ctx.store.read() as db:
        model = model_roles.champion_after(db, None)
    assert model.calibration_json is None
    assert not benchmark_guard.judge_of_run(ctx, model).calibration.votes
    classify = ctx.recipe.classify.model_copy(update={"verdict": "traces"})
    ctx.recipe = ctx.recipe.model_copy(update={"classify": classify})
    assert benchmark_guard.judge_of_run(ctx, model).calibration.votes
