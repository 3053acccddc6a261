"""What annotation tools export: the text, the answer that most annotators gave, and no answer that nobody gave."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.loop.data.whole_files import label_counts, read_file
from tests.where import SHARED_CASES

TEXT = "Which glue holds oak?"


def written(folder: Path, *records: Any) -> Path:
    path = folder / "a.json"
    path.write_text(json.dumps(records))
    return path


def studio(*annotations: list[tuple[str, list[str]]], cancelled: tuple[int, ...] = (), **data: Any) -> dict[str, Any]:
    """A task of Label Studio's JSON with the (question, choices) of each annotator."""
    results = [
        [
            {"from_name": name, "to_name": "text", "type": "choices", "value": {"choices": choices}}
            for name, choices in one
        ]
        for one in annotations
    ]
    return {
        "id": 1,
        "data": {"text": TEXT, **data},
        "annotations": [
            {"id": at, "result": result, "was_cancelled": at in cancelled} for at, result in enumerate(results)
        ],
        "predictions": [{"result": [{"from_name": "verdict", "value": {"choices": ["safe"]}, "type": "choices"}]}],
    }


def argilla(said: list[str] | None, states: list[str] | None) -> dict[str, Any]:
    return {
        "id": "0",
        "status": "completed",
        "text": TEXT,
        "verdict.responses": said,
        "verdict.responses.users": ["u"] * len(said or []),
        "verdict.responses.status": states,
        "verdict.suggestion": "safe",
    }


def prodigy(accept: list[Any], answer: str = "accept", names: tuple[Any, ...] = ("unsafe", "safe")) -> dict[str, Any]:
    options = [{"id": name, "text": text} for name, text in zip(names, ("unsafe", "safe"), strict=True)]
    return {"text": TEXT, "options": options, "accept": accept, "answer": answer}


HARMFUL, NONE = {"request": "harmful"}, dict[str, str]()
MIN = {"annotator": 1, "annotation_id": 1, "created_at": "", "updated_at": "", "lead_time": 1.0}
ANSWERED = {"user_id": "u", "status": "submitted"}


@pytest.mark.parametrize(
    ("record", "labels"),
    [
        pytest.param(studio([("verdict", ["unsafe"])]), HARMFUL, id="studio"),
        pytest.param(
            studio([("verdict", ["unsafe"])], [("verdict", ["unsafe"])], [("verdict", ["safe"])]),
            HARMFUL,
            id="the majority",
        ),
        pytest.param(studio([("verdict", ["safe"])], [("verdict", ["unsafe"])], cancelled=(0,)), HARMFUL, id="skipped"),
        pytest.param(
            studio([("verdict", ["unsafe"]), ("quality", ["good"])]), HARMFUL, id="the question with known words"
        ),
        pytest.param({"id": 1, "text": TEXT, "verdict": "unsafe", **MIN}, HARMFUL, id="studio min"),
        pytest.param(
            {"id": 1, "text": TEXT, "verdict": {"choices": ["unsafe"]}, **MIN}, HARMFUL, id="studio min choices"
        ),
        pytest.param(argilla(["unsafe"], ["submitted"]), HARMFUL, id="argilla"),
        pytest.param(argilla(["safe", "unsafe"], ["discarded", "submitted"]), HARMFUL, id="argilla discarded"),
        pytest.param(
            {"fields": {"text": TEXT}, "responses": {"verdict": [{"value": "unsafe", "user_id": "u"}]}, "id": "1"},
            HARMFUL,
            id="argilla 2",
        ),
        pytest.param(
            {
                "fields": {"text": TEXT},
                "responses": [{"values": {"verdict": {"value": "unsafe"}}, "status": "submitted", "user_id": "u"}],
            },
            HARMFUL,
            id="argilla server",
        ),
        pytest.param({"text": TEXT, "verdict": [{"value": "unsafe", **ANSWERED}]}, HARMFUL, id="argilla 1"),
        pytest.param(prodigy(["unsafe"]), HARMFUL, id="prodigy"),
        pytest.param(prodigy([1], names=(1, 0)), HARMFUL, id="prodigy options by number"),
        pytest.param(prodigy([0], names=(0, 1)), HARMFUL, id="prodigy options by the alphabet's number"),
        pytest.param({"id": 1, "text": TEXT, "label": ["unsafe"], "Comments": []}, HARMFUL, id="doccano"),
    ],
)
def test_each_tool_gives_its_text_and_label(tmp_path: Path, record: dict[str, Any], labels: dict[str, str]) -> None:
    (row,) = read_file(written(tmp_path, record), split="dev").rows
    assert (row.prompt, row.response, dict(row.labels)) == (TEXT, None, labels)


@pytest.mark.parametrize(
    ("first", "record"),
    [
        pytest.param(
            studio([("verdict", ["safe"])]),
            studio([("verdict", ["safe"])], [("verdict", ["unsafe"])], text="b"),
            id="a tie",
        ),
        pytest.param(studio([("verdict", ["safe"])]), studio(text="b"), id="nobody"),
        pytest.param(
            studio([("verdict", ["safe"])]), studio([("verdict", ["unsafe"])], cancelled=(0,), text="b"), id="skipped"
        ),
        pytest.param(argilla(["safe"], ["submitted"]), argilla(["unsafe"], ["draft"]), id="a draft"),
        pytest.param(argilla(["safe"], ["submitted"]), argilla(None, None), id="pending"),
        pytest.param(prodigy(["safe"]), prodigy(["unsafe"], "reject"), id="rejected"),
        pytest.param(prodigy(["safe"]), prodigy(["unsafe"], "ignore"), id="ignored"),
        pytest.param(prodigy(["safe"]), prodigy([]), id="no choice"),
        pytest.param({"text": TEXT, "label": ["safe"]}, {"text": TEXT, "label": []}, id="doccano"),
    ],
)
def test_what_nobody_answered_has_no_label(tmp_path: Path, first: dict[str, Any], record: dict[str, Any]) -> None:
    file = read_file(written(tmp_path, first, record), split="dev")
    assert [dict(row.labels) for row in file.rows] == [{"request": "unharmful"}]
    assert [(row.row, row.reason, row.bad) for row in file.refused] == [(2, "no request label", False)]


def test_each_question_speaks_about_what_its_name_says(tmp_path: Path) -> None:
    asked = [("prompt_harm", ["safe"]), ("refusal", ["compliance"]), ("response_harm", ["unsafe"])]
    (row,) = read_file(written(tmp_path, studio(asked, response="Bone glue.")), split="dev").rows
    assert (row.response, dict(row.labels)) == (
        "Bone glue.",
        {"request": "unharmful", "completion": "compliance", "response": "harmful"},
    )


def test_a_question_can_be_mapped_by_its_name(tmp_path: Path) -> None:
    record = studio([("a", ["safe"]), ("b", ["unsafe"])], text=7, question=TEXT)
    (row,) = read_file(written(tmp_path, record), split="dev", map={"prompt": "question", "label": "b"}).rows
    assert (row.prompt, dict(row.labels)) == (TEXT, HARMFUL)


def test_a_conversation_may_be_annotated(tmp_path: Path) -> None:
    talk = [{"role": "user", "content": TEXT}, {"role": "assistant", "content": "Bone glue."}]
    record = studio([("verdict", ["unsafe"])])
    record["data"] = {"dialogue": talk}
    (row,) = read_file(written(tmp_path, record), split="dev").rows
    assert (row.prompt, row.response, dict(row.labels)) == (TEXT, "Bone glue.", {"response": "harmful"})


@pytest.mark.parametrize("record", [{"data": 7, "annotations": []}, {"data": {"text": "a"}, "annotations": [7]}, {}])
def test_a_record_of_another_shape_is_refused_alone(tmp_path: Path, record: dict[str, Any]) -> None:
    file = read_file(written(tmp_path, studio([("verdict", ["safe"])]), record), split="pool")
    assert len(file.rows) == 1
    assert [row.row for row in file.refused if "not in the shape of an export of label studio" in row.reason] == [2]


@pytest.mark.parametrize(
    "name", ["64_label_studio.json", "64_label_studio_min.json", "65_prodigy_choice.jsonl", "66_argilla.jsonl"]
)
def test_the_cases_from_the_wild(name: str) -> None:
    path = SHARED_CASES / "20-annotation-exports" / name
    if not path.exists():
        pytest.skip("the cases are not here")
    file = read_file(path, split="dev")
    assert (len(file.rows), file.refused) == (7, [])
    assert label_counts(file) == {"request": {"unharmful": 5, "harmful": 2}}
