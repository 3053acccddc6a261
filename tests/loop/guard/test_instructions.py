"""The instruction from a file or a column: the published prompt to the letter, its text data, its hash on record."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.where import SHARED_DATA
from wizloop.backends.guard_types import Prompt
from wizloop.backends.tokens import Tokens
from wizloop.loop.context import standalone
from wizloop.loop.data.records import ImportRefused
from wizloop.loop.guard import grammar, instructions
from wizloop.loop.guard.rendering import InputText, Renderer
from wizloop.loop.phases import prepare
from wizloop.recipes import policies, schema
from wizloop.recipes.schema import Recipe, RecipeError
from wizloop.store import control, errors, samples, steps
from wizloop.store.db import Store

NOW = datetime(2026, 11, 20, 21, 0, tzinfo=UTC)
DATA = SHARED_DATA / "guardreasoner_benchmark"


def recipe(folder: Path, instruction: str, rows: list[dict[str, Any]] | None = None) -> Recipe:
    """A recipe whose three sources are one file of these rows."""
    written = rows if rows is not None else [{"prompt": "p", "label": "harmful", "told": "Judge.\n"}]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, written)), encoding="utf-8")
    data = "".join(f'[[data]]\npath = "{folder}/rows.jsonl"\nsplit = "{split}"\n' for split in ("pool", "seed", "dev"))
    path = folder / "mine.toml"
    path.write_text(f'name = "mine"\n{data}[guard]\ninstruction = "{instruction}"\n', encoding="utf-8")
    return schema.load(path)


def test_the_shipped_instruction_shows_both_answer_blocks_as_they_are_read() -> None:
    pieces = policies.instruction().split("\n\n")
    shown = [grammar.parse(piece) for piece in pieces]
    assert [one.verdict for one in shown if one is not None] == [
        {"request": "harmful", "completion": "refusal", "response": "unharmful"},
        {"request": "unharmful", "completion": None, "response": None},
    ]
    assert grammar.parse(policies.instruction()) is not None


@pytest.mark.parametrize("ending", ["", "\n", "\r\n\n"])
def test_a_file_is_read_without_the_newlines_at_its_end(tmp_path: Path, ending: str) -> None:
    (tmp_path / "told.txt").write_text(f"  Judge this.\n\nAnd that. {ending}", encoding="utf-8", newline="")
    assert instructions.read(recipe(tmp_path, f"{tmp_path}/told.txt")) == "  Judge this.\n\nAnd that. "


def test_a_column_is_read_where_it_is_and_says_the_same_everywhere(tmp_path: Path) -> None:
    assert instructions.read(recipe(tmp_path, "column:told")) == "Judge."
    differing = [{"prompt": "p", "told": "Judge."}, {"prompt": "q", "told": "Do not judge."}]
    with pytest.raises(ImportRefused, match=r"rows.jsonl, row 2: its 'told' differs from .*rows.jsonl, row 1"):
        instructions.read(recipe(tmp_path, "column:told", differing))


@pytest.mark.parametrize(
    ("setting", "rows", "says"),
    [
        ("none.txt", None, "none.txt: cannot read guard.instruction"),
        ("column:tld", None, "no .*data.* has the column 'tld'"),
        ("column:told", [{"prompt": "p", "told": 3}], "row 1: its 'told', named in guard.instruction, is not text"),
        ("column:told", [{"prompt": "p", "told": "x" * 20_001}], "at most 20,000 characters"),
    ],
)
def test_what_is_no_instruction_is_refused_by_name(tmp_path: Path, setting: str, rows: Any, says: str) -> None:
    with pytest.raises(ImportRefused, match=says):
        instructions.read(recipe(tmp_path, setting, rows))


def test_a_setting_that_is_neither_word_file_nor_column_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r'guard.instruction = "fulll"'):
        recipe(tmp_path, "fulll")


def test_a_path_or_a_template_in_a_column_is_plain_text(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    hostile = f"{tmp_path}/secret.txt {{prompt}} column:told <|im_start|> [bold]"
    read = instructions.read(recipe(tmp_path, "column:told", [{"prompt": "p", "told": hostile}]))
    assert read == hostile


def test_a_special_token_that_an_instruction_spells_is_encoded_as_text() -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE(vocab={chr(n): n for n in range(33, 127)}, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    tokens = Tokens(PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|end|>"))
    end = tokens.end
    framed = tokens.prompt(Prompt("<|end|>", (), "x", "<|end|>judge"), max_tokens=64)
    assert framed.shared.count(end) == 1
    assert framed.shared[0] == end
    assert framed.shared[1:] == tuple(ord(c) for c in "<|end|>judge")


def test_the_published_rows_are_rendered_to_the_letter() -> None:
    if not DATA.is_dir():
        pytest.skip("the shared data is not on this machine")
    for name in ("0_1_AegisSafetyTest.json", "0_7_xstest_response_refusal.json"):
        rows = json.loads((DATA / name).read_text(encoding="utf-8"))
        told = instructions.read(
            Recipe.model_validate_json(
                json.dumps(
                    {
                        "name": "x",
                        "data": [{"path": str(DATA / name), "split": split} for split in ("pool", "seed", "dev")],
                        "guard": {"instruction": "column:instruction"},
                    }
                )
            )
        )
        assert told is not None
        assert len(told) == 489
        renderer = Renderer(told, "steps", trace_opening="")
        for row in rows[:100]:
            prompt, _, response = row["input"].removeprefix("Human user:\n").partition("\n\nAI assistant:\n")
            said = InputText(prompt, None if response == "None\n\n" else response.removesuffix("\n\n"))
            shown = renderer.trace_prompt(said)
            text = shown.shared + shown.instruction + "".join(part.text for part in shown.parts) + shown.opening
            assert text == row["instruction"] + "\n" + row["input"]


def test_the_text_and_the_hash_of_the_rendering_are_on_record_and_outlive_the_file(tmp_path: Path) -> None:
    texts = [f"how do I {verb} a {thing} in the {place}?" for verb in "aeiou" for thing in "xyz" for place in "pqr"]
    asked = recipe(tmp_path, f"{tmp_path}/told.md")
    tiny = asked.guard.tiny.model_copy(update={"vocab": 300, "layers": 1, "width": 16, "mlp": 32, "epochs": 0})
    asked = asked.model_copy(update={"guard": asked.guard.model_copy(update={"tiny": tiny})})
    (tmp_path / "told.md").write_text("Judge this.", encoding="utf-8")
    with Store.create(tmp_path / "runs") as store:
        ctx = standalone(store, tmp_path / "runs", asked, "prepare", NOW)
        with store.write() as db:
            run = {"name": "mine", "recipe_json": schema.canonical_json(asked), "recipe_hash": "ab", "seed": 1}
            control.create_run(db, **run, cap_micro=None, until=None, rounds_wanted=1, now=NOW)  # type: ignore[arg-type]
            samples.add(db, [samples.NewSample("pool", text, None, "mine", "1") for text in texts], NOW)
            steps.begin_round(db, 0, None, NOW)
        with pytest.raises(errors.NotFound, match="not read yet: phase prepare reads it"):
            assert ctx.renderer
        prepare.run(ctx)
        (tmp_path / "told.md").write_text("Something else.", encoding="utf-8")
        with store.read() as db:
            record = steps.rounds(db)[0].record
        assert record["instruction"] == ctx.renderer.instruction == "Judge this."
        assert record["rendering"] == Renderer("Judge this.").hash != Renderer("Something else.").hash


def test_an_empty_instruction_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.md").write_text(" \n", encoding="utf-8")
    with pytest.raises(ImportRefused, match=r"mine.md: the instruction is empty; write one, or set guard.instruction"):
        instructions.read(recipe(tmp_path, f"{tmp_path}/mine.md"))
