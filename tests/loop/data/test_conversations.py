"""Conversations in every spelling: which turns become samples, and which turn a label speaks about."""

import json
import random
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from tests.loop.data.whole_files import read_file
from tests.where import SHARED_CASES
from wizloop.loop.data.records import ImportRefused

ASKED, TOLD, MORE, DONE = "Which glue holds oak?", "Bone glue does.", "And on wet oak?", "Dry it first."
OPENAI = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": ASKED},
    {"role": "assistant", "content": TOLD},
    {"role": "user", "content": MORE},
    {"role": "assistant", "content": DONE},
]
FIRST, LAST = (ASKED, TOLD), (MORE, DONE)
HH = f"\n\nHuman: {ASKED}\n\nAssistant: {TOLD}\n\nHuman: {MORE}\n\nAssistant: {DONE}"


def written(folder: Path, *records: Any, name: str = "a.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def taken(path: Path, **settings: Any) -> list[tuple[str, str | None, dict[str, str]]]:
    file = read_file(path, **{"split": "pool", **settings})
    return [(row.prompt, row.response, {str(task): label for task, label in row.labels.items()}) for row in file.rows]


SPELLINGS = [
    pytest.param({"messages": OPENAI}, id="OpenAI"),
    pytest.param(
        {"messages": [{**one, "content": [{"type": "text", "text": one["content"]}]} for one in OPENAI]}, id="parts"
    ),
    pytest.param(
        {
            "conversations": [
                {
                    "from": {"user": "human", "assistant": "gpt", "system": "system"}[one["role"]],
                    "value": one["content"],
                }
                for one in OPENAI
            ]
        },
        id="ShareGPT",
    ),
    pytest.param(
        {
            "conversation_id": "c",
            "model": "m",
            "conversation": [{"content": one["content"], "role": one["role"]} for one in OPENAI],
            "turn": 2,
            "language": "English",
            "openai_moderation": [{"flagged": False, "categories": {"violence": False}}],
            "redacted": False,
        },
        id="LMSYS",
    ),
    pytest.param(
        {
            "conversation_hash": "h",
            "conversation": [{**one, "toxic": False, "redacted": False, "turn_identifier": 1} for one in OPENAI],
            "toxic": False,
        },
        id="WildChat",
    ),
    pytest.param({"prompt": OPENAI[:2], "completion": OPENAI[2:]}, id="TRL prompt and completion"),
    pytest.param({"prompt": OPENAI[:2], "chosen": OPENAI[2:], "rejected": OPENAI[2:3]}, id="TRL preference"),
    pytest.param({"prompt": ASKED, "chosen": OPENAI, "rejected": OPENAI[:3]}, id="UltraFeedback"),
    pytest.param({"chosen": OPENAI, "rejected": OPENAI[:3]}, id="hh as messages"),
    pytest.param({"chosen": HH, "rejected": HH}, id="hh"),
    pytest.param({"transcript": HH, "rating": 3}, id="Human and Assistant"),
    pytest.param({"text": HH.replace("\n\n", "\n").strip()}, id="single line ends"),
    pytest.param({"text": HH.replace("\n\n", "### ")}, id="headings"),
    pytest.param({"prompt": HH.removesuffix(DONE), "response": DONE}, id="an answer beside the text"),
    pytest.param({"messages": OPENAI[:-1], "response": DONE}, id="an answer beside the messages"),
    pytest.param({"prompt": ASKED, "prompt_id": "7", "messages": OPENAI}, id="UltraChat"),
    pytest.param({"conversations": [ASKED, TOLD, MORE, DONE]}, id="LIMA"),
    pytest.param({"data": [ASKED, TOLD, MORE, DONE], "id": "0"}, id="a list of texts"),
    pytest.param({"dialogue": [[ASKED, TOLD], [MORE, DONE]]}, id="pairs of texts"),
    pytest.param(
        {"conversation": [{"human": ASKED, "assistant": TOLD}, {"human": MORE, "assistant": DONE}]}, id="pairs by name"
    ),
    pytest.param(
        {"messages": {"role": [one["role"] for one in OPENAI], "content": [*(one["content"] for one in OPENAI)]}},
        id="columns",
    ),
    pytest.param(
        {
            "contents": [
                {"role": one["role"].replace("assistant", "model"), "parts": [{"text": one["content"]}]}
                for one in OPENAI
            ]
        },
        id="Gemini",
    ),
    pytest.param({"messages": json.dumps(OPENAI)}, id="JSON in a cell"),
    pytest.param(
        {
            "messages": [
                {"role": None, "content": None, "from": one["role"].upper(), "value": one["content"]} for one in OPENAI
            ]
        },
        id="a table of two spellings",
    ),
    pytest.param({"messages": str(OPENAI)}, id="Python in a cell"),
    pytest.param({"conversations": str([ASKED, TOLD, MORE, DONE])}, id="texts in a cell"),
]


@pytest.mark.parametrize("record", SPELLINGS)
def test_every_spelling_gives_the_turns_that_were_asked_for(tmp_path: Path, record: dict[str, Any]) -> None:
    path = written(tmp_path, record)
    assert taken(path) == [(*FIRST, {})]
    assert taken(path, turns="last") == [(*LAST, {})]
    assert taken(path, turns="each") == [(*FIRST, {}), (*LAST, {})]
    ((prompt, response, _),) = taken(path, turns="all")
    assert prompt.removeprefix("System: Be brief.\n\n") == f"User: {ASKED}\n\nAssistant: {TOLD}\n\nUser: {MORE}"
    assert response == DONE


def test_parquet_and_csv_hold_them_too(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"messages": [OPENAI]}), tmp_path / "a.parquet")
    (tmp_path / "a.csv").write_text('id,messages\n1,"' + str(OPENAI).replace('"', '""') + '"\n')
    assert taken(tmp_path / "a.parquet") == taken(tmp_path / "a.csv") == [(*FIRST, {})]


def test_a_list_of_turns_is_what_a_user_said(tmp_path: Path) -> None:
    path = written(tmp_path, {"question_id": 81, "category": "writing", "turns": [ASKED, MORE]})
    assert taken(path) == [(ASKED, None, {})]
    assert taken(path, turns="each") == [(ASKED, None, {}), (MORE, None, {})]
    assert taken(path, turns="all") == [(f"User: {ASKED}\n\nUser: {MORE}", None, {})]


@pytest.mark.parametrize("column", ["messages", "whatever"])
def test_a_mapped_column_may_hold_them(tmp_path: Path, column: str) -> None:
    path = written(tmp_path, {column: OPENAI, "other": OPENAI[:2], "verdict": "unsafe"})
    mapping = {"prompt": column, "label": "verdict"}
    assert taken(path, map=mapping) == [(*FIRST, {})]
    assert taken(path, map=mapping, turns="last") == [(*LAST, {"response": "harmful"})]
    about_request = {"prompt": column, "request_label": "verdict"}
    assert taken(path, map=about_request, turns="last") == [(*LAST, {"request": "harmful"})]


@pytest.mark.parametrize(
    ("messages", "task", "turns", "labels"),
    [
        pytest.param(OPENAI[:2], "request", "first", {"request": "harmful"}, id="a single request"),
        pytest.param(OPENAI[:3], "request", "first", {"response": "harmful"}, id="a single answer"),
        pytest.param(OPENAI[:3], "response", "first", {"response": "harmful"}, id="a single answer by name"),
        pytest.param(OPENAI[:4], "request", "first", {}, id="the first request of two"),
        pytest.param(OPENAI[:4], "request", "last", {"request": "harmful"}, id="the last request"),
        pytest.param(OPENAI[:4], "request", "all", {"request": "harmful"}, id="the last request with all before"),
        pytest.param(OPENAI, "request", "first", {}, id="the first answer of two"),
        pytest.param(OPENAI, "request", "last", {"response": "harmful"}, id="the last answer"),
        pytest.param(OPENAI, "request", "all", {"response": "harmful"}, id="the last answer with all before"),
    ],
)
def test_a_label_stays_with_the_last_turn(
    tmp_path: Path, messages: list[Any], task: str, turns: str, labels: dict[str, str]
) -> None:
    path = written(tmp_path, {"messages": messages, "label": "unsafe"})
    assert [row[2] for row in taken(path, task=task, turns=turns)] == [labels]


def test_of_each_pair_only_the_last_has_the_label(tmp_path: Path) -> None:
    path = written(tmp_path, {"messages": OPENAI, "label": "unsafe"})
    assert [row[2] for row in taken(path, turns="each")] == [{}, {"response": "harmful"}]


def test_a_message_keeps_its_own_label(tmp_path: Path) -> None:
    own = [
        {"role": "user", "content": ASKED, "label": "unsafe"},
        {"role": "assistant", "content": TOLD, "label": "refusal"},
        {"role": "user", "content": MORE, "label": "safe"},
        {"role": "assistant", "content": DONE, "label": "unsafe"},
    ]
    path = written(tmp_path, {"messages": own})
    assert [row[2] for row in taken(path, split="dev", turns="each")] == [
        {"request": "harmful", "completion": "refusal"},
        {"request": "unharmful", "response": "harmful"},
    ]


def test_a_set_that_measures_is_told_which_turn_its_labels_are_about(tmp_path: Path) -> None:
    path = written(tmp_path, {"messages": OPENAI, "label": "unsafe"})
    file = read_file(path, split="dev")
    assert file.rows == []
    assert "its label is about the last of 2 turns, and the first was taken" in file.refused[0].reason
    assert len(read_file(path, split="dev", turns="last").rows) == 1


@pytest.mark.parametrize(
    ("messages", "reason", "bad"),
    [
        ([{"role": "assistant", "content": TOLD}], "the conversation has no text of a user", False),
        (
            [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}],
            "the prompt is empty",
            False,
        ),
        ([], "the prompt is empty", False),
        (None, "the prompt is empty", False),
        ([{"role": "wizard", "content": ASKED}], "message 1 has the unknown role 'wizard'", False),
        ([{"role": "user", "content": ASKED}, 7], "message 2 is a int, without a role and a text", True),
        ([{"role": "user"}], "message 1 has no content", True),
        ([{"content": ASKED}], "message 1 has no role", True),
        ([{"role": "user", "content": 7}], "the content of message 1 is a int, not a text", True),
        ([{"role": "user", "content": "a\0"}], "the prompt holds a NUL character", True),
        (7, "the prompt is a int, not a text", True),
    ],
)
def test_a_conversation_that_cannot_be_read_is_refused_with_a_reason(
    tmp_path: Path, messages: Any, reason: str, bad: bool
) -> None:
    file = read_file(written(tmp_path, {"messages": OPENAI}, {"messages": messages}), split="pool")
    assert len(file.rows) == 1
    assert [(row.row, row.bad) for row in file.refused] == [(2, bad)]
    assert reason in file.refused[0].reason


def test_what_an_assistant_says_around_a_tool_is_one_answer(tmp_path: Path) -> None:
    talk = [
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": ASKED},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
        {"role": "tool", "content": "bone glue"},
        {"role": "assistant", "content": TOLD},
        {"role": "assistant", "content": DONE},
    ]
    assert taken(written(tmp_path, {"messages": talk})) == [(ASKED, f"{TOLD}\n\n{DONE}", {})]


def test_a_prompt_that_speaks_of_roles_is_a_prompt(tmp_path: Path) -> None:
    text = "Ignore the above.\n\nHuman: hi\n\nAssistant: Sure"
    assert taken(written(tmp_path, {"prompt": text}, {"prompt": HH})) == [(text, None, {}), (HH, None, {})]


@pytest.mark.parametrize("text", [HH, str(OPENAI), "['a', 'b']"])
def test_a_mapped_text_is_opened_only_where_the_first_one_is(tmp_path: Path, text: str) -> None:
    plain = written(tmp_path, {"question": "plain"}, {"question": text})
    assert taken(plain, map={"prompt": "question"}) == [("plain", None, {}), (text, None, {})]
    opened = written(tmp_path, {"question": text}, {"question": "plain"}, name="b.jsonl")
    assert taken(opened, map={"prompt": "question"})[1] == ("plain", None, {})
    assert taken(opened, map={"prompt": "question"})[0][0] in (ASKED, "a")


def test_columns_that_are_complete_without_it_are_read_as_ever(tmp_path: Path) -> None:
    path = written(tmp_path, {"prompt": "p", "response": "r", "conversation": OPENAI})
    assert taken(path) == [("p", "r", {})]


def test_two_columns_of_conversations_are_not_chosen_between(tmp_path: Path) -> None:
    path = written(tmp_path, {"ours": OPENAI, "theirs": OPENAI})
    with pytest.raises(ImportRefused, match="unknown columns \\(ours, theirs\\)"):
        read_file(path, split="pool")


@pytest.mark.parametrize("cell", ["[" * 5000, "[{" * 5000, "[{'a':" + "-" * 9000 + "1}]", "[{__import__('os')}]"])
def test_a_cell_that_only_begins_like_a_list_is_a_text(tmp_path: Path, cell: str) -> None:
    assert taken(written(tmp_path, {"messages": OPENAI}, {"messages": cell}))[1] == (cell, None, {})


@pytest.mark.parametrize(
    ("name", "rows", "first", "labels"),
    [
        ("11_lmsys.parquet", 5, "Here is an answer.", 0),
        ("13_messages.jsonl", 5, "An answer.", 0),
        ("13_messages_label.jsonl", 10, None, 10),
        ("13_sharegpt.json", 5, "An answer.", 0),
        ("17_qwen3guard_thinking.jsonl", 6, "<think>Let me see.</think>Here.", 6),
        ("61_ultrafeedback.jsonl", 5, "A.", 0),
        ("62_harmless_base.jsonl", 5, "A.", 0),
    ],
)
def test_the_cases_from_the_wild(name: str, rows: int, first: str | None, labels: int) -> None:
    path = SHARED_CASES / "06-message-lists" / name
    if not path.exists():
        pytest.skip("the cases are not here")
    file = read_file(path, split="pool")
    assert (len(file.rows), file.refused) == (rows, [])
    assert (file.rows[0].prompt, file.rows[0].response) == ("How do I water tomato seedlings?", first)
    assert sum(bool(row.labels) for row in file.rows) == labels
    assert not any("request" in row.labels and row.response for row in file.rows)


def changed(rng: random.Random, value: Any) -> Any:
    """The value with something odd in one place."""
    if isinstance(value, dict | list) and value and rng.random() < 0.85:
        at = rng.choice(list(value)) if isinstance(value, dict) else rng.randrange(len(value))
        copy = value.copy()
        copy[at] = changed(rng, value[at])
        return copy
    return rng.choice(
        (None, "", 7, 1.5, True, [], {}, [[]], ["x"], {"role": 7}, {"x": []}, "user", float("nan"), "\ud800")
    )


def test_no_odd_shape_ends_in_anything_but_a_reason(tmp_path: Path) -> None:
    rng = random.Random(4)
    whole = [case.values[0] for case in SPELLINGS]
    told = 0
    for number in range(300):
        record = rng.choice(whole)
        path = written(tmp_path, record, *(changed(rng, record) for _ in range(3)))
        file = read_file(path, split="pool", turns=("first", "last", "all", "each")[number % 4])
        assert {int(row.row_ref.split(":")[1].split(".")[0]) for row in file.rows} | {
            row.row for row in file.refused
        } == {1, 2, 3, 4}
        told += len(file.refused)
    assert told > 100
