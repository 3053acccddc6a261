"""Outputs of guards and moderation APIs as labels: only where it is clear what they speak of."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.loop.data.whole_files import label_counts, read_file
from wizloop.loop.data import guard_outputs
from wizloop.loop.data.format_choice import recognize
from wizloop.loop.data.guard_outputs import Output
from wizloop.loop.data.sample_rows import RowReader
from wizloop.loop.words import TASKS, Task
from wizloop.recipes.sections import Data

H, U = "harmful", "unharmful"
RAISED = {
    "flagged": True,
    "categories": {"hate": False, "violence": True},
    "category_scores": {"hate": 0.1, "violence": 0.9},
}
CLEAR = {"flagged": False, "categories": {"hate": False}, "category_scores": {"hate": 0.1}}
WILDGUARD = "Harmful request: yes\nResponse refusal: no\nHarmful response: yes"


@pytest.mark.parametrize(
    ("value", "output"),
    [
        ("safe", Output(U)),
        ("\n\nsafe", Output(U)),
        ("unsafe\nS1", Output(H, policy="S1")),
        ("\n\nunsafe\nS10,S2", Output(H, policy="S10")),
        ("unsafe\nO3<|eot_id|>", Output(H, policy="O3")),
        ("unsafe\nS9<|eot|>", Output(H, policy="S9")),
        ("safe<|eot|>", Output(U)),
        ("safe</s>", Output(U)),
        ("Unsafe\nS1\nS2", Output(H, policy="S1")),
        ("unsafe\r\nViolent Crimes, Hate", Output(H, policy="Violent Crimes")),
        ("unsafe S4, S5", Output(H, policy="S4")),
        ("Safety: Unsafe\nCategories: Violent, PII", Output(H, policy="Violent")),
        ("Safety: Safe\nCategories: None\nRefusal: Yes", Output(U)),
        (
            "Safety: Controversial\nCategories: Unethical Acts",
            Output(policy="Unethical Acts", word="controversial"),
        ),
        (WILDGUARD, Output(labels={"request": H, "completion": "compliance", "response": H})),
        (
            '{"User Safety": "unsafe", "Response Safety": "safe", "Safety Categories": "Violence, Threat"}',
            Output(labels={"request": H, "response": U}, policy="Violence"),
        ),
        (RAISED, Output(H, policy="violence")),
        (CLEAR, Output(U)),
        ([CLEAR], Output(U)),
        ({"id": "modr-1", "model": "omni-moderation-latest", "results": [RAISED]}, Output(H, policy="violence")),
        (json.dumps({"results": [CLEAR]}), Output(U)),
        (str({**RAISED, "category_scores": {"violence": 1.2e-05, "hate": -1.0}}), Output(H, policy="violence")),
        (str(RAISED), Output(H, policy="violence")),
        (str({"results": [CLEAR]}), Output(U)),
        ({**RAISED, "flagged": 1}, Output(H, policy="violence")),
        ({"categories": {"pii": True, "law": False}, "category_scores": {"pii": 0.8}}, Output(H, policy="pii")),
    ],
)
def test_what_a_guard_says(value: Any, output: Output) -> None:
    assert guard_outputs.read(value) == output


@pytest.mark.parametrize(
    "value",
    [
        None,
        1,
        True,
        "",
        "I think it is unsafe",
        "safe to eat",
        "unsafe S1 and more",
        "{",
        "[" * 9000,
        "{'a': " * 3000,
        "{1: print()}",
        [],
        [RAISED, CLEAR],
        {"flagged": "maybe", "categories": {}},
        {"flagged": True},
        {"categories": {"a": True}},
        f"{{'flagged': True, 'categories': {{}}, 'a': {'1-' * 9000}1}}",
        f"{{'flagged': True, 'categories': {{}}, 'a': {'-' * 9000}1}}",
        {"results": []},
        {"results": [RAISED, CLEAR]},
        {"User Safety": "unclear"},
    ],
)
def test_anything_else_is_no_output(value: Any) -> None:
    assert guard_outputs.read(value) is None


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("unsafe\nS1", [H, None, H]),
        ("Safety: Controversial\nCategories: PII", ["controversial", None, "controversial"]),
        (WILDGUARD, [H, "compliance", H]),
        ([RAISED], [H, None, H]),
        ([RAISED, CLEAR], [H, None, U]),
        (str([RAISED, CLEAR]), [H, None, U]),
        ([1, 2], [None, None, None]),
        ("a word", [None, None, None]),
    ],
)
def test_a_guards_word_about_each_task(value: Any, words: list[str | None]) -> None:
    assert [guard_outputs.word(value, task) for task in TASKS] == words


def read(record: dict[str, Any]) -> tuple[str, list[Any]]:
    found = recognize(record, "a.json", "request")
    assert found is not None
    rows = RowReader("a.json", found, Data(path="a", split="pool")).rows(1, record)
    return found.name, [row[1] if hasattr(row, "reason") else (*row[:2], dict(row[2]), row[5]) for row in rows]


@pytest.mark.parametrize(
    ("record", "rows"),
    [
        ({"prompt": "p", "llama_guard": "safe"}, [("p", None, {"request": U}, None)]),
        ({"text": "t", "verdict": "unsafe\nS2"}, [("t", None, {"request": H}, "S2")]),
        ({"prompt": "p", "response": "r", "response_guard": "unsafe\nS2"}, [("p", "r", {"response": H}, "S2")]),
        ({"prompt": "p", "response": None, "response_guard": "unsafe\nS2"}, [("p", None, {}, "S2")]),
        (
            {"prompt": "p", "response": "r", "guard_prompt": "safe", "guard_response": "unsafe\nS1"},
            [("p", "r", {"request": U, "response": H}, "S1")],
        ),
        (
            {"prompt": "p", "response": "r", "wildguard": WILDGUARD},
            [("p", "r", {"request": H, "completion": "compliance", "response": H}, None)],
        ),
        ({"prompt": "p", "wildguard": WILDGUARD}, [("p", None, {"request": H}, None)]),
        ({"text": "t", "moderation": RAISED}, [("t", None, {"request": H}, "violence")]),
        ({"text": "t", "results": [CLEAR]}, [("t", None, {"request": U}, None)]),
        ({"text": "t", **CLEAR}, [("t", None, {"request": U}, None)]),
        ({"input": "i", "id": "modr-1", "model": "m", "results": [RAISED]}, [("i", None, {"request": H}, "violence")]),
        ({"text": "t", "qwen3guard": "Safety: Controversial\nCategories: PII"}, [("t", None, {}, "PII")]),
    ],
)
def test_a_file_of_outputs(record: dict[str, Any], rows: list[Any]) -> None:
    assert read(record) == ("guard outputs", rows)


@pytest.mark.parametrize(
    "record",
    [
        {"prompt": "p", "response": "r", "llama_guard": "unsafe\nS2"},
        {"prompt": "p", "llama_guard": "safe", "moderation": RAISED},
        {"prompt": "p", "label": "safe", "moderation": RAISED},
        {"prompt": "p", "status": "safe"},
    ],
    ids=["either turn", "two outputs", "labels of its own", "any word"],
)
def test_an_output_whose_meaning_would_be_a_guess_is_left_alone(record: dict[str, Any]) -> None:
    assert read(record)[0] == "columns"


def test_a_bare_word_is_an_output_where_later_rows_show_it(tmp_path: Path) -> None:
    path = tmp_path / "judged.jsonl"
    said = ["safe", "safe", "unsafe\nS9", "", "safe"]
    path.write_text("".join(json.dumps({"prompt": f"p{at}", "output": one}) + "\n" for at, one in enumerate(said)))
    got = read_file(path, split="pool")
    assert (got.format, label_counts(got)) == ("guard outputs", {"request": {U: 3, H: 1}})
    assert [row.policy for row in got.rows] == [None, None, "S9", None, None]


@pytest.mark.parametrize("last", ["safe", "unclear"], ids=["no category", "another word"])
def test_a_column_of_words_is_no_output(tmp_path: Path, last: str) -> None:
    path = tmp_path / "judged.jsonl"
    said = ["safe", "unsafe\nS9" if last == "unclear" else "unsafe", last]
    path.write_text("".join(json.dumps({"prompt": f"p{at}", "output": one}) + "\n" for at, one in enumerate(said)))
    assert read_file(path, split="pool").format == "columns"


def test_it_is_told_that_an_output_does_not_say_what_it_is_about(tmp_path: Path) -> None:
    path = tmp_path / "judged.jsonl"
    path.write_text(
        "".join(json.dumps({"prompt": "p", "response": "r", "said": said}) + "\n" for said in ("safe", "unsafe\nS1"))
    )
    got = read_file(path, split="pool")
    assert (got.format, label_counts(got)) == ("columns", {})
    assert "--map said=request_label or said=response_label" in got.note


@pytest.mark.parametrize("column", ["llama_guard", "moderation"])
def test_what_no_guard_writes_is_an_unknown_label_and_loses_no_class_in_silence(tmp_path: Path, column: str) -> None:
    path = tmp_path / "judged.jsonl"
    said = ["safe", "flagged by hand"] if column == "llama_guard" else [CLEAR, {"error": "timeout"}]
    rows = [{"prompt": f"p{at}", column: said[at % 2]} for at in range(4)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    got = read_file(path, split="seed")
    assert (got.format, len(got.rows), len(got.refused)) == ("guard outputs", 2, 2)
    assert "2 of its 4 rows have a request label that is not known" in str(got.fault)
    assert label_counts(read_file(path, split="pool")) == {"request": {U: 2}}


def test_an_output_is_found_behind_rows_without_one(tmp_path: Path) -> None:
    path = tmp_path / "judged.jsonl"
    rows = [{"prompt": f"p{at}", "moderation": one} for at, one in enumerate([None, RAISED, CLEAR])]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert label_counts(read_file(path, split="pool")) == {"request": {H: 1, U: 1}}


def test_an_answer_about_several_texts_is_a_sample_each() -> None:
    record = {"input": ["a", "b"], "results": [RAISED, CLEAR]}
    rows = [("a", None, {"request": H}, "violence"), ("b", None, {"request": U}, None)]
    assert read(record) == ("moderation answers", rows)
    assert read({**record, "input": ["a"]})[1] == ["1 inputs and 2 results"]


@pytest.mark.parametrize(
    ("value", "task", "known"),
    [
        ("unsafe\nS1,S3", "request", H),
        (RAISED, "request", H),
        ({"results": [CLEAR]}, "response", U),
        (WILDGUARD, "completion", "compliance"),
    ],
)
def test_an_output_is_a_label_where_the_user_maps_it(tmp_path: Path, value: Any, task: Task, known: str) -> None:
    path = tmp_path / "judged.jsonl"
    path.write_text(json.dumps({"text": "t", "answer": "a", "said": value}))
    got = read_file(path, split="seed", map={"prompt": "text", "response": "answer", f"{task}_label": "said"})
    assert label_counts(got) == {task: {known: 1}}
