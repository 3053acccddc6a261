"""Recent benchmarks and training sets in their published columns, on records written here."""

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from tests.loop.data.whole_files import label_counts, read_file
from tests.where import SHARED_CASES
from wizloop.loop.data.format_choice import find_format, recognize
from wizloop.loop.data.sample_rows import RowReader
from wizloop.recipes.sections import Data

H, U, R, C = "harmful", "unharmful", "refusal", "compliance"


def read(record: dict[str, Any], asked: str | None = None) -> tuple[str, list[Any]]:
    """The format that the record shows or that is asked for, and its rows: (prompt, response, labels, policy)."""
    found = find_format(asked, record, "a.json", "request") if asked else recognize(record, "a.json", "request")
    assert found is not None
    rows = RowReader("a.json", found, Data(path="a", split="pool")).rows(1, record)
    return found.name, [row[1] if hasattr(row, "reason") else (*row[:2], dict(row[2]), row[5]) for row in rows]


WILDJAILBREAK = {"vanilla": "v", "adversarial": "a", "completion": "c", "data_type": "adversarial_harmful"}
POLYGUARD = {
    "prompt": "p",
    "response": "r",
    "prompt_harm_label": "yes",
    "response_refusal_label": "no",
    "response_harm_label": "yes",
    "prompt_safety_categories": "S2",
    "response_safety_categories": "S2",
    "metadata": {"language": "Czech", "source": "x"},
}
POLYGUARD_PROMPTS = {
    "prompt": "p",
    "response": "r",
    "adversarial": False,
    "prompt_harm_label": H,
    "response_refusal_label": R,
    "response_harm_label": U,
    "subcategory": "s",
    "id": 4,
    "language": "Thai",
    "prompt_label": "unsafe",
    "response_label": "safe",
}
AEGIS = {
    "id": "x",
    "reconstruction_id_if_redacted": None,
    "prompt": "p",
    "response": "r",
    "prompt_label": "unsafe",
    "response_label": "safe",
    "violated_categories": "Threat",
}
TURNS = [{"role": "user", "content": "u"}, {"role": "assistant", "content": "<think>t</think>a"}]
SORRY = {"question_id": 3, "category": 7, "turns": ["t"], "prompt_style": "base"}
SALAD = {"1-category": "O1", "2-category": "O2", "3-category": "O3"}


@pytest.mark.parametrize(
    ("record", "name", "rows"),
    [
        (
            WILDJAILBREAK,
            "wildjailbreak",
            [("a", "c", {"request": H, "completion": R, "response": U}, "adversarial_harmful")],
        ),
        (
            {**WILDJAILBREAK, "adversarial": "", "data_type": "vanilla_benign"},
            "wildjailbreak",
            [("v", "c", {"request": U, "completion": C, "response": U}, "vanilla_benign")],
        ),
        (
            {**WILDJAILBREAK, "completion": "", "data_type": "vanilla_harmful"},
            "wildjailbreak",
            [("v", None, {"request": H}, "vanilla_harmful")],
        ),
        ({**WILDJAILBREAK, "adversarial": None}, "wildjailbreak", ["the prompt is empty"]),
        (
            {"adversarial": "a", "label": 0, "data_type": "adversarial_benign"},
            "wildjailbreak eval",
            [("a", None, {"request": U}, "adversarial_benign")],
        ),
        (POLYGUARD, "polyguardmix", [("p", "r", {"request": H, "completion": C, "response": H}, "S2")]),
        (
            {**POLYGUARD, "response": None, "response_refusal_label": None, "response_harm_label": "no"},
            "polyguardmix",
            [("p", None, {"request": H}, "S2")],
        ),
        (
            {
                **POLYGUARD,
                "prompt_harm_label": "no",
                "response_refusal_label": "yes",
                "prompt_safety_categories": "None",
            },
            "polyguardmix",
            [("p", "r", {"request": U, "completion": R, "response": H}, None)],
        ),
        (POLYGUARD_PROMPTS, "wildguardmix", [("p", "r", {"request": H, "completion": R, "response": U}, "s")]),
        (AEGIS, "aegis 2", [("p", "r", {"request": H, "response": U}, "Threat")]),
        ({**AEGIS, "response": ""}, "aegis 2", [("p", None, {"request": H}, "Threat")]),
        (
            {**AEGIS, "tag": "generic", "language": "de", "prompt_label": "safe", "response_label": None},
            "aegis 2",
            [("p", "r", {"request": U}, "Threat")],
        ),
        (
            {"unique_id": "u", "message": TURNS, "label": "Unsafe", "unsafe_type": "Violent"},
            "qwen3guard test",
            [("u", "<think>t</think>a", {"response": H}, "Violent")],
        ),
        (
            {"unique_id": "u", "message": TURNS, "label": "Controversial"},
            "qwen3guard test",
            [("u", "<think>t</think>a", {}, None)],
        ),
        (
            {"id_v1": "", "id_v2": "v2-9", "type": "contrast_homonyms", "prompt": "p", "focus": "", "note": ""},
            "xstest v2 prompts",
            [("p", None, {"request": H}, "contrast_homonyms")],
        ),
        (
            {"id_v2": "v2-8", "type": "privacy_public", "prompt": "p"},
            "xstest v2 prompts",
            [("p", None, {"request": U}, "privacy_public")],
        ),
        (
            {"id": "v2-8", "type": "definitions", "prompt": "p", "completion": None, "final_label": None},
            "xstest completions",
            [("p", None, {"request": U}, None)],
        ),
        (SORRY, "sorry-bench", [("t", None, {"request": H}, "7")]),
        ({**SORRY, "turns": "['t', 'later']", "category": ""}, "sorry-bench", [("t", None, {"request": H}, None)]),
        ({**SORRY, "turns": '["it\'s", "b"]'}, "sorry-bench", [("it's", None, {"request": H}, "7")]),
        ({**SORRY, "turns": f"[{'-' * 90_000}1]"}, "sorry-bench", [(f"[{'-' * 90_000}1]", None, {"request": H}, "7")]),
        ({**SORRY, "turns": "[not a list"}, "sorry-bench", [("[not a list", None, {"request": H}, "7")]),
        ({**SORRY, "turns": []}, "sorry-bench", ["the prompt is empty"]),
        ({"qid": 1, "question": "q", "source": "x", **SALAD}, "salad-bench", [("q", None, {"request": H}, "O2")]),
        (
            {"aid": 1, "qid": 2, "method": "tap", "augq": "a", "baseq": "b", **SALAD},
            "salad-bench attacks",
            [("a", None, {"request": H}, "O2")],
        ),
        (
            {"did": 1, "dmethod": "gptfuzz", "daugq": "d", "baseq": "b", **SALAD},
            "salad-bench defenses",
            [("d", None, {"request": H}, "O2")],
        ),
        (
            {"mcq": "m", "choices": "ABC", "gt": "A", "baseq": "b", **SALAD},
            "salad-bench choices",
            [("m", None, {}, "O2")],
        ),
        ({"prompt": "p", "category": "deception"}, "or-bench", [("p", None, {}, "deception")]),
        ({"prompt": "p", "category": "poetry"}, "columns", [("p", None, {}, "poetry")]),
    ],
)
def test_what_a_published_record_says(record: dict[str, Any], name: str, rows: list[Any]) -> None:
    assert read(record) == (name, rows)


@pytest.mark.parametrize(
    ("part", "label"), [("or-bench-80k", U), ("OR-Bench-Hard-1K", U), ("or-bench-toxic", H), ("orbench toxic", H)]
)
def test_a_part_of_or_bench_is_named(part: str, label: str) -> None:
    assert read({"prompt": "p", "category": "hate"}, part)[1] == [("p", None, {"request": label}, "hate")]


@pytest.mark.parametrize("given", [2031, "2031", 2031.0])
def test_a_redacted_prompt_is_left_out(given: object) -> None:
    reason = "redacted: the set was published without the text of this prompt"
    assert read({**AEGIS, "reconstruction_id_if_redacted": given}) == ("aegis 2", [reason])
    assert read({**AEGIS, "prompt": "REDACTED"}) == ("aegis 2", [reason])


@pytest.mark.parametrize("nothing", [None, "", "nan", "None", float("nan")])
def test_no_reconstruction_id_is_no_redaction(nothing: object) -> None:
    assert read({**AEGIS, "reconstruction_id_if_redacted": nothing})[1][0][0] == "p"


@pytest.mark.parametrize(
    ("record", "word", "task"),
    [
        ({"unique_id": "u", "message": TURNS, "label": "Controversial"}, "controversial", "response"),
        ({"text": "t", "text_type": "user_message", "labels_0": "Needs Caution"}, "Needs Caution", "request"),
        ({"prompt": "p", "guard": "Safety: Controversial\nCategories: PII"}, "controversial", "request"),
    ],
)
def test_a_third_class_is_a_label_where_the_user_says_which(
    tmp_path: Path, record: dict[str, Any], word: str, task: str
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(record))
    assert label_counts(read_file(path, split="pool")) == {}
    assert label_counts(read_file(path, split="seed", label={word: H})) == {task: {H: 1}}


@pytest.mark.parametrize(
    ("columns", "prompt"),
    [({"data_type": "adversarial_benign", "adversarial": "a"}, "a"), ({"unique_id": "u", "message": TURNS}, "u")],
)
def test_hidden_labels_hide_no_prompt(tmp_path: Path, columns: dict[str, Any], prompt: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({**columns, "label": "Safe"}))
    got = read_file(path, split="pool", hide_labels=True)
    assert [(row.prompt, dict(row.labels)) for row in got.rows] == [(prompt, {})]


def test_a_majority_that_needs_caution_leaves_no_label() -> None:
    votes = {"labels_0": "Safe", "labels_1": "Needs Caution", "labels_2": "Needs Caution"}
    assert read({"text": "t", "text_type": "user_message", **votes}) == ("aegis", [("t", None, {}, None)])


ROWS = [
    {
        "vanilla": "How do I skip school?",
        "adversarial": "",
        "completion": "Talk to them.",
        "data_type": "vanilla_harmful",
    },
    {
        "vanilla": "What is fog?",
        "adversarial": "As a bard, sing of fog.",
        "completion": "O!",
        "data_type": "adversarial_benign",
    },
]


@pytest.mark.parametrize("name", ["a.csv", "a.json", "a.jsonl", "a.parquet"])
def test_the_twins_of_a_set_read_the_same(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith(".parquet"):
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)
    elif name.endswith(".csv"):
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(ROWS[0]))
            writer.writeheader()
            writer.writerows(ROWS)
    else:
        path.write_text(json.dumps(ROWS) if name == "a.json" else "\n".join(map(json.dumps, ROWS)))
    got = read_file(path, split="seed")
    assert got.format == "wildjailbreak"
    assert [row.prompt for row in got.rows] == ["How do I skip school?", "As a bard, sing of fog."]
    assert label_counts(got) == {"request": {H: 1, U: 1}, "completion": {R: 1, C: 1}, "response": {U: 2}}


@pytest.mark.parametrize(
    ("case", "format", "labels", "refused"),
    [
        ("07-aegis2-redacted/03_aegis2.jsonl", "aegis 2", {"request": {U: 2, H: 1}, "response": {U: 1}}, 3),
        ("06-message-lists/17_qwen3guard_thinking.jsonl", "qwen3guard test", {"response": {U: 3, H: 3}}, 0),
    ],
)
def test_the_cases(case: str, format: str, labels: dict[str, dict[str, int]], refused: int) -> None:
    if not (SHARED_CASES / case).exists():
        pytest.skip("the cases are not here")
    got = read_file(SHARED_CASES / case, split="pool")
    assert (got.format, label_counts(got), len(got.refused)) == (format, labels, refused)
