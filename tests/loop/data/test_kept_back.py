"""Rows that no teacher may see: what a column must say, and that a doubt keeps a row back."""

import json
from pathlib import Path

import pytest

from wizloop.loop.data.records import ImportRefused
from wizloop.loop.data.sample_reader import read_samples
from wizloop.recipes.sections import Data


def held(path: Path, send: str) -> list[str]:
    read = read_samples(Data(path=str(path), split="pool", send=send))
    assert read.kept_back is not None
    return [row.prompt for row in read.rows if read.kept_back.holds(row)]


@pytest.mark.parametrize(
    ("words", "sent"),
    [
        (["yes", "no", "", "maybe"], [True, False, False, False]),
        (["TRUE", "False", "1", "0"], [True, False, True, False]),
    ],
)
def test_only_a_plain_yes_lets_a_row_go(tmp_path: Path, words: list[str], sent: list[bool]) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("prompt,Share\n" + "".join(f"text {n},{word}\n" for n, word in enumerate(words)))
    assert held(path, "share") == [f"text {n}" for n, goes in enumerate(sent) if not goes]


def test_a_value_may_say_it_too_and_a_row_without_the_column_stays(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [{"prompt": "a", "origin": "Public"}, {"prompt": "b", "origin": "crm"}, {"prompt": "c"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert held(path, "origin=public") == ["b", "c"]


@pytest.mark.parametrize("send", ["share", "share=yes"])
def test_its_column_is_not_called_ignored(tmp_path: Path, send: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("prompt,Share,color\na,yes,red\n")
    assert read_samples(Data(path=str(path), split="pool", send=send)).note == "ignored columns: color"
    assert "Share, color" in read_samples(Data(path=str(path), split="pool")).note


def test_a_file_without_the_column_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("prompt\na\n")
    with pytest.raises(ImportRefused, match="no column 'share', which says what may be sent to a teacher"):
        held(path, "share")
