"""Answers of two guards matched row by row: by text, by source, by row number; what is left out is told."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from wizloop.loop.data.records import ImportRefused
from wizloop.loop.evaluation import against
from wizloop.loop.evaluation.against import Sides, left_out, lines, read, recorded_for
from wizloop.loop.evaluation.answered_rows import AnsweredRow, write

HOSTILE = "\x1b]52;c;aGk=\x07[bold]x[/bold]"


def row(number: int, label: str = "harmful", verdict: str | None = "harmful", **other: Any) -> AnsweredRow:
    known: dict[str, Any] = {"prompt": f"prompt {number}", "response": None, "row": f"mine.csv:{number}"} | other
    return AnsweredRow(
        benchmark="mine.csv",
        sample=None,
        main="request",
        labels={"request": label},
        verdict={"request": verdict},
        probability={},
        confidence=None,
        cell=None,
        policy=None,
        **known,
    )


def one_line(ours: list[AnsweredRow], theirs: list[AnsweredRow]) -> against.Line:
    (found,) = lines([Sides("mine.csv", "a", "b", ours, theirs)])
    return found


def test_rows_are_matched_by_text_and_what_is_left_out_is_told() -> None:
    ours = [row(1), row(2, verdict=None), row(3), row(4), row(5, "unharmful")]
    theirs = [row(9), row(3), row(2), row(5, "harmful"), row(1, verdict="unharmful")]
    found = one_line(ours, theirs)
    assert (found.found.n, found.found.only_ours, found.found.only_theirs) == (3, 1, 1)
    assert (found.only_in_ours, found.only_in_theirs, found.labeled_otherwise) == (1, 1, 1)
    assert list(left_out([found])) == [
        "mine.csv, request: 3 rows are compared; left out: 1 answered by a only, 1 answered by b only, "
        "1 labeled otherwise"
    ]
    assert list(left_out([one_line(ours, ours)])) == []


def test_of_rows_with_the_same_text_the_first_is_held_against_the_first() -> None:
    twice = [row(1), row(1, verdict="unharmful"), row(1, response="No.")]
    found = one_line(twice, twice)
    assert (found.found.n, found.found.only_ours, found.found.only_theirs) == (3, 0, 0)
    assert one_line(twice, twice[:1]).only_in_ours == 2


def test_a_task_that_one_guard_does_not_judge_is_left_out() -> None:
    both = replace(row(1), labels={"request": "harmful", "response": "harmful"})
    assert [one.task for one in lines([Sides("mine.csv", "a", "b", [both], [row(1)])])] == ["request"]
    assert lines([Sides("mine.csv", "a", "b", [both], [])]) == []


def test_holm_is_over_all_tasks_and_benchmarks() -> None:
    ours, theirs = [row(at) for at in range(40)], [row(at, verdict=None if at < 8 else "harmful") for at in range(40)]
    alone, *_ = lines([Sides("mine.csv", "a", "b", ours, theirs)] * 3)
    assert alone.found.mcnemar == pytest.approx(2 / 2**8)
    assert alone.found.mcnemar_holm == pytest.approx(6 / 2**8)


@pytest.mark.parametrize("texts", [False, True])
def test_rows_that_were_written_are_read_again(tmp_path: Path, *, texts: bool) -> None:
    rows = [row(1), row(2, "unharmful", None), row(3, "unharmful")]
    path = tmp_path / "rows.jsonl"
    with path.open("w") as file:
        write(file, rows, texts=texts)
    found = one_line(rows, list(reversed(read(path) or [])))
    assert (found.found.n, found.found.only_ours, found.only_in_ours) == (3, 0, 0)
    assert found.found.prompts == 3


@pytest.mark.parametrize(
    ("second", "sentence"),
    [
        ({"label": {}}, "row 2: no label and verdict by task"),
        (
            {"label": {"request": HOSTILE}, "verdict": {}},
            r"row 2: label of request is '\\x1b.*; write harmful or unharmf",
        ),
        ({"label": {}, "verdict": {"completion": 7}}, "row 2: verdict of completion is '7'"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, second: dict[str, Any], sentence: str) -> None:
    path = tmp_path / "rows.jsonl"
    first: dict[str, Any] = {"label": {}, "verdict": {}}
    path.write_text("".join(json.dumps(one) + "\n" for one in (first, second)))
    with pytest.raises(ImportRefused, match=sentence):
        read(path)


def test_a_file_of_something_else_is_no_file_of_rows(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text(json.dumps({"prompt": "a", "label": "harmful", "predict": "Request: harmful"}) + "\n")
    assert read(path) is None


def test_recorded_outputs_are_matched_by_row_number_where_the_text_is_in_the_prompt(tmp_path: Path) -> None:
    said = [("Human user:\nprompt 1\n", "Request: harmful"), ("other", "Request: harmful"), ("A prompt 3", "None")]
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps({"prompt": p, "label": "harmful", "predict": out}) + "\n" for p, out in said))
    ours = [row(1), row(2), row(3), row(4)]
    found = one_line(ours, recorded_for(path, ours, "published"))
    assert (found.found.n, found.found.only_ours, found.only_in_ours, found.only_in_theirs) == (2, 1, 2, 0)
    two = [replace(row(1), labels={"request": "harmful", "completion": "refusal"})]
    with pytest.raises(ImportRefused, match="of one task; these rows are labeled for request, completion"):
        recorded_for(path, two, "published")


def test_rows_of_one_request_are_one_prompt_in_recorded_outputs_too() -> None:
    asked = "Do it.\n\nHuman user:\nHow?\n\nAI assistant:\n"
    rows = [row(at, prompt=f"{asked}{said}\n\n") for at, said in enumerate(("No.", "Yes.", "So."))]
    assert (one_line(rows, rows).found.n, one_line(rows, rows).found.prompts) == (3, 1)
