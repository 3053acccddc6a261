"""Files are read into one's own labels: its words as themselves, others by --label, and nothing is guessed."""

import json
from pathlib import Path
from typing import Any

import pytest

from wizloop.loop.data.records import ImportRefused
from wizloop.loop.data.sample_reader import SampleFile, read_samples
from wizloop.loop.teaching.given_rows import GivenRow, open_rows
from wizloop.loop.words import Declaration
from wizloop.recipes.sections import Data

SPAM = Declaration(request=("spam", "ham"), completion=(), response=())
THREE = Declaration(request=("harmful", "controversial", "unharmful"), completion=(), response=())


def file_of(tmp_path: Path, rows: list[dict[str, Any]]) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(tmp_path: Path, words: list[Any], declared: Declaration, column: str = "label", **how: Any) -> SampleFile:
    path = file_of(tmp_path, [{"text": f"Text number {n}", column: word} for n, word in enumerate(words)])
    return read_samples(Data(path=str(path), split="dev", **how), declared)


def labels(found: SampleFile) -> list[str]:
    return [row.labels["request"] for row in found.rows]


def test_its_words_are_read_as_themselves_in_any_case(tmp_path: Path) -> None:
    assert labels(read(tmp_path, ["spam", "Ham", " HAM "], SPAM)) == ["spam", "ham", "ham"]
    assert labels(read(tmp_path, ["harmful", "controversial", "safe"], THREE)) == [*THREE.request]


def test_other_words_are_what_the_user_says(tmp_path: Path) -> None:
    found = read(tmp_path, [1, 0, "spam"], SPAM, label={"1": "spam", "ham": "0"})
    assert labels(found) == ["spam", "ham", "spam"]


def test_words_that_are_not_declared_are_refused_and_not_guessed(tmp_path: Path) -> None:
    found = read(tmp_path, [1, 0, "harmful", "spam"], SPAM)
    assert labels(found) == ["spam"]
    assert found.fault is not None
    assert "--label 1=ham" in found.fault
    with pytest.raises(ImportRefused, match="with one of spam, ham, none"):
        read(tmp_path, ["spam"], SPAM, label={"x": "harmful"})


@pytest.mark.parametrize(("declared", "kept"), [(SPAM, ["ham", "spam"]), (THREE, [])])
def test_the_opposite_of_a_column_exists_only_of_two_labels(
    tmp_path: Path, declared: Declaration, kept: list[str]
) -> None:
    found = read(tmp_path, list(declared.request), declared, column="mark", map={"request_label": "not mark"})
    assert labels(found) == kept


def test_labels_of_a_task_that_is_not_judged_are_left_out(tmp_path: Path) -> None:
    row = {"prompt": "Hi", "response": "Yes", "request_label": "spam", "response_label": "nonsense"}
    how = {"request_label": "request_label", "response_label": "response_label"}
    [found] = read_samples(Data(path=str(file_of(tmp_path, [row])), split="dev", map=how), SPAM).rows
    assert found.labels == {"request": "spam"}


def test_reasoning_that_exists_is_read_in_these_words(tmp_path: Path) -> None:
    rows = [
        {"text": "Win a prize", "reasoning": "It lures people with a prize.", "label": "spam"},
        {"text": "See you at 8", "reasoning": "A friend writes.\nAnswers:\nRequest: ham", "label": "ham"},
        {"text": "Hello", "reasoning": "It greets.", "label": "harmful"},
    ]
    found = list(open_rows(Data(path=str(file_of(tmp_path, rows)), split="seed"), SPAM).rows)
    assert [row.trace.request for row in found if isinstance(row, GivenRow)] == ["spam", "ham"]
