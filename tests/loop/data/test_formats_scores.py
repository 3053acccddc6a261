"""Comments that raters scored: the cut is the published one, and it is told."""

import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from tests.loop.data.whole_files import read_file
from wizloop.loop.data.format_choice import recognize
from wizloop.loop.data.sample_rows import RowReader
from wizloop.recipes.sections import Data

JIGSAW = {
    "id": "a",
    "comment_text": "t",
    "toxic": 1,
    "severe_toxic": 0,
    "obscene": 0,
    "threat": 0,
    "insult": 1,
    "identity_hate": 0,
}
BIAS = {"id": 1, "target": 0.6, "comment_text": "t", "severe_toxicity": 0.1, "obscene": 0.7, "insult": 0.6}
CIVIL = {"text": "t", "toxicity": 0.49, "severe_toxicity": 0.0, "insult": 0.3}


def read(record: dict[str, Any]) -> tuple[str, Any]:
    found = recognize(record, "a.csv", "request")
    assert found is not None
    (row,) = RowReader("a.csv", found, Data(path="a", split="pool")).rows(1, record)
    return found.name, row[1] if hasattr(row, "reason") else (row[0], dict(row[2]), row[5])


@pytest.mark.parametrize(
    ("record", "name", "row"),
    [
        (JIGSAW, "jigsaw", ("t", {"request": "harmful"}, "insult")),
        ({**JIGSAW, "toxic": "0", "insult": "0"}, "jigsaw", ("t", {"request": "unharmful"}, None)),
        (dict.fromkeys(JIGSAW, "true"), "jigsaw", ("true", {"request": "harmful"}, "threat")),
        ({**JIGSAW, "toxic": "false", "insult": "false"}, "jigsaw", ("t", {"request": "unharmful"}, None)),
        ({"comment_text": "t", "toxic": -1, "insult": -1}, "jigsaw", ("t", {}, None)),
        ({"comment_text": "t", "lang": "tr", "toxic": 0.5}, "jigsaw", ("t", {"request": "harmful"}, None)),
        (BIAS, "jigsaw unintended bias", ("t", {"request": "harmful"}, "obscene")),
        ({**BIAS, "target": float("nan")}, "jigsaw unintended bias", ("t", {}, None)),
        (CIVIL, "civil comments", ("t", {"request": "unharmful"}, None)),
        ({**CIVIL, "toxicity": "0.500000"}, "civil comments", ("t", {"request": "harmful"}, None)),
    ],
)
def test_a_score_from_the_cut_on_is_harmful(record: dict[str, Any], name: str, row: Any) -> None:
    assert read(record) == (name, row)


def test_the_hubs_names_of_classes_are_scores(tmp_path: Path) -> None:
    names = {"toxic": {"names": ["false", "true"], "_type": "ClassLabel"}}
    table = pyarrow.Table.from_pylist([{"comment_text": "a", "toxic": 1}, {"comment_text": "b", "toxic": 0}])
    told = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": names}})})
    pyarrow.parquet.write_table(told, tmp_path / "a.parquet")
    got = read_file(tmp_path / "a.parquet", split="seed")
    assert (got.format, [dict(row.labels) for row in got.rows]) == (
        "jigsaw",
        [{"request": "harmful"}, {"request": "unharmful"}],
    )


@pytest.mark.parametrize("odd", [7, "much", [1], {"a": 1}])
def test_what_is_no_score_is_refused(odd: object) -> None:
    name, reason = read({**BIAS, "target": odd})
    assert name == "jigsaw unintended bias"
    assert reason.endswith("not a score from 0 to 1")


def test_a_word_for_toxicity_is_no_score() -> None:
    assert read({"text": "t", "toxicity": "high"})[0] == "columns"


@pytest.mark.parametrize("record", [JIGSAW, BIAS, CIVIL])
def test_the_cut_is_told(record: dict[str, Any]) -> None:
    found = recognize(record, "a.csv", "request")
    assert found is not None
    assert "of 0.5 or more is harmful" in found.note
