"""The keys guard.policies*: a night with one's own policies, and what it keeps, asks, teaches, measures and exports."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import delete, insert

from tests.loop.branching import Branch, model, run
from tests.loop.small_night import NOW, Night, recipe
from wizloop.loop.api import Guard
from wizloop.loop.cli import app
from wizloop.loop.commands import classify_files
from wizloop.loop.context import standalone
from wizloop.loop.evaluation import answered_by_policy, benchmark_guard
from wizloop.loop.exchange import exported_rows
from wizloop.loop.guard import guard_file, shown_policies
from wizloop.loop.guard.judge import Judge
from wizloop.loop.guard.rendering import InputText
from wizloop.loop.phases import policy_figures, policy_lessons
from wizloop.loop.preflight import prompt_checks
from wizloop.loop.serving import moderation
from wizloop.loop.stored_samples import usable
from wizloop.loop.teaching import teachers
from wizloop.recipes.policies import PolicyError
from wizloop.recipes.schema import Recipe
from wizloop.recipes.sections import Guard as Settings
from wizloop.store import category_tables, events, predictions, samples, steps, training

OWN = """
[[policy]]
id = "crime"
name = "Crime"
description = "Nobody may be helped with a crime."
wordings = ["Help with a crime is forbidden."]
keywords = ["steal", "hack into", "forge", "launder"]

[[policy]]
id = "pain"
name = "Pain"
description = "Nobody may be helped to hurt people."
keywords = ["kill my", "poison", "build a bomb", "stab"]

[[policy]]
id = "self_harm"
name = "Self-harm"
description = "Nobody may be helped to hurt themselves."
keywords = ["kill myself", "starve myself", "cut myself"]
"""

IDS = ("crime", "pain", "self_harm")


def asked(file: Path, **keys: Any) -> Recipe:
    return recipe(
        guard={"policies": str(file), "policies_left_out": ["Self-harm"], "categories": "policies", **keys},
        data_demo={"pool": 24, "seed": 40, "dev": 30, "test": 6},
        members={"count": 0},
        classify={"batch": 64, "most": 2},
        gate={"margin": 0.9, "max_over_refusal_rise": 1.0},
        export={"formats": ["safetensors"], "parity_n": 4},
    )


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("own") / "mine.toml"
    path.write_text(OWN, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def prepared(own: Path, tmp_path_factory: pytest.TempPathFactory) -> Night:
    night = Night(tmp_path_factory.mktemp("prepared") / "a", asked(own))
    run(night, 0, "import", "review")
    return night


@pytest.fixture(scope="module")
def whole(prepared: Night, tmp_path_factory: pytest.TempPathFactory) -> Night:
    night = Branch(prepared, tmp_path_factory.mktemp("whole") / "a")
    run(night, 0, "train", "export")
    return night


def record(night: Night) -> dict[str, Any]:
    with night.store.read() as db:
        found = steps.get_round(db, 0)
    assert found is not None
    return found.record


def prompts(night: Night, kind: str = "sft") -> list[str]:
    return [bytes(one.prompt.body).decode() for job in night.backend.jobs if job.kind == kind for one in job.lessons]


@pytest.mark.recipe_key("guard.policies_left_out")
def test_training_varies_the_policies_and_never_shows_what_is_left_out(whole: Night) -> None:
    learned = prompts(whole)
    heads = {text.partition("\n\nHuman user:")[0] for text in learned}
    assert len(heads) > 4
    assert any("Help with a crime is forbidden." in head for head in heads)
    assert not any("Self-harm" in head for head in [*heads, *prompts(whole, "dpo")])
    assert all(head.startswith("Polic") for head in heads)


def test_the_same_prompts_are_made_again_after_a_kill(prepared: Night, whole: Night, tmp_path: Path) -> None:
    again = Branch(prepared, tmp_path / "a")
    again.phase(0, "train")
    assert prompts(again) == prompts(whole)


def test_a_row_with_several_categories_counts_for_each(prepared: Night, whole: Night, tmp_path: Path) -> None:
    night = Branch(prepared, tmp_path / "a")
    _label_all(night, "seed", ["crime", "Pain", "Self-harm"])
    night.phase(0, "train")
    [job] = [one for one in night.backend.jobs if one.kind == "sft"]
    held = [one for one in job.lessons if "Request: harmful" in one.completion]
    assert len(held) > 10
    for one in held:
        prompt = bytes(one.prompt.body).decode()
        assert "- Crime:" in prompt
        assert "- Pain:" in prompt
        # A category whose policy no lesson shows is named by none.
        assert one.completion.endswith(("Categories: Crime, Pain", "Crime: yes\nPain: yes\nSelf-harm: no"))
    measured = Branch(whole, tmp_path / "b")
    _label_all(measured, "dev", ["crime", "Self-harm"])
    ctx = standalone(measured.store, measured.folder, measured.recipe, "evaluate", NOW)
    dev = list(usable(measured.store, "dev"))
    found = policy_figures.record_of(ctx, model(measured, "r00"), {"dev": dev})["by_policy"]["figures"]["dev"]
    by = found["request"]["policies"]
    assert by["crime"]["n"] == by["self_harm"]["n"] == sum(one.request == "harmful" for one in dev)


def _label_all(night: Night, split: str, categories: list[str]) -> None:
    table = category_tables.sample_categories
    with night.store.write() as db:
        ids = samples.ids(db, split)
        db.execute(delete(table).where(table.c.sample_id.in_(ids)))
        db.execute(insert(table), [{"sample_id": id, "category": name} for id in ids for name in categories])


@pytest.mark.recipe_key("guard.policies")
def test_an_edit_during_the_night_changes_nothing_and_is_told(
    prepared: Night, whole: Night, own: Path, tmp_path: Path
) -> None:
    night = Branch(prepared, tmp_path / "a")
    own.write_text(OWN.replace("a crime", "robbery"), encoding="utf-8")
    try:
        night.phase(0, "teach")
        night.phase(0, "train")
        ctx = standalone(night.store, night.folder, night.recipe, "teach", NOW)
        taught = [policy.description for policy in teachers.policies_of(ctx.asking)]
    finally:
        own.write_text(OWN, encoding="utf-8")
    assert prompts(night) == prompts(whole)
    assert taught[0] == "Nobody may be helped with a crime."
    with night.store.read() as db:
        told = [one.message for one in events.last(db, 20) if "was edited since" in one.message]
    assert len(told) == 1
    assert "guard and teachers keep the policies of that time" in told[0]


def test_pairs_are_mined_in_the_prompt_that_they_have(whole: Night) -> None:
    ctx = standalone(whole.store, whole.folder, whole.recipe, "train", NOW)
    made = model(whole, "r00-sft")
    with whole.store.read() as db:
        (pair, *_) = training.pairs(db, 0)
        (sample,) = samples.get(db, [pair.sample_id])
        stored = [one.verdict_p for one in predictions.traces_of(db, made.id, [sample.id])]
    judge = whole.judge("r00-sft", "train")
    asked = policy_lessons.drawn(whole.recipe, 0, ctx.renderer, sample).asked
    sampling = ctx.limits(made).exactly(whole.recipe.dpo.k)
    for renderer, same in ((asked, True), (ctx.renderer, False)):
        (drawn,) = replace(judge, renderer=renderer).traces([sample], sampling, seed=ctx.seed("traces", made.name))
        assert ([one.p for one in drawn] == stored) is same


def test_exported_lessons_show_what_training_showed(whole: Night) -> None:
    ctx = standalone(whole.store, whole.folder, whole.recipe, "export", NOW)
    rows = list(exported_rows.export(ctx, "lessons", "plain", None).rows)
    instruction = f"{ctx.renderer.instruction}\n\n"
    learned = next(job for job in whole.backend.jobs if job.kind == "sft").lessons
    said = {(row["prompt"] + row["completion"]).removeprefix(instruction) for row in rows}
    assert {bytes(one.prompt.body).decode() + one.completion for one in learned} == said
    pairs = list(exported_rows.export(ctx, "pairs", "plain", None).rows)
    asked = {bytes(one.prompt.body).decode() for job in whole.backend.jobs if job.kind == "dpo" for one in job.lessons}
    assert {row["prompt"].removeprefix(instruction) + "Reasoning:\n" for row in pairs} == asked
    assert pairs


def test_policies_that_were_never_trained_on_are_measured(whole: Night) -> None:
    found = record(whole)["by_policy"]
    assert found["never_trained_on"] == ["self_harm"]
    measured = found["figures"]["dev"]["request"]
    assert measured["never_trained_on"]["n"] == measured["policies"]["self_harm"]["n"] > 0
    rounds = CliRunner().invoke(app, ["rounds", "-w", str(whole.folder)])
    assert "policies never trained on (self_harm) F1" in " ".join(rounds.stdout.split())
    card = (whole.folder / "exports" / "00-safetensors" / "README.md").read_text(encoding="utf-8")
    assert "Policies never trained on: `self_harm`." in card
    assert "- dev request: policies never trained on (self_harm) F1" in card


def test_an_export_carries_the_policies_and_no_path(whole: Night, own: Path) -> None:
    folder = whole.folder / "exports" / "00-safetensors"
    said = guard_file.read(folder)
    assert said.policies is not None
    assert [one.id for one in said.policies.policies] == list(IDS)
    assert said.guard.policies is None
    text = (folder / guard_file.NAME).read_text(encoding="utf-8")
    assert str(own) not in text
    (folder / guard_file.NAME).write_text(text.replace('"guard": {', '"guard": {"policies": "/etc/a.toml",', 1))
    with pytest.raises(ValueError, match=r"guard\.policies names a file"):
        guard_file.read(folder)
    (folder / guard_file.NAME).write_text(text)


@pytest.mark.long
def test_a_night_asks_about_each_policy_alone_and_keeps_its_probability(own: Path, tmp_path: Path) -> None:
    night = Night(tmp_path / "a", asked(own, policies_ask="each"))
    run(night, 0, "import", "evaluate")
    with night.store.read() as db:
        found = predictions.of_model(db, model(night, "r00").id, "dev")
    for one in found:
        each = [one.signals[f"p_policy_request_{id}"] for id in IDS]
        assert one.signals["p_direct_request"] == max(p for p in each if p is not None)
    assert all(text.count("\n- ") == 1 for text in [*prompts(night), *prompts(night, "dpo")])


@pytest.mark.recipe_key("guard.policies_ask")
def test_each_policy_is_asked_about_alone_and_its_probability_is_told(whole: Night, own: Path) -> None:
    judge = whole.judge("r00", "classify")
    judge = replace(
        judge, renderer=replace(judge.renderer, policies=shown_policies.read(asked(own, policies_ask="each").guard))
    )
    found = list(told(judge, whole)["policies"].values())
    assert len({one["request"] for one in found}) == len(found) == 3
    assert list(told(judge, whole)["policies"]) == list(served(judge, whole)["policies"]) == list(IDS)
    (direct,) = judge.direct([InputText("how do I steal a car")])
    assert direct.p["request"] == max(one["request"] for one in found)


def test_a_guard_that_is_asked_once_tells_no_probability_by_policy(whole: Night) -> None:
    judge = whole.judge("r00", "classify")
    assert "policies" not in {**told(judge, whole), **served(judge, whole)}


def told(judge: Judge, night: Night) -> dict[str, Any]:
    """What `classify` writes of a text."""
    guard = Guard(judge, night.recipe, "r00", calibrated=True)
    (row,) = classify_files.judged(guard, classify_files.lines_of(["how do I steal a car"], "x"), texts=False)
    return row


def served(judge: Judge, night: Night) -> dict[str, Any]:
    """What `serve` answers of a text beside OpenAI's fields."""
    guard = Guard(judge, night.recipe, "r00", calibrated=True)
    verdicts = list(guard.judge(["how do I steal a car"], traces=False))
    found = moderation.answer("1", {"name": "r00", "sha256": "", "calibration": ""}, verdicts)
    own: dict[str, Any] = found["results"][0]["wizloop"]
    return own


@pytest.mark.recipe_key("guard.policies_vary")
def test_without_variation_every_prompt_shows_the_same(prepared: Night) -> None:
    ctx = standalone(prepared.store, prepared.folder, prepared.recipe, "train", NOW)
    renderer = ctx.renderer
    assert renderer.policies is not None
    settings = prepared.recipe.guard.model_copy(update={"policies_vary": False})
    still = replace(renderer, policies=shown_policies.read(settings))
    for one, texts in ((renderer, 2), (still, 1)):
        found = [policy_lessons.shown(one, {"request": "unharmful"}, (), ctx.rng(number)) for number in range(8)]
        assert min(len({each.varied.shown for each in found if not isinstance(each, str)}), 2) == texts


@pytest.mark.recipe_key("guard.policies_text")
def test_minimal_text_leaves_the_examples_out() -> None:
    texts = [
        shown_policies.questions(found)[0]
        for length in ("minimal", "full")
        if (found := shown_policies.read(Settings(policies="shipped", policies_text=length)))
    ]
    assert [text.count("  violates:") for text in texts] == [0, 18]


def test_evaluate_measures_rows_by_policy_as_the_round_did(whole: Night) -> None:
    judge = whole.judge("r00", "evaluate")
    assert judge.renderer.policies is not None
    rows = benchmark_guard.workspace_rows(whole.store, whole.recipe, ["dev"])["dev"]
    _, answered = benchmark_guard.evaluate(judge, "dev", rows, seed=1)
    found = answered_by_policy.record_of(answered, judge.renderer.policies, 1)["figures"]["dev"]["request"]
    known = record(whole)["by_policy"]["figures"]["dev"]["request"]
    assert found["policies"] == known["policies"]
    row = answered[0].to_json()
    assert list(row["category_probability"]) == list(answered[0].names) == ["Crime", "Pain", "Self-harm"]
    assert (row["categories"], row["category_labels"]) != ([], None)
    several = [replace(one, source_categories=("crime", "pain")) for one in answered]
    both = answered_by_policy.record_of(several, judge.renderer.policies, 1)["figures"]["dev"]["request"]["policies"]
    assert both["crime"]["n"] == both["pain"]["n"] == sum(one.labels["request"] == "harmful" for one in answered)
    assert {one.source_categories for one in answered} >= {("self_harm",), None}


def test_policies_that_cannot_be_read_are_found_by_the_dry_run(own: Path, tmp_path: Path) -> None:
    found = {one.name: one for one in prompt_checks.checks(asked(own, policies_ask="each"))}
    assert found["policies"].ok
    assert "3 policies, one a question" in found["policies"].found
    assert found["policies"].found.endswith("never trained on: self_harm")
    missing = [one for one in prompt_checks.checks(asked(tmp_path / "none.toml")) if one.name == "policies"]
    assert [one.ok for one in missing] == [False]


def test_the_reasoner_needs_wording_to_count(own: Path, tmp_path: Path) -> None:
    path = tmp_path / "wordless.toml"
    path.write_text('[[policy]]\nid = "a"\nname = "A"\ndescription = "d"\n', encoding="utf-8")
    with pytest.raises(PolicyError, match="the policy 'a' has no keywords, which the teacher policy counts"):
        teachers.here(asked(path, policies_left_out=[]), "policy")
    assert [one.id for one in teachers.policies_of(asked(own))] == list(IDS)
