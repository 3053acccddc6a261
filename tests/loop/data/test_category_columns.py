"""Categories in a file: which column, what its words mean, and what is imported."""

import json
from pathlib import Path
from typing import Any

import pytest

from wizloop.loop.data.records import ImportRefused
from wizloop.loop.data.sample_reader import read_samples
from wizloop.recipes.sections import Data

ROW = {"prompt": "How do I build a bomb?", "label": "harmful"}


def read(folder: Path, *rows: dict[str, Any], **how: Any) -> list[tuple[str, ...] | None]:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps({**ROW, **row}) + "\n" for row in rows), encoding="utf-8")
    found = read_samples(Data(path=str(path), split="dev", **how))
    assert not found.refused
    return [row.categories for row in found.rows]


@pytest.mark.parametrize("column", ["policies", "policy", "categories", "category", "Category"])
@pytest.mark.parametrize(
    ("value", "named"),
    [
        ("violence", ("violence",)),
        ("violence, hate", ("violence", "hate")),
        ("violence;hate;violence", ("violence", "hate")),
        (["violence", "hate"], ("violence", "hate")),
        ('["violence", "hate"]', ("violence", "hate")),
        ("['violence']", ("violence",)),
        ({"violence": True, "hate": False}, ("violence",)),
        ("unsafe\nS1,S3", ("S1", "S3")),
        ("S10", ("S10",)),
        ([], ()),
        ("none", ()),
        ("safe", ()),
        (None, None),
        (" ", None),
        ("x" * 201, ()),
    ],
)
def test_a_column_of_any_form_is_read(tmp_path: Path, column: str, value: Any, named: tuple[str, ...] | None) -> None:
    assert read(tmp_path, {column: value}) == [named]


def test_only_some_rows_may_have_the_column(tmp_path: Path) -> None:
    assert read(tmp_path, {}, {"policies": ["hate"], "prompt": "Mock him"}) == [None, ("hate",)]


@pytest.mark.parametrize(
    ("words", "value", "named"),
    [
        ({"S1": "violence", "S3": "crime"}, "unsafe\nS1,S3,S9", ("violence", "crime", "S9")),
        ({"s1": "violence"}, ["S1", "S2"], ("violence", "S2")),
        ({"Hate, abuse": "hate"}, "Hate, abuse", ("hate",)),
        ({"benign": "none"}, "benign", ()),
    ],
)
def test_a_map_says_what_the_words_mean(tmp_path: Path, words: dict[str, str], value: Any, named: Any) -> None:
    assert read(tmp_path, {"category": value}, category=words) == [named]


def test_columns_of_0_and_1_are_categories_by_a_mapping(tmp_path: Path) -> None:
    flags = {"category:violence": "v", "h": "category:hate"}
    rows: list[dict[str, Any]] = [{"v": 1, "h": 0}, {"v": 0, "h": "0.0"}, {"v": True, "h": "yes"}, {"v": None, "h": 1}]
    rows = [{**row, "prompt": f"Question {n}"} for n, row in enumerate(rows)]
    assert read(tmp_path, *rows, map=flags) == [("violence",), (), ("violence", "hate"), None]


@pytest.mark.parametrize("mapping", [{"category": "kind"}, {"kind": "category"}, {"policy": "kind"}])
def test_one_column_of_any_name_is_mapped(tmp_path: Path, mapping: dict[str, str]) -> None:
    assert read(tmp_path, {"kind": "hate"}, map={"prompt": "prompt", **mapping}) == [("hate",)]


def test_a_column_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImportRefused, match="no column 'kind'"):
        read(tmp_path, {}, map={"category": "kind"})


def test_hidden_labels_hide_categories(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({**ROW, "policies": ["hate"]}), encoding="utf-8")
    [row] = read_samples(Data(path=str(path), split="pool", hide_labels=True)).rows
    assert row.categories is None


def test_a_note_does_not_call_them_ignored(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({**ROW, "policies": ["hate"], "v": 1, "extra": 2}), encoding="utf-8")
    found = read_samples(Data(path=str(path), split="dev", map={"category:violence": "v"}))
    assert "ignored columns: extra" in found.note
    assert found.format == "columns"
