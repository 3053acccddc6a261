"""Files opened: lists that are read item by item, Parquet that unfolds, lines without end, a file that changes."""

import codecs
import gzip
import json
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from wizloop.loop.data import files, strict_json
from wizloop.loop.data.files import read_records
from wizloop.loop.data.records import BadRow, ImportRefused


def reasons(path: Path) -> dict[int, str]:
    return {number: str(record) for number, record in read_records(path) if isinstance(record, BadRow)}


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("size", [1, 300, 200_000])
def test_a_list_of_any_size_of_item_comes_whole(tmp_path: Path, size: int, indent: int | None) -> None:
    # The long ones are far longer than what is read at once.
    rows = [{"prompt": f'{number} "]}}, ' + "é" * size, "n": [number, -1.5e3, {"x": None}]} for number in range(9)]
    path = tmp_path / "a.json"
    path.write_text("\n " + json.dumps(rows, indent=indent, ensure_ascii=False) + "\n")
    assert [record for _, record in read_records(path)] == rows


def test_a_number_that_is_cut_by_the_piece_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("[" + " " * (strict_json.BLOCK - 3) + "12345, 67]")
    assert reasons(path) == dict.fromkeys((1, 2), "a int instead of an object with columns")


def test_an_item_that_cannot_be_relied_on_is_refused_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('[{"prompt": "a"}, {"prompt": "b", "prompt": "c"}, {"n": NaN}, {"n": ' + "9" * 999 + '}, "d"]')
    assert reasons(path) == {
        2: "the key 'prompt' occurs twice",
        4: "not usable JSON: an integer of 999 digits",
    }
    assert [record for _, record in read_records(path) if isinstance(record, dict)] == [
        {"prompt": "a"},
        {"n": None},
        {"prompt": "d"},
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"prompt": "a"}, {"prompt": "b"', "item 2: not JSON"),
        ('[{"prompt": "a"} {"prompt": "b"}]', "no comma or ] after item 1"),
        ('[{"prompt": "a"},]', "item 2: not JSON"),
        ('[{"prompt": "a"}', "the list never ends"),
        ('[{"prompt": "a"}] [', "more after the end of the list"),
        ('[{"prompt": "a"}, ' + "[" * 100_000, "item 2: not usable JSON: nested too deeply"),
    ],
)
def test_a_list_that_breaks_off_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(ImportRefused, match=message):
        list(read_records(path))


def test_a_list_is_read_no_further_than_it_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("[" + '{"prompt": "a"}, ' * 100_000 + "broken")
    assert len(list(islice(read_records(path), 99_000))) == 99_000


def test_a_line_without_end_is_refused_and_the_next_one_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_CELL", 100)
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"prompt": "x" * 1000}) + '\n{"prompt": "good"}\n')
    assert list(read_records(path))[1] == (2, {"prompt": "good"})
    assert reasons(path) == {1: "the line is longer than 100 characters"}


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"prompt": "a"}\n' * 3)
    rows = read_records(path)
    next(rows)
    path.write_text('{"prompt": "b"}\n' * 4)
    with pytest.raises(ImportRefused, match="changed while it was read"):
        list(rows)


def parquet(path: Path, **columns: Any) -> Path:
    import pyarrow
    from pyarrow import parquet as writer

    writer.write_table(pyarrow.table(columns), path)
    return path


def test_parquet_keeps_nulls_numbers_and_line_ends(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", prompt=["a\r\n\x00é", None], n=[1, None], many=[["x"], []])
    assert list(read_records(path)) == [
        (1, {"prompt": "a\r\n\x00é", "n": 1, "many": ["x"]}),
        (2, {"prompt": None, "n": None, "many": []}),
    ]


def test_a_small_parquet_file_cannot_unfold_in_memory(tmp_path: Path) -> None:
    import pyarrow

    # One text of 17 MB that stands in 5,000 rows would be 85 GB.
    twice = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0, 1] * 2500), ["x" * 17_000_000, "fine"])
    path = parquet(tmp_path / "a.parquet", prompt=twice)
    assert path.stat().st_size < 2_000_000
    read = list(read_records(path))
    assert len(read) == 5000
    assert read[1] == (2, {"prompt": "fine"})
    assert reasons(path)[1] == "the column 'prompt' holds more than 16,000,000 bytes"


def test_a_row_group_that_claims_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from wizloop.loop.data import parquet as reader

    monkeypatch.setattr(reader, "MAX_GROUP", 1000)
    path = parquet(tmp_path / "a.parquet", prompt=[f"text {number}" for number in range(999)])
    with pytest.raises(ImportRefused, match=r"row group 1 claims .* write smaller row groups"):
        list(read_records(path))


def test_a_parquet_text_that_is_not_utf8_refuses_its_row(tmp_path: Path) -> None:
    import pyarrow

    bad = pyarrow.array([b"good", b"\xff\xfe"]).view(pyarrow.string())
    assert reasons(parquet(tmp_path / "a.parquet", prompt=bad)) == {2: "a text that is not UTF-8"}


def test_an_object_of_categories_gives_each_text_with_its_two_names(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"A": {"x": ["one", 2], "y": []}, "B": {"z": ["three"]}}')
    assert list(read_records(path)) == [
        (1, {"prompt": "one", "category": "A", "subcategory": "x"}),
        (2, {"prompt": 2, "category": "A", "subcategory": "x"}),
        (3, {"prompt": "three", "category": "B", "subcategory": "z"}),
    ]


def test_a_list_beside_categories_is_not_taken_for_one(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"A": {"x": ["one"]}, "B": ["two"]}')
    assert list(read_records(path)) == [(1, {"prompt": "two"})]


@pytest.mark.parametrize("text", ['{"A": {"x": "one"}}', "{}"])
def test_an_object_without_lists_is_not_taken_for_categories(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(ImportRefused, match="an object with 0 lists;"):
        list(read_records(path))


@pytest.mark.parametrize(
    ("name", "content", "advice"),
    [
        (
            "rows.csv",
            gzip.compress(b"prompt,label\na,safe\n", mtime=0),
            "it is gzipped once more than its name says: unzip it",
        ),
        (
            "rows.jsonl.gz",
            gzip.compress(gzip.compress(b"{}", mtime=0), mtime=0),
            "it is gzipped once more than its name says: unzip it",
        ),
        ("rows.csv", "prompt,label\na,safe\n".encode("utf-16"), "it is UTF-16: save it as UTF-8"),
        ("rows.jsonl", codecs.BOM_UTF16_BE + "{}".encode("utf-16-be"), "it is UTF-16: save it as UTF-8"),
        ("rows.csv", b"PK\x03\x04\x14\x00", "it is a zip file, as spreadsheets are: unzip it, or save it as CSV"),
        ("rows.json", b"PAR1\x15\x04", "it is Parquet: name it .parquet"),
        ("rows.json", b"\x28\xb5\x2f\xfd\x04", "it is compressed with zstd: decompress it"),
    ],
)
def test_what_is_no_text_is_told_by_how_it_begins(tmp_path: Path, name: str, content: bytes, advice: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ImportRefused) as refused:
        list(read_records(path))
    assert str(refused.value) == f"{path}: {advice}"
