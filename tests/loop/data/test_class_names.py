"""Class numbers and the names that a Parquet file's own metadata give them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from tests.loop.data.whole_files import read_file
from wizloop.loop.data.class_names import of_metadata
from wizloop.loop.data.files import read_records
from wizloop.loop.data.records import BadRow

ALPHABET = {"names": ["harmful", "unharmful"], "_type": "ClassLabel"}
TEXT = {"dtype": "string", "_type": "Value"}


def parquet(folder: Path, columns: Mapping[str, Any], features: Any) -> Path:
    path = folder / "train-00000-of-00001.parquet"
    about = {b"huggingface": features if isinstance(features, bytes) else json.dumps(told(features)).encode()}
    pyarrow.parquet.write_table(pyarrow.table(columns).replace_schema_metadata(about), path)
    return path


def told(features: Any) -> dict[str, Any]:
    return {"info": {"features": features}}


@pytest.mark.parametrize("names", [["harmful", "unharmful"], ["safe", "unsafe"], ["Unsafe", "Safe"]])
def test_a_number_is_what_its_name_says(tmp_path: Path, names: list[str]) -> None:
    columns = {"text": ["a", "b", "c"], "label": [0, 1, -1]}
    path = parquet(tmp_path, columns, {"text": TEXT, "label": {"names": names, "_type": "ClassLabel"}})
    harmful = names[0].casefold() in ("harmful", "unsafe")
    labels = ["harmful", "unharmful"] if harmful else ["unharmful", "harmful"]
    got = read_file(path, split="pool")
    assert [row.labels.get("request") for row in got.rows] == [*labels, None]
    assert got.note == ""


def test_names_that_nobody_knows_are_asked_about(tmp_path: Path) -> None:
    kind = {"names": ["jailbreak", "ordinary"], "_type": "ClassLabel"}
    path = parquet(tmp_path, {"text": ["a", "b"], "label": [0, 1]}, {"label": kind})
    assert "'jailbreak' (1), 'ordinary' (1)" in str(read_file(path, split="seed").fault)
    words = {"jailbreak": "harmful", "ordinary": "unharmful"}
    got = read_file(path, split="seed", label=words)
    assert [row.labels["request"] for row in got.rows] == ["harmful", "unharmful"]


@pytest.mark.parametrize(
    ("kind", "value", "named"),
    [
        (ALPHABET, 0, "harmful"),
        ({"feature": ALPHABET, "_type": "List"}, [1, 0], ["unharmful", "harmful"]),
        ({"feature": ALPHABET, "length": -1, "_type": "Sequence"}, [1], ["unharmful"]),
        ([ALPHABET], [0, -1], ["harmful", None]),
        ({"a": {"b": ALPHABET, "c": TEXT}}, {"a": {"b": 0, "c": "x"}}, {"a": {"b": "harmful", "c": "x"}}),
        ([{"label": ALPHABET}], [{"label": 1}], [{"label": "unharmful"}]),
        ({"feature": {"label": ALPHABET}, "_type": "Sequence"}, {"label": [1, 0]}, {"label": ["unharmful", "harmful"]}),
        ({"names": {"0": "harmful", "1": "unharmful"}, "_type": "ClassLabel"}, 0, "harmful"),
        ({"names": None, "num_classes": 2, "_type": "ClassLabel"}, 1, 1),
        (TEXT, "1", "1"),
    ],
)  # fmt: skip
def test_names_are_put_in_wherever_the_features_have_classes(tmp_path: Path, kind: Any, value: Any, named: Any) -> None:
    path = parquet(tmp_path, {"text": ["a"], "label": [value]}, {"text": TEXT, "label": kind})
    assert [record for _, record in read_records(path)] == [{"text": "a", "label": named}]


def test_a_class_without_a_name_is_a_bad_row(tmp_path: Path) -> None:
    ((_, bad),) = read_records(parquet(tmp_path, {"text": ["a"], "label": [2]}, {"label": ALPHABET}))
    assert isinstance(bad, BadRow)
    assert str(bad) == "the column 'label' holds the class 2, of 2"


@pytest.mark.parametrize(
    "features",
    [b"not json", b"[" * 100_000, b"{}", b'{"info": 3}', None, 3, [], {"label": 3}, {"label": []}, {"gone": ALPHABET}],
)
def test_metadata_that_say_nothing_change_nothing(tmp_path: Path, features: Any) -> None:
    path = parquet(tmp_path, {"text": ["a"], "label": [1]}, features)
    assert [record for _, record in read_records(path)] == [{"text": "a", "label": 1}]


def test_features_nested_without_end_are_not_followed() -> None:
    nested: Any = ALPHABET
    for _ in range(200):
        nested = {"inner": nested}
    assert of_metadata({b"huggingface": json.dumps(told({"label": nested})).encode()}) == {}
