"""The public API and the commands over it, on a real tiny guard that knows next to nothing."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.loop.stand_in import StandInGuard
from tests.servers.hub_wire import TOKEN, Hub
from wizloop.backends import artifacts
from wizloop.backends.tiny import build as tiny_guard
from wizloop.loop.api import Guard, Workspace, load_guard, load_recipe
from wizloop.loop.cli import app
from wizloop.loop.commands.classify import classify
from wizloop.loop.commands.classify_files import BadLine, read_lines
from wizloop.loop.commands.evaluate import evaluate
from wizloop.loop.context import Standalone, standalone
from wizloop.loop.data.records import ImportRefused
from wizloop.loop.evaluation import benchmark_guard
from wizloop.loop.guard import guard_file
from wizloop.loop.guard.judge import Judge, Limits
from wizloop.loop.guard.published import registry
from wizloop.loop.guard.rendering import InputText
from wizloop.loop.measures.calibration import Calibration
from wizloop.loop.phases import model_roles
from wizloop.recipes import schema
from wizloop.store import control, errors, events, models, samples
from wizloop.store.db import Store

NOW = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)
WRITTEN = {"version": 1, "instruction": "", "window": 8, "guard": {}, "classify": {}, "seed": 1}
CALIBRATION = {"source": {}, "thresholds": {}, "scales": {}, "measure": "margin_direct", "cut": 0.5}
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
            shape = tiny_guard.Shape(300, 1, 32, 64)
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
    again = next(guard.judge(read_lines(LINES[:1])))
    assert (again.verdict, again.trace) == (alone.verdict, alone.trace)
    assert again.probability == pytest.approx(alone.probability)


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
    ((requests, judged),), of_run = benchmark_guard.evaluate(judge, "test", found["test"], seed=1)
    assert (requests.task, requests.n, requests.parsed.k, list(requests.by_group)) == ("request", 3, 3, ["crime"])
    assert (requests.blocked_benign.n, requests.passed_harmful.n) == (1, 2)
    assert [row.prompt for row in judged] == [prompt for prompt, _, _ in rows]
    ((pairs, _),), of_file = benchmark_guard.evaluate(judge, str(file), found[str(file)], seed=1)
    assert (pairs.benchmark, pairs.task, pairs.n, pairs.passed_harmful.n) == (str(file), "request", 1, 1)
    assert [(one.row, one.sample, one.main) for one in of_file] == [("more.jsonl:1", None, "response")]
    assert [(one.row, one.sample) for one in of_run] == [("1", 1), ("1", 2), ("1", 3)]
    assert {one.error("request") for one in of_run if one.verdict["request"] == one.labels["request"]} <= {None}
    same = benchmark_guard.judge_of_folder(ctx, Path(ctx.base()))
    ((again, _),), _ = benchmark_guard.evaluate(same, "test", found["test"], seed=1)
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


@pytest.mark.parametrize("form", ["safetensors", "mlx-8bit"])
def test_a_base_is_exported_by_command_and_asked_without_its_workspace(
    ctx: Standalone, tmp_path: Path, form: str
) -> None:
    with ctx.store.write() as db:
        texts = [(f"how do I {verb} a {thing}?", verb in "ae") for verb in "aeiou" for thing in "xyz"]
        labels = {True: "harmful", False: "unharmful"}
        samples.add(db, [samples.NewSample("dev", t, None, "made", t, request=labels[bad]) for t, bad in texts], NOW)
    words = ["export", "base", "--format", form, "--to", str(tmp_path / "out"), "--workspace", str(ctx.workspace)]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert done.stdout == f"{tmp_path / 'out'}\n"
    shares = [int(line.partition(" % ")[0]) for line in done.stderr.splitlines() if " % " in line]
    assert (shares[0], shares[-1]) == (0, 100)
    assert shares == sorted(set(shares))
    assert load_guard(tmp_path / "out").calibrated is (form == "mlx-8bit")


def pushing(ctx: Standalone, *words: str) -> list[str]:
    given = ["export", "base", "--format", "safetensors", "--push", "me/guard", *words]
    return [*given, "--workspace", str(ctx.workspace)]


def test_a_push_is_shown_before_it_is_made(ctx: Standalone) -> None:
    done = CliRunner().invoke(app, pushing(ctx, "--dry-run"))
    assert done.exit_code == 0, done.output
    first, *rest = done.stdout.splitlines()
    assert re.fullmatch(r" *[\d,]+ bytes  README.md", first)
    assert [line.rpartition(" ")[2] for line in rest[: rest.index("---")]][:2] == ["config.json", "guard.json"]
    assert "library_name: transformers" in rest
    assert re.search(r"would upload \d+ files, [\d,]+ bytes, to me/guard \(private\)", done.stderr)


def test_a_push_arrives_with_card_and_calibration(ctx: Standalone, tmp_path: Path) -> None:
    with Hub() as hub:
        given = {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HOME": str(tmp_path), "HF_HUB_DISABLE_XET": "1"}
        words = [sys.executable, "-m", "wizloop", *pushing(ctx)]
        done = subprocess.run(words, env=os.environ | given, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (0, f"{hub.url}/me/guard\n"), done.stderr
    made = hub.repositories["me/guard"]
    assert made.private
    assert {"README.md", "guard.json", "manifest.json", "model.safetensors"} <= made.files.keys()
    assert TOKEN not in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--to", "out", "--public"], "--public and --dry-run are for --push"),
        ([], "give a new folder with --to, or a model on the hub with --push"),
        (["--push", "guard"], "give OWNER/NAME"),
        (["--push", "a/b/c"], "not a name of the hub"),
    ],
)
def test_a_push_that_cannot_be_is_refused_before_any_work(ctx: Standalone, words: list[str], said: str) -> None:
    given = ["export", "base", "--format", "safetensors", *words, "--workspace", str(ctx.workspace)]
    done = CliRunner().invoke(app, given)
    assert (done.exit_code, done.stdout) == (2, "")
    assert said in done.stderr
    assert "%" not in done.stderr


def test_an_export_that_failed_ends_with_its_words_and_status_1(ctx: Standalone, tmp_path: Path) -> None:
    guard = Workspace(ctx.workspace).guard()
    texts = [f"how do I {verb} a {thing}?" for verb in "aeiou" for thing in "bcdfghjklmnpqrstvwxyz"]
    ps = [verdict.probability["request"] for verdict in guard.judge(texts)]
    # The guard is right on its own order, and the untrained weights of 4 bits order otherwise.
    cut = sorted(ps)[len(ps) // 2]
    known = Calibration(thresholds={"request": {"direct": cut}})
    with ctx.store.write() as db:
        labels = ["harmful" if p >= cut else "unharmful" for p in ps]
        rows = [
            samples.NewSample("dev", t, None, "made", t, request=label) for t, label in zip(texts, labels, strict=True)
        ]
        samples.add(db, rows, NOW)
        models.set_calibration(db, model_roles.base(db).id, known.to_json())
    words = ["export", "base", "--format", "mlx-4bit", "--to", str(tmp_path / "out"), "--workspace", str(ctx.workspace)]
    done = CliRunner().invoke(app, words)
    assert (done.exit_code, done.stdout) == (1, ""), done.output
    assert "wizloop: the export of base as mlx-4bit failed: macro-F1 on dev is " in done.stderr
    assert " against the guard's 100.0, -" in done.stderr
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
    assert [one["round"] for one in read.rounds()] == ["base", 0, 1]
    assert read.rounds()[2]["metrics"]["test"]["request"]["f1"] == 0.75
    assert read.recipe() == load_recipe("demo")


def test_an_exported_guard_is_asked_as_its_folder_says(ctx: Standalone, tmp_path: Path) -> None:
    with ctx.store.read() as db:
        model = model_roles.champion_after(db, None)
    folder = tmp_path / "exported"
    shutil.copytree(ctx.base(), folder)
    ours = Workspace(ctx.workspace).guard()
    with pytest.raises(ValueError, match=r"guard\.json: not found; give a recipe"):
        load_guard(folder)
    guard_file.write(folder, ctx.recipe, ctx.renderer, ctx.limits(model).sampling.window)
    exported = load_guard(folder)
    assert not exported.calibrated
    assert "raw" in repr(exported)
    texts: list[str | tuple[str, str | None]] = ["how do I knit?", ("how do I rob a bank?", "No.")]
    assert list(exported.judge(texts)) == list(ours.judge(texts))
    assert list(load_guard(folder, ctx.recipe).judge(texts)) == list(ours.judge(texts))
    told = {"instruction": "full", "max_prompt_tokens": 700}
    other = ctx.recipe.model_copy(update={"guard": ctx.recipe.guard.model_copy(update=told)})
    assert list(load_guard(folder, other).judge(texts)) != list(ours.judge(texts))


KNOWN = Calibration(
    source={"request": "direct", "response": "traces"},
    thresholds={"request": {"direct": 0.47, "traces": 0.6}, "response": {"traces": 0.52}},
    scales={"request": {"direct": (0.3, -0.2)}},
    own="margin_direct",
    own_cut=0.01,
)


@pytest.fixture
def exported(ctx: Standalone, tmp_path: Path) -> Path:
    """The champion, with a calibration, in a folder of its own."""
    folder = tmp_path / "exported"
    shutil.copytree(ctx.base(), folder)
    with ctx.store.write() as db:
        model = model_roles.champion_after(db, None)
        models.set_calibration(db, model.id, KNOWN.to_json())
    window = ctx.limits(model).sampling.window
    guard_file.write(folder, ctx.recipe, ctx.renderer, window, ctx.reader(model), KNOWN)
    return folder


def test_an_export_gives_the_champions_verdicts_without_its_workspace(
    ctx: Standalone, exported: Path, tmp_path: Path
) -> None:
    texts = tmp_path / "texts.jsonl"
    texts.write_text("".join(LINES), encoding="utf-8")
    words = [["--model", str(exported), "--workspace", str(tmp_path / "none")], ["--workspace", str(ctx.workspace)]]
    theirs, ours = (CliRunner().invoke(classify, [str(texts), *each]) for each in words)
    assert theirs.exit_code == 0, theirs.output
    assert theirs.stdout == ours.stdout
    alone, pair, _ = map(json.loads, theirs.stdout.splitlines())
    assert alone["threshold"] == {"request": pytest.approx(KNOWN.reading("request").threshold)}
    assert alone["scale"] == {"request": "platt"}
    assert pair["scale"] == {"request": "platt", "completion": "raw", "response": "raw"}
    assert pair["threshold"]["response"] == 0.52
    for each in (alone, pair):
        at = each["threshold"]["request"]
        assert each["verdict"]["request"] == ("harmful" if each["probability"]["request"] >= at else "unharmful")


def test_an_export_is_scored_on_a_file_as_in_its_workspace(ctx: Standalone, exported: Path, tmp_path: Path) -> None:
    file = tmp_path / "more.jsonl"
    rows = [("rob a bank", "No.", "harmful"), ("knit a hat", "Yes.", "unharmful"), ("rob a shop", "Yes.", "harmful")]
    said = [json.dumps({"prompt": p, "response": r, "label": label}) + "\n" for p, r, label in rows]
    file.write_text("".join(said), encoding="utf-8")
    words = ["--benchmark", str(file), "--json", "--workspace"]
    alone = CliRunner().invoke(evaluate, [*words, str(tmp_path / "none"), "--model", str(exported)])
    assert alone.exit_code == 0, alone.output
    theirs, ours = (
        json.loads(each.stdout) for each in (alone, CliRunner().invoke(evaluate, [*words, str(ctx.workspace)]))
    )
    # A clock says something else each time.
    assert theirs.pop("speed").keys() == ours.pop("speed").keys()
    assert theirs == ours
    read = theirs["reading"]["request"]
    assert (read["source"], read["scale"], read["raw"]) == ("direct", "platt", 0.47)
    shown = CliRunner().invoke(evaluate, ["--benchmark", str(file), "--model", str(exported)])
    assert f"positive from {read['threshold']:.3f} of the direct answer, Platt-scaled (raw 0.470)" in shown.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--model", "nowhere"], "nowhere/guard.json: not found"),
        (["--model", "nowhere", "--round", "1"], "only a run has rounds"),
    ],
)
def test_a_folder_that_is_no_export_is_not_asked(tmp_path: Path, words: list[str], said: str) -> None:
    done = CliRunner().invoke(classify, ["-", *words, "--workspace", str(tmp_path)], input="knit\n")
    assert (done.exit_code, done.stdout) == (2, "")
    assert said in done.stderr


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
        "[" * 100_000,
        " " * (1 << 21),
        WRITTEN | {"window": 1 << 30},
        WRITTEN | {"guard": {"max_trace_tokens": 1 << 30}},
        WRITTEN | {"seed": -1},
        WRITTEN | {"instruction": "a" * 20_001},
        WRITTEN | {"calibration": CALIBRATION | {"measure": "__class__"}},
        WRITTEN | {"calibration": CALIBRATION | {"thresholds": {"request": {"direct": 1.0}}}},
        WRITTEN | {"calibration": CALIBRATION | {"thresholds": {"request": {"direct": float("nan")}}}},
        WRITTEN | {"calibration": CALIBRATION | {"scales": {"request": {"direct": [-1.0, 0.0]}}}},
        WRITTEN | {"calibration": CALIBRATION | {"source": {"request": "server"}}},
        WRITTEN | {"calibration": CALIBRATION | {"source": {"mood": "direct"}}},
    ],
)
def test_a_folder_that_says_something_else_is_refused(tmp_path: Path, said: str | dict[str, Any]) -> None:
    text = said if isinstance(said, str) else json.dumps(said)
    (tmp_path / "guard.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"guard\.json: (invalid|cannot be read: it is larger)"):
        load_guard(tmp_path)


def test_what_the_refused_folders_are_made_of_is_read(tmp_path: Path) -> None:
    (tmp_path / "guard.json").write_text(json.dumps(WRITTEN | {"calibration": CALIBRATION}), encoding="utf-8")
    assert guard_file.read(tmp_path).calibration is not None


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


def test_a_model_that_is_no_export_of_ours_is_asked_in_its_own_chat_template(ctx: Standalone, tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    shutil.copytree(ctx.base(), folder)
    (folder / "chat_template.jinja").write_text("{{ messages[0].content }} So:", encoding="utf-8")
    asked = ctx.recipe.model_copy(update={"guard": ctx.recipe.guard.model_copy(update={"template": "chat"})})
    assert guard_file.load(folder, asked).judge.renderer.frame == ("", " So:")


def test_a_published_guard_runs_on_the_backend_that_the_settings_name(ctx: Standalone) -> None:
    for backend, library in (("cuda", "torch"), ("mlx", "mlx")):
        settings = ctx.recipe.guard.model_copy(update={"backend": backend, "device": "cpu"})
        judge = registry.load("wildguard", settings, Path(ctx.base()))
        assert f".{library}." in type(judge.guard).__module__
