"""CSV and TSV as spreadsheets write them: empty columns, blank first lines, other signs, names in capitals."""

import gzip
import tracemalloc
from pathlib import Path

import pytest

from tests.loop.data.whole_files import read_file
from tests.where import SHARED_CASES
from wizloop.loop.data import spreadsheets
from wizloop.loop.data.files import read_records
from wizloop.loop.data.records import BadRow, ImportRefused, Record, RowRefused

ROWS = [{"text": "oak, or ash", "label": "safe"}, {"text": "poison\nivy", "label": "unsafe"}]
QUOTED = '"oak, or ash",safe{}\r\n"poison\nivy",unsafe{}\r\n'


def records(path: Path) -> list[Record]:
    return [record for _, record in read_records(path) if not isinstance(record, RowRefused)]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        pytest.param("a.csv", "text,label\r\n" + QUOTED.format("", ""), id="plain"),
        pytest.param("a.csv", "text,label,,\r\n" + QUOTED.format(",,", ",,"), id="empty columns at the end"),
        pytest.param("a.csv", "text,label,\r\n" + QUOTED.format(",", ""), id="one empty column, not in every row"),
        pytest.param("a.csv", "text,label\r\n" + QUOTED.format(",,", ", "), id="empty cells beyond the header"),
        pytest.param("a.csv", "text,label, ,\u00a0\r\n" + QUOTED.format(",,", ""), id="columns named by a space"),
        pytest.param("a.csv", "\r\n,\r\n\r\ntext,label\r\n" + QUOTED.format("", ""), id="blank first lines"),
        pytest.param(
            "a.csv",
            "text,label\r\n  \r\n" + QUOTED.format("\r\n\t", "\r\n \r\n\r\n"),
            id="blank lines between and after",
        ),
        pytest.param("a.csv", "\ufeff\r\ntext,label\r\n" + QUOTED.format("", ""), id="a blank line behind the mark"),
        pytest.param(
            "a.csv", "text;label\r\n" + QUOTED.replace(",s", ";s").replace(",u", ";u").format("", ""), id="semicolons"
        ),
        pytest.param(
            "a.csv",
            "sep=;\r\ntext;label\r\n" + QUOTED.replace(",s", ";s").replace(",u", ";u").format("", ""),
            id="Excel's own word for it",
        ),
        pytest.param(
            "a.csv",
            "text\tlabel\r\n" + QUOTED.replace(",s", "\ts").replace(",u", "\tu").format("", ""),
            id="tabs in a CSV",
        ),
        pytest.param(
            "a.tsv", "text\tlabel\n" + QUOTED.replace(",s", "\ts").replace(",u", "\tu").format("", ""), id="TSV"
        ),
        pytest.param(
            "a.TSV",
            "text\tlabel\n" + QUOTED.replace(",s", "\ts").replace(",u", "\tu").format("", ""),
            id="TSV in capitals",
        ),
        pytest.param("a.CSV", "text,label\r\n" + QUOTED.format("", ""), id="CSV in capitals"),
        pytest.param("a.Csv.GZ", "text,label\r\n" + QUOTED.format("", ""), id="gzip in capitals"),
        pytest.param(
            "A.JSONL",
            '{"text": "oak, or ash", "label": "safe"}\n{"text": "poison\\nivy", "label": "unsafe"}',
            id="JSON Lines in capitals",
        ),
    ],
)
def test_a_spreadsheet_gives_its_rows(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(content.encode()) if name.endswith("GZ") else content.encode())
    assert records(path) == ROWS
    assert [number for number, _ in read_records(path)] == [1, 2]


def test_a_number_before_each_row_stays(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(",text\n0,oak\n1,ash\n")
    assert records(tmp_path / "a.csv") == [{"": "0", "text": "oak"}, {"": "1", "text": "ash"}]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("text,,,label\noak,,,safe\nash,x,,safe\n", "the cell 'x' stands in column 2, which has no name"),
        ("text,label,,\noak,safe,,\nash,safe,,x\n", "4 cells under 2 columns"),
        ("text,label\noak,safe\nash\n", "1 cell under 2 columns"),
    ],
)
def test_text_where_no_name_stands_refuses_its_row(tmp_path: Path, content: str, reason: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(content)
    assert [str(row) for _, row in read_records(path) if isinstance(row, BadRow)] == [reason]
    assert records(path) == [{"text": "oak", "label": "safe"}]


@pytest.mark.parametrize("header", ["text;label,note", "text;label\tnote", '"text;label"', "text"])
def test_a_header_that_may_be_read_in_two_ways_is_read_by_the_name_of_its_file(tmp_path: Path, header: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"{header}\n")
    assert records(path) == []
    path.write_text(f"{header}\n" + ",".join(["x"] * (header.count(",") + 1)) + "\n")
    assert list(records(path)[0].values()) == ["x"] * (header.count(",") + 1)


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(b'"' + b"a" * 9_000_000 + b'",safe\n', id="one cell"),
        pytest.param(b'"' + (b"a" * 999 + b"\n") * 9000 + b'",safe\n', id="one cell of many lines"),
        pytest.param((b'"' + b"a" * 999 + b'\n",') * 9000, id="one row of many cells"),
    ],
)
def test_a_row_that_unfolds_is_refused_before_it_fills_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: bytes
) -> None:
    monkeypatch.setattr(spreadsheets, "MAX_CELL", 100_000)
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(b"text,label\n" + row, 1))
    tracemalloc.start()
    with pytest.raises(ImportRefused, match=r"not CSV near line \d+: a row of more than 100,000 characters"):
        records(path)
    assert tracemalloc.get_traced_memory()[1] < 3_000_000
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("name", "rows", "labels"),
    [("28_trailing.csv", 10, 10), ("31_UPPER.CSV", 2, 2), ("31_tab.tsv", 2, 2)],
)
def test_the_cases_from_the_wild(name: str, rows: int, labels: int) -> None:
    path = SHARED_CASES / "13-spreadsheet-csv" / name
    if not path.exists():
        pytest.skip("the cases are not here")
    file = read_file(path, split="dev")
    assert (len(file.rows), file.refused) == (rows, [])
    assert sum("request" in row.labels for row in file.rows) == labels


def test_the_tsv_of_a_known_set_is_read() -> None:
    path = SHARED_CASES / "13-spreadsheet-csv" / "08_wildjailbreak_train.tsv"
    if not path.exists():
        pytest.skip("the cases are not here")
    assert [sorted(record) for record in records(path)] == [["adversarial", "completion", "data_type", "vanilla"]] * 4
