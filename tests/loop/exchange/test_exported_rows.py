"""Rows of a run for other programs: what they say, where they come from, what stays out, and who can load them."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from tests.loop.branching import Branch
from tests.loop.small_night import NOW, Night, recipe
from wizloop.loop.cli import app
from wizloop.loop.context import Context, standalone
from wizloop.loop.exchange import exported_rows
from wizloop.loop.exchange.exported_rows import FORMS, LEAKED, Form, Kind
from wizloop.loop.phases import model_roles
from wizloop.loop.phases.training_examples import collect
from wizloop.store import reviews, samples, selections, training

KINDS: tuple[Kind, ...] = ("lessons", "pairs", "selections", "hard-samples", "reviews")
ORIGIN = {"row", "source", "sample", "split", "round", "teacher", "model", "trace"}


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Night:
    """A night after the training of round 0."""
    night = Night(tmp_path_factory.mktemp("exported") / "runs", recipe())
    night.round(0, "train")
    return night


def context(night: Night) -> Context:
    ctx = standalone(night.store, night.folder, night.recipe, "export", NOW)
    ctx.given = night.backend
    return ctx


def exported(night: Night, kind: Kind, form: Form = "plain") -> list[dict[str, Any]]:
    return list(exported_rows.export(context(night), kind, form, None).rows)


def written(folder: Path, rows: Sequence[dict[str, Any]]) -> str:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_a_lesson_is_the_text_that_the_guard_was_trained_on(night: Night) -> None:
    ctx = context(night)
    with ctx.store.read() as db:
        base = model_roles.base(db)
    lessons = collect(ctx, ctx.guard(base)).lessons
    trained = [
        bytes((*one.prompt.shared, *one.prompt.body)).decode() + one.completion
        for lesson in lessons
        for one in (lesson.traced, lesson.direct)
    ]
    before, after = ctx.renderer.frame
    rows = exported(night, "lessons")
    assert [before + row["prompt"] + after + row["completion"] for row in rows] == trained
    assert [row["kind"] for row in rows[:2]] == ["trace", "direct"]
    assert rows[1]["weight"] == night.recipe.train.direct_weight


def test_messages_hold_the_same_turns(night: Night) -> None:
    plain, messages = exported(night, "lessons")[0], exported(night, "lessons", "messages")[0]
    assert [(one["role"], one["content"]) for one in messages["messages"]] == [
        ("user", plain["prompt"]),
        ("assistant", plain["completion"]),
    ]


def test_pairs_have_trl_s_columns_and_those_of_mlx_lm_lora_with_their_weight(night: Night) -> None:
    with night.store.read() as db:
        (first, *_) = training.pairs(db, 0)
    plain, lora = exported(night, "pairs")[0], exported(night, "pairs", "mlx-lm-lora")[0]
    assert plain["chosen"].endswith(first.chosen)
    assert plain["rejected"].endswith(first.rejected)
    assert (plain["weight"], lora["preference_score"], "weight" in lora) == (first.weight, first.weight, False)
    assert {name: lora[name] for name in ("prompt", "chosen", "rejected")} == {
        name: plain[name] for name in ("prompt", "chosen", "rejected")
    }
    messages = exported(night, "pairs", "messages")[0]
    assert messages["chosen"] == [{"role": "assistant", "content": plain["chosen"]}]


def test_every_row_says_where_it_comes_from(night: Night) -> None:
    for kind in KINDS:
        rows = exported(night, kind)
        assert rows, kind
        assert {frozenset(row["origin"]) for row in rows} == {frozenset(ORIGIN)}
    lesson, pair = exported(night, "lessons")[0]["origin"], exported(night, "pairs")[0]["origin"]
    assert (lesson["row"].split(":")[0], lesson["split"], lesson["teacher"]) == ("demo", "seed", "policy")
    assert lesson["model"].startswith("policy-reasoner")
    assert pair["model"] == "r00-sft"


def test_a_selection_says_why_and_a_review_who_decided(night: Night) -> None:
    with night.store.read() as db:
        picked = selections.of_round(db, 0)
    assert [row["words"] for row in exported(night, "selections")] == [one.words for one in picked]
    first = exported(night, "reviews")[0]
    assert (first["decision"], first["by"], first["in_effect"], first["edited"]) == (
        "approve",
        "rule:nothing",
        True,
        False,
    )


def test_an_edited_trace_is_exported_as_edited(night: Night, tmp_path: Path) -> None:
    branch = Branch(night, tmp_path / "runs")
    asked = {"decision": "edit", "by": "person:ada", "now": datetime(2026, 4, 1, tzinfo=UTC), "decision_id": "x"}
    with branch.store.write() as db:
        reviews.review(db, trace_id=1, edited_json='{"explanation": "It is about wool."}', **asked)  # type: ignore[arg-type]
    assert "It is about wool." in exported(branch, "lessons")[0]["completion"]
    rule, person = (row for row in exported(branch, "reviews") if row["origin"]["trace"] == 1)
    assert [(row["by"], row["in_effect"]) for row in (rule, person)] == [
        ("rule:nothing", False),
        ("person:ada", True),
    ]
    assert (person["edited"], person["explanation"]) == (True, "It is about wool.")


@pytest.mark.parametrize("kind", KINDS)
def test_what_dev_or_test_holds_too_stays_out(night: Night, tmp_path: Path, kind: Kind) -> None:
    branch = Branch(night, tmp_path / "runs")
    before = exported(branch, kind)
    near, out = (row["origin"]["sample"] for row in before[:: len(before) - 1])
    with branch.store.write() as db:
        (text,) = (one.prompt for one in samples.get(db, [near]))
        samples.add(db, [samples.NewSample("dev", f"{text}  !!", None, "held", "held:1", "harmful")], NOW)
        samples.exclude(db, [out], "repeats the held-out sample 1")
    made = exported_rows.export(context(branch), kind, "plain", None)
    kept = {row["origin"]["sample"] for row in made.rows}
    assert kept == {row["origin"]["sample"] for row in before} - {near, out}
    assert made.left_out[LEAKED] >= 2


def test_a_form_that_a_kind_does_not_have_is_refused(night: Night) -> None:
    with pytest.raises(exported_rows.NoSuchForm, match="selections have no form messages: choose plain"):
        exported_rows.export(context(night), "selections", "messages", None)


@pytest.mark.parametrize(("kind", "form"), [(kind, form) for kind in KINDS for form in FORMS[kind]])
def test_datasets_gives_every_column_one_type(night: Night, tmp_path: Path, kind: Kind, form: Form) -> None:
    datasets = pytest.importorskip("datasets")
    rows = exported(night, kind, form)
    loaded = datasets.Dataset.from_json(written(tmp_path, rows), cache_dir=str(tmp_path / "cache"))
    assert loaded.column_names == list(rows[0])
    # It reads times as such.
    assert {**loaded[0], "decided_at": None} == {**rows[0], "decided_at": None}


@pytest.mark.long
@pytest.mark.parametrize("form", ["plain", "messages"])
def test_mlx_lm_trains_on_lessons(night: Night, tmp_path: Path, form: Form) -> None:
    tuner = pytest.importorskip("mlx_lm.tuner.datasets")
    rows = exported(night, "lessons", form)
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    train, *_ = tuner.load_local_dataset(tmp_path, _Template(), SimpleNamespace(mask_prompt=True))
    text, at = train.process(train[0])
    user, answer = _turns(rows[0])
    assert (text[at:], user in text[:at]) == (f"{answer}|end|", True)


def _turns(row: dict[str, Any]) -> tuple[str, str]:
    said = [one["content"] for one in row["messages"]] if "messages" in row else [row["prompt"], row["completion"]]
    return said[0], said[1]


class _Template:
    """A tokenizer of characters with a chat template, as mlx-lm and mlx-lm-lora ask one."""

    def apply_chat_template(
        self, messages: Sequence[dict[str, str]], add_generation_prompt: bool = False, **_: Any
    ) -> str:
        text = "".join(f"|{one['role']}|{one['content']}|end|" for one in messages)
        return text + ("|assistant|" if add_generation_prompt else "")


@pytest.mark.long
def test_mlx_lm_lora_trains_on_pairs(night: Night) -> None:
    lora = pytest.importorskip("mlx_lm_lora.trainer.datasets")
    rows = exported(night, "pairs", "mlx-lm-lora")
    (first, *_), tokenizer = rows, _Template()
    one = lora.DPODataset(rows, tokenizer)[0]
    assert one["chosen"][one["chosen_prompt_length"] :] == f"{first['chosen']}|end|"
    assert one["rejected"][one["rejected_prompt_length"] :] == f"{first['rejected']}|end|"
    weighed = lora.ORPODataset(rows, tokenizer)
    assert weighed[0]["preference_score"] == first["preference_score"]


@pytest.mark.long
@pytest.mark.parametrize(("kind", "form"), [("lessons", "plain"), ("lessons", "messages"), ("pairs", "messages")])
def test_trl_knows_the_form(night: Night, kind: Kind, form: Form) -> None:
    data_utils = pytest.importorskip("trl.data_utils")
    assert data_utils.is_conversational(exported(night, kind, form)[0]) is (form == "messages")


def test_the_command_writes_a_whole_file_and_says_what_it_left_out(night: Night, tmp_path: Path) -> None:
    out = tmp_path / "lessons.jsonl"
    words = ["data", "export", "lessons", "--out", str(out), "-w", str(night.folder)]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert rows == exported(night, "lessons")
    assert done.stderr.endswith(f"wrote {len(rows)} rows to {out}\n")
    again = CliRunner().invoke(app, words)
    assert (again.exit_code, "already exists" in again.stderr) == (2, True)
    other = CliRunner().invoke(app, [*words[:4], str(tmp_path / "x"), "--form", "mlx-lm-lora", *words[5:]])
    assert (other.exit_code, "lessons have no form mlx-lm-lora" in other.stderr) == (2, True)
    assert [path.name for path in tmp_path.iterdir()] == ["lessons.jsonl"]
