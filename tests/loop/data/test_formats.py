"""The known formats one by one, on records written here in each dataset's own columns; then the names."""

from typing import Any

import pytest

from tests.loop.data.whole_files import label_counts, read_file
from tests.where import SHARED_DATA
from wizloop.loop.data.format_choice import KNOWN, find_format, recognize
from wizloop.loop.data.formats import Format, begins_with, digest
from wizloop.loop.data.sample_rows import Refused, RowReader, SampleRow
from wizloop.recipes.sections import Data

FRAME = "Human user:\n{}\n\nAI assistant:\n{}\n\n"
H, U = "harmful", "unharmful"


def read(record: dict[str, Any], name: str = "rows.json") -> tuple[str, list[Any]]:
    """The format that the record shows, and its rows: (prompt, response, labels) or the reason against one."""
    found = recognize(record, name, "request")
    assert found is not None
    rows = RowReader(name, found, Data(path="a", split="pool")).rows(1, record)
    return found.name, [row[1] if hasattr(row, "reason") else (row[0], row[1], dict(row[2])) for row in rows]


TRAIN = "# Task 1\n## Reasoning Step 1\nIt says Request: unharmful\n---\nAnswers: \nRequest: harmful\n{}"
JBB = {"Goal": "g", "Target": "t", "Behavior": "b", "Category": "c"}
ATTACK = {"goal": "g", "category": "c", "prompt": "p", "response": "r", "jailbroken": True}
DNA = {"question": "q", "risk_area": "x", "A_response": "a", "A_harmful": "0", "A_action": "0"}
AEGIS = {"text": "t", "text_type": "user_message", "labels_0": "Safe", "labels_1": "Violence", "labels_2": "Violence"}
CHAT = {"user_input": "u", "model_output": "m", "human_annotation": "True", "toxicity": "0"}


@pytest.mark.parametrize(
    ("record", "name", "rows"),
    [
        pytest.param(
            {
                "instruction": "i",
                "input": FRAME.format("p", "r"),
                "output": TRAIN.format("Completion: refusal\nResponse: unharmful"),
            },
            "guardreasoner train",
            [("p", "r", {"request": H, "completion": "refusal", "response": U})],
            id="the answer block counts and what the reasoning quotes does not",
        ),
        pytest.param(
            {
                "instruction": "i",
                "input": FRAME.format("p", "None"),
                "output": TRAIN.format("Completion: refusal\nResponse: unharmful"),
            },
            "guardreasoner train",
            [("p", None, {"request": H})],
            id="a prompt alone has no label for a response",
        ),
        pytest.param(
            {"prompt": "You are a classifier, think.\n\n" + FRAME.format("p", "r"), "label": "refusal", "predict": "x"},
            "guardreasoner predictions",
            [("p", "r", {"completion": "refusal"})],
            id="predictions",
        ),
        pytest.param(
            {"prompt": "p", "response": "r", "is_safe": False, "category": {"a": False, "b": True}},
            "beavertails",
            [("p", "r", {"response": H})],
            id="beavertails judges the response",
        ),
        pytest.param(
            {
                "prompt": "p",
                "response_0": "a",
                "response_1": "b",
                "is_response_0_safe": True,
                "is_response_1_safe": False,
            },
            "saferlhf",
            [("p", "a", {"response": U}), ("p", "b", {"response": H})],
            id="both answers of saferlhf",
        ),
        pytest.param(AEGIS, "aegis", [("t", None, {"request": H})], id="the majority of aegis"),
        pytest.param({**AEGIS, "labels_2": "Safe"}, "aegis", [("t", None, {"request": U})], id="the safe majority"),
        pytest.param({**AEGIS, "labels_2": None}, "aegis", [("t", None, {"request": U})], id="a tie goes to the first"),
        pytest.param(
            {**AEGIS, "text_type": "llm_response"},
            "aegis",
            ["a 'llm_response' without its prompt"],
            id="a response is no prompt",
        ),
        pytest.param(
            {"prompt": "p", "response": None, "prompt_label": "unsafe", "response_label": "safe"},
            "aegis 2",
            [("p", None, {"request": H})],
            id="no response, no label for it",
        ),
        pytest.param(
            {"prompt": "p", "response": "r", "label": "compliance", "prompt_type": "prompt_safe"},
            "xstest responses",
            [("p", "r", {"request": U, "completion": "compliance"})],
            id="refusals of xstest",
        ),
        pytest.param(
            {"prompt": "p", "response": "r", "label": "harmful", "prompt_type": "prompt_harmful"},
            "xstest responses",
            [("p", "r", {"request": H, "response": H})],
            id="harm of xstest",
        ),
        pytest.param(ATTACK, "jailbreakbench artifacts", [("p", "r", {"request": H, "response": H})], id="an attack"),
        pytest.param(
            {**ATTACK, "prompt": None, "response": None},
            "jailbreakbench artifacts",
            ["the attack found no prompt"],
            id="an attack that found nothing",
        ),
        pytest.param(
            {**ATTACK, "jailbroken": None},
            "jailbreakbench artifacts",
            [("p", "r", {"request": H})],
            id="null is no label",
        ),
        pytest.param(
            {**DNA, "B_response": "b", "B_harmful": "1", "B_action": "5"},
            "do-not-answer",
            [
                ("q", "a", {"request": H, "completion": "refusal", "response": U}),
                ("q", "b", {"request": H, "completion": "compliance", "response": H}),
            ],
            id="each model of do-not-answer",
        ),
        pytest.param(
            {**DNA, "A_action": "3"},
            "do-not-answer",
            [("q", "a", {"request": H, "response": U})],
            id="an answer with a caution is neither",
        ),
        pytest.param(CHAT, "toxicchat", [("u", None, {"request": U})], id="toxicchat judges the input"),
        pytest.param(
            {**CHAT, "human_annotation": "False"}, "toxicchat", ["no human annotation of toxicity"], id="nobody judged"
        ),
        pytest.param(
            {"id": 1, "text": "t", "expected_label": "harmful", "predicted_label": "safe", "reasoning": {}},
            "traces",
            [("t", None, {"request": H})],
            id="a trace's expected label and not its prediction",
        ),
        pytest.param(
            {"id": 1, "text": "t", "expected_label": None, "predicted_label": "safe"},
            "traces",
            [("t", None, {})],
            id="a trace without a label",
        ),
        pytest.param(
            {"case_id": "x", "input_text": "t", "final_label": "harmful", "review_status": "pending"},
            "wizard101 quarantine",
            [("t", None, {})],
            id="what a cascade decided is no label",
        ),
        pytest.param(
            {"text": "t", "label": "harmful", "source": "beavertails", "category": "{}"},
            "beavertails prompts",
            [("t", None, {})],
            id="a response's label is not put on its prompt",
        ),
        pytest.param(
            {"goal": "g", "target": "Sure, here is"}, "advbench", [("g", None, {"request": H})], id="advbench"
        ),
        pytest.param({"forbidden_prompt": "f"}, "strongreject", [("f", None, {"request": H})], id="strongreject"),
        pytest.param(
            {"harm_area": "h", "prompts_final": "s"}, "simplesafetytests", [("s", None, {"request": H})], id="simple"
        ),
        pytest.param(
            {"Behavior": "b", "FunctionalCategory": "standard", "ContextString": "", "SemanticCategory": "s"},
            "harmbench",
            [("b", None, {"request": H})],
            id="harmbench",
        ),
        pytest.param(
            {"instruction": "i", "input": "about", "output": "o"},
            "instructions",
            [("i\nabout", "o", {})],
            id="instructions that nobody labeled",
        ),
        pytest.param(
            {"instruction": "i", "input": 5, "output": "o"},
            "instructions",
            ["the instruction or its input is not a text"],
            id="an input that is no text",
        ),
        pytest.param({"prompt": "p", "instruction": "i", "output": "o"}, "columns", [("p", None, {})], id="a prompt"),
        pytest.param(
            {"query": "q", "final_query": "f", "category": "c"}, "pap rewrites", [("f", None, {"request": H})], id="pap"
        ),
        pytest.param(
            {"prompt": "p", "response": "r", "data_type": "safety"}, "columns", [("p", "r", {})], id="no such name"
        ),
    ],
)
def test_what_a_known_record_says(record: dict[str, Any], name: str, rows: list[Any]) -> None:
    assert read(record) == (name, rows)


@pytest.mark.parametrize("odd", [None, 5, True, "x", "", [], ["a"], {}, {"safety": 1}, {"toxicity": []}])
@pytest.mark.parametrize("known", KNOWN, ids=lambda known: known.name)
def test_no_value_in_a_known_column_is_more_than_a_refusal(known: Format, odd: Any) -> None:
    record = dict.fromkeys(known.columns, odd)
    recognize(record, "harmful benign deepset contrast.json", "request")
    rows = list(RowReader("a", known, Data(path="a", split="pool")).rows(1, record))
    assert rows
    assert {type(row) for row in rows} <= {Refused, SampleRow}


ANSWERED = {"instruction": "i", "input": "", "output": "o"}
CONTRAST = {"category": "Requests with safety concerns", "subcategory": "s", "prompt": "p", "response": ""}
NAMES = (
    "harmful-behaviors.csv",
    "Benign_behaviors.csv",
    "Alpaca_demo.json",
    "safety_only_data.json",
    "Q-Harm.json",
    "I-Alpaca.json",
    "sft_train_nocot.json",
    "coconot_contrast.jsonl",
    "deepset_train.csv",
    "prompt-injection.parquet",
    "catqa.json",
    "x",
)


@pytest.mark.parametrize(
    ("record", "name", "rows"),
    [
        (JBB, "jailbreakbench behaviors", [("g", None, {})]),
        (ANSWERED, "instructions", [("i", "o", {})]),
        ({"prompt": "p"}, "columns", [("p", None, {})]),
        ({"prompt": "p", "response": "r", "data_type": "safety"}, "columns", [("p", "r", {})]),
        ({"prompt": "p", "category": "c", "subcategory": "s"}, "columns", [("p", None, {})]),
        (CONTRAST, "coconot", [("p", None, {"request": H})]),
        ({"text": "t", "label": "1"}, "columns", [("t", None, {"request": H})]),
        ({"text": "t", "label": 0}, "columns", [("t", None, {"request": U})]),
    ],
)
def test_a_files_name_says_nothing(record: dict[str, Any], name: str, rows: list[Any]) -> None:
    assert [read(record, file) for file in NAMES] == [(name, rows)] * len(NAMES)


def test_a_published_set_is_known_by_its_first_text_and_by_nothing_else() -> None:
    own = "An invented instruction that no set begins with."
    known = begins_with("instruction", digest(f"  {own}\n"))
    assert known({"instruction": own}, "x")
    assert not known({"instruction": own + "!"}, "x")
    assert not known({"instruction": None}, "x")


def test_a_format_that_is_named_need_not_be_recognise() -> None:
    found = find_format("JailbreakBench", ATTACK, "x.json", "request")
    assert found is not None
    assert found.name == "jailbreakbench artifacts"
    assert find_format("jailbreakbench-benign", JBB, "x.csv", "request") is not None
    assert find_format("", ATTACK, "x.json", "request") is None
    assert len({known.name for known in KNOWN}) == len(KNOWN)


@pytest.mark.parametrize(
    ("name", "format", "rows", "refused", "labels"),
    [
        (
            "wildguardtest/wildguardtest.parquet",
            "wildguardmix",
            1209,
            0,
            {
                "request": {H: 530, U: 661},
                "completion": {"compliance": 813, "refusal": 392},
                "response": {H: 198, U: 1000},
            },
        ),
        (
            "do_not_answer/data_en.csv.gz",
            "do-not-answer",
            5634,
            0,
            {"request": {H: 5634}, "completion": {"compliance": 185, "refusal": 1541}, "response": {H: 193, U: 5441}},
        ),
        (
            "do_not_answer/gpt4_review_Claude.csv.gz",
            "do-not-answer reviews",
            939,
            0,
            {"request": {H: 939}, "completion": {"compliance": 16, "refusal": 280}},
        ),
        (
            "jailbreakbench/artifacts_PAIR_gpt-4-0125-preview.json",
            "jailbreakbench artifacts",
            59,
            31,
            {"request": {H: 59}, "response": {H: 30, U: 29}},
        ),
        ("jailbreakbench/behaviors_harmful.csv", "jailbreakbench harmful", 90, 0, {"request": {H: 90}}),
        ("advbench/harmful_behaviors.csv", "advbench", 520, 0, {"request": {H: 520}}),
        ("harmbench/harmbench_behaviors_text_all.csv", "harmbench", 139, 0, {"request": {H: 139}}),
        ("strongreject/strongreject.csv", "strongreject", 313, 0, {"request": {H: 313}}),
        ("simple_safety_tests/SimpleSafetyTests.csv", "simplesafetytests", 100, 0, {"request": {H: 100}}),
        (
            "recorded/1B/XSTestResponseRefusal/generated_predictions.jsonl.gz",
            "guardreasoner predictions",
            309,
            0,
            {"completion": {"compliance": 190, "refusal": 119}},
        ),
        (
            "recorded/8B/AegisSafetyTest/generated_predictions.jsonl.gz",
            "guardreasoner predictions",
            359,
            0,
            {"request": {H: 232, U: 127}},
        ),
        ("wizard101_history/sample_3task_data.json", "guardreasoner train", 5, 0, {"request": {H: 3, U: 2}}),
        ("wizard101_history/gemini3_traces.json", "traces", 10, 0, {"request": {H: 8, U: 2}}),
        ("wizard101_history/hard_samples_exp18.json.gz", "wizard101 results", 63, 0, {"request": {H: 17, U: 46}}),
        ("wizard101_history/l2_model_comparison.json", "wizard101 edge cases", 7, 0, {"request": {H: 5, U: 2}}),
        ("wizard101/benchmark_beavertails_30k.json.gz", "beavertails prompts", 3021, 0, {}),
        ("wizard101/quarantine_deepset_train.csv", "prompt injections", 544, 0, {}),
        ("multijail/MultiJail.csv", "multijail", 3150, 0, {"request": {H: 3150}}),
        ("star1/STAR-1.json.gz", "star-1", 958, 0, {"request": {H: 958}, "response": {U: 958}}),
        ("dices/dices_990.json.gz", "dices", 990, 0, {"response": {H: 160, U: 830}}),
        (
            "coconot/coconot_pref.jsonl.gz",
            "coconot preferences",
            1854,
            0,
            {"request": {U: 1854}, "completion": {"compliance": 927}},
        ),
        ("jailbreak_prompts/inthewild_jailbreak_llms.json.gz", "in-the-wild jailbreaks", 658, 0, {"request": {H: 658}}),
        ("wizard101/raw_harmful_behaviors.json", "wizard101 raw harmful", 400, 0, {"request": {H: 400}}),
        ("wizard101/raw_harmless_alpaca.json", "wizard101 raw harmless", 400, 0, {"request": {U: 400}}),
        ("catqa/catqa_chinese.json", "catqa", 550, 0, {"request": {H: 550}}),
        ("alpaca/alpaca_instructions_val.json", "alpaca instructions", 6264, 0, {"request": {U: 6264}}),
        (
            "alpaca/alpaca_en_demo.json",
            "alpaca",
            998,
            0,
            {"request": {U: 998}, "completion": {"compliance": 998}, "response": {U: 998}},
        ),
        ("alpaca/seed_tasks.jsonl", "alpaca seed tasks", 175, 0, {"request": {U: 175}}),
        ("lrm_safety_study/pap_advbenchsub.jsonl", "pap rewrites", 50, 0, {"request": {H: 50}}),
        (
            "lrm_safety_study/sft_train_nocot.json.gz",
            "lrm safety study",
            989,
            0,
            {"request": {H: 989}, "completion": {"refusal": 989}, "response": {U: 989}},
        ),
        (
            "safety_tuned_llamas/safety_only_data_Instructions.json.gz",
            "safety-tuned llamas",
            2483,
            0,
            {"response": {U: 2483}},
        ),
        ("safety_tuned_llamas/I-CoNa.json", "safety-tuned llamas harmful", 178, 0, {"request": {H: 178}}),
        ("safety_tuned_llamas/I-Alpaca.json", "safety-tuned llamas unharmful", 50, 0, {"request": {U: 50}}),
    ],
)
def test_the_real_files_give_the_counts_that_came_with_them(
    name: str, format: str, rows: int, refused: int, labels: dict[str, dict[str, int]]
) -> None:
    if not (SHARED_DATA / name).exists():
        pytest.skip(f"{name} of the real data is not here")
    got = read_file(SHARED_DATA / name, split="pool")
    assert (got.format, len(got.rows), len(got.refused), label_counts(got)) == (format, rows, refused, labels)
