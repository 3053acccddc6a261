"""What prepare keeps of the rendering: a run is asked in one way, whatever day it is and whatever its base becomes."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from tests import byte_tokenizer
from tests.backends import chat_templates as forms
from tests.loop.branching import Branch, run
from tests.loop.small_night import NOW, Night, recipe
from wizloop.backends.guard_types import BackendError
from wizloop.loop.context import Context, standalone
from wizloop.loop.evaluation import benchmark_guard
from wizloop.loop.guard import guard_file
from wizloop.loop.guard.backend import Mlx
from wizloop.loop.guard.judge import renderer_of
from wizloop.loop.guard.kept_rendering import OtherRendering
from wizloop.loop.guard.rendering import Renderer
from wizloop.loop.measures.gate_bound import GateBound
from wizloop.loop.phases import prepare
from wizloop.recipes import policies
from wizloop.recipes.schema import Recipe
from wizloop.recipes.sections import TinyGuard
from wizloop.store import events, exports, steps, tables


def chatting(base: Path, **guard: Any) -> Recipe:
    return recipe(
        guard={"base": str(base), "template": "chat", **guard},
        gate={"margin": 1.0},
        export={"formats": ["safetensors"]},
    )


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base whose template prints the time, so that no two renderings are alike."""
    return byte_tokenizer.save(tmp_path_factory.mktemp("base"), forms.LLAMA, bos="<s>")


@pytest.fixture(scope="module")
def night(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Night:
    night = Night(tmp_path_factory.mktemp("night") / "a", chatting(base))
    run(night, 0, "import", "export")
    return night


def record(night: Night) -> dict[str, Any]:
    with night.store.read() as db:
        first = steps.get_round(db, 0)
    assert first is not None
    return first.record


def put(night: Night, record: Mapping[str, Any]) -> None:
    """Overwrite the record of round 0, as no phase would."""
    with night.store.write() as db:
        db.execute(update(tables.rounds).where(tables.rounds.c.number == 0).values(record=record))


def context(night: Night) -> Context:
    return Context(night.store, night.folder, night.recipe, 1, "classify", lambda: NOW, lambda: False)


def said(night: Night, level: str) -> list[str]:
    with night.store.read() as db:
        return [one.message for one in events.page(db, 0, 1000) if one.level == level]


def test_the_first_rendering_is_kept_and_every_later_prompt_is_in_it(night: Night) -> None:
    kept = record(night)
    before, after = kept["frame"]
    assert before.startswith("<s><|system|>Today Date: ")
    assert context(night).renderer == Renderer(policies.instruction(), frame=(before, after))
    assert kept["rendering"] == context(night).renderer.hash
    shared = f"{before}{policies.instruction()}\n\n".encode()
    lessons = [lesson for job in night.backend.jobs for lesson in job.lessons]
    assert {bytes(lesson.prompt.shared) for lesson in lessons} == {shared}
    assert all(f"\n\n{after}".encode() in bytes(lesson.prompt.body) for lesson in lessons)


def test_what_was_decided_for_the_template_is_on_the_runs_log(night: Night, base: Path) -> None:
    told = f"The chat template of {base} is kept for the run: it prints today's date: the date of the first start is "
    assert f"{told}kept." in said(night, "info")


def test_an_export_is_asked_as_it_was_trained_and_not_by_its_own_template(night: Night, base: Path) -> None:
    with night.store.read() as db:
        (export,) = exports.of_round(db, 0)
    folder = night.folder / export.path
    assert guard_file.read(folder).frame == tuple(record(night)["frame"])
    byte_tokenizer.save(folder, forms.LLAMA, bos="<s>")
    settings = night.recipe.guard
    assert guard_file.frame_of(folder, settings) == tuple(record(night)["frame"])
    ctx = standalone(night.store, night.folder, night.recipe, "evaluate", NOW)
    ctx.given = night.backend
    assert benchmark_guard.judge_of_folder(ctx, folder).renderer == ctx.renderer
    assert guard_file.frame_of(base, settings) is None


def test_what_the_gates_can_exclude_is_kept_and_said_before_anything_is_taught(night: Night) -> None:
    bound = GateBound(**record(night)["gate_bound"])
    assert (bound.gates, bound.prompts) == (night.recipe.rounds + 1, 40)
    assert bound.sentence(night.recipe.gate.margin) in said(night, "info")


@pytest.mark.parametrize("frame", [["<|user|>"], "xyz", [1, 2], ["a", "b", "c"]])
def test_a_frame_that_is_not_two_texts_is_refused(night: Night, tmp_path: Path, frame: object) -> None:
    guard_file.write(tmp_path, night.recipe, context(night).renderer, 16)
    content = json.loads((tmp_path / "guard.json").read_text()) | {"frame": frame}
    (tmp_path / "guard.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"guard.json: invalid"):
        guard_file.read(tmp_path)


def test_an_export_says_whether_an_opening_ends_the_turn(night: Night, tmp_path: Path) -> None:
    for in_turn in (True, False):
        guard_file.write(tmp_path, night.recipe, replace(context(night).renderer, opening_in_turn=in_turn), 16)
        assert guard_file.read(tmp_path).opening_in_turn is in_turn


def test_an_export_of_a_version_without_frames_is_asked_as_that_version_did(night: Night, tmp_path: Path) -> None:
    byte_tokenizer.save(tmp_path, forms.QWEN)
    guard_file.write(tmp_path, night.recipe, context(night).renderer, 16)
    content = json.loads((tmp_path / "guard.json").read_text())
    del content["frame"]
    (tmp_path / "guard.json").write_text(json.dumps(content))
    assert guard_file.frame_of(tmp_path, night.recipe.guard) == ("<|user|>", "<|end|><|assistant|>\n")


def test_a_model_without_a_guard_json_is_asked_by_a_recipe_in_its_own_template(base: Path, tmp_path: Path) -> None:
    byte_tokenizer.save(tmp_path, forms.QWEN)
    settings = chatting(tmp_path).guard
    asked = renderer_of(settings, str(tmp_path), "Judge.", guard_file.frame_of(tmp_path, settings))
    assert asked.frame == ("<|user|>", "<|end|><|assistant|>\n<think>\n\n</think>\n\n")
    (tmp_path / "config.json").unlink(missing_ok=True)
    with pytest.raises(ValueError, match=r"not a complete model \(no config.json\): export safetensors"):
        guard_file.load(tmp_path, chatting(tmp_path))


def test_an_export_says_nothing_of_how_a_tiny_guard_was_built(night: Night, tmp_path: Path) -> None:
    guard_file.write(tmp_path, recipe(guard={"tiny": {"width": 64}}), context(night).renderer, 16)
    assert guard_file.read(tmp_path).guard.tiny == TinyGuard()


def test_a_guard_without_an_instruction_has_none(tmp_path: Path) -> None:
    night = Night(tmp_path / "a", recipe(guard={"instruction": "none"}))
    run(night, 0, "import", "prepare")
    assert context(night).renderer.instruction == ""
    assert (
        json.loads((night.folder / "models/base/config.json").read_text())["epochs"] == night.recipe.guard.tiny.epochs
    )


def test_another_rendering_of_the_kept_texts_is_refused_at_every_start(night: Night, tmp_path: Path) -> None:
    later = Branch(night, tmp_path / "a")
    context(later).check_rendering()
    put(later, record(later) | {"rendering": "ab" * 32})
    with pytest.raises(OtherRendering, match=r"\(sha256 abababababab then, [0-9a-f]{12} now\): use the version that"):
        context(later).check_rendering()


def test_a_run_that_is_not_prepared_has_no_rendering_to_compare(tmp_path: Path) -> None:
    night = Night(tmp_path / "a", recipe(guard={"instruction": "none.md"}))
    context(night).check_rendering()


@pytest.mark.parametrize("template", ["raw", "chat"])
def test_a_run_that_an_earlier_version_prepared_goes_on_in_its_own_words(
    night: Night, tmp_path: Path, template: str
) -> None:
    base = byte_tokenizer.save(tmp_path / "base", forms.QWEN)
    former = Branch(night, tmp_path / "a", chatting(base, template=template))
    frame = ("<|user|>", "<|end|><|assistant|>\n") if template == "chat" else ("", "")
    asked = Renderer(policies.former_instruction(), frame=frame)
    put(former, {"rendering": asked.hash})
    reading = standalone(former.store, former.folder, former.recipe, "classify", NOW)
    assert reading.renderer == asked
    assert record(former) == {"rendering": asked.hash}
    context(former).check_rendering()
    byte_tokenizer.save(base, forms.DEEPSEEK)
    assert context(former).renderer == asked
    assert record(former) == {"rendering": asked.hash, "frame": list(frame), "instruction": asked.instruction}
    assert not any("rendering" in told or "chat template gives" in told for told in said(former, "warn"))


def test_a_former_run_whose_template_prints_the_date_keeps_todays_and_is_told(
    night: Night, base: Path, tmp_path: Path
) -> None:
    former = Branch(night, tmp_path / "a")
    put(former, {"rendering": "cd" * 32})
    first = context(former).renderer
    assert first == context(former).renderer
    assert record(former)["rendering"] == first.hash
    (told,) = [one for one in said(former, "warn") if one.startswith("The chat template gives other text")]
    assert f"(sha256 cdcdcdcdcdcd then, {first.hash[:12]} now)" in told


def test_a_prepare_that_was_interrupted_renders_anew(base: Path, tmp_path: Path) -> None:
    night = Night(tmp_path / "a", chatting(base))
    run(night, 0, "import", "prepare")
    first = record(night)
    night.phase(0, "prepare")
    assert record(night)["frame"] != first["frame"]
    assert record(night)["rendering"] == context(night).renderer.hash


def test_a_template_that_cannot_be_used_ends_prepare_before_anything_is_kept(tmp_path: Path) -> None:
    night = Night(tmp_path / "a", chatting(byte_tokenizer.save(tmp_path / "base", forms.TWICE)))
    night.phase(0, "import")
    with pytest.raises(BackendError, match="shows the user's turn 2 times"):
        night.phase(0, "prepare")
    assert "frame" not in record(night)


def test_the_kept_text_of_former_runs_is_the_one_that_they_were_given() -> None:
    digest = hashlib.sha256(policies.former_instruction().encode()).hexdigest()
    assert digest == "7d0a2b46dd4b68f78c460ae65788b7987663370a37b1d8414cd99e20503dd0e3"


def test_a_base_is_refused_whose_window_the_longest_text_leaves(tmp_path: Path) -> None:
    shape = {"model_type": "gemma2", "sliding_window": 64, "num_hidden_layers": 2, "hidden_size": 64, "vocab_size": 99}
    base = byte_tokenizer.save(tmp_path / "base")
    (base / "config.json").write_text(json.dumps(shape), encoding="utf-8")
    lengths = {"max_prompt_tokens": 40, "max_trace_tokens": 30}
    night = Night(tmp_path / "a", recipe(guard={"base": str(base), "instruction": "none", **lengths}))
    night.phase(0, "import")
    ctx = Context(night.store, night.folder, night.recipe, 0, "prepare", lambda: NOW, lambda: False, given=Mlx())
    with pytest.raises(BackendError, match="trained with a window of 64 tokens"):
        prepare.run(ctx)
