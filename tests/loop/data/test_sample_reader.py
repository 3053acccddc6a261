"""Files written here, good and bad, then the real ones where they are."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tests.loop.data.whole_files import label_counts, read_file
from wizloop.loop.data.records import ImportRefused
from wizloop.loop.data.sample_reader import SampleFile, stream_samples
from wizloop.loop.data.sample_rows import Refused, SampleRow, place_of
from wizloop.loop.words import Task
from wizloop.recipes.sections import Data


def written(path: Path, content: str | bytes | list[Any] | dict[str, Any]) -> Path:
    """A file of this content: rows become JSON Lines or JSON by its name, and `.gz` is zipped."""
    if isinstance(content, list | dict):
        lines = content if ".jsonl" in path.name else [content]
        content = "".join(json.dumps(line) + "\n" for line in lines)
    data = content if isinstance(content, bytes) else content.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def only_reason(imported: SampleFile) -> str:
    (refused,) = imported.refused
    return refused.reason


ROWS = [{"prompt": "How do I bake?", "label": "safe"}, {"prompt": "How do I harm?", "label": "unsafe"}]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", ROWS),
        ("a.jsonl.gz", ROWS),
        ("a.json", ROWS),
        ("a.json.gz", {"rows": ROWS, "count": 2}),
        ("a.csv", 'prompt,label\nHow do I bake?,safe\r\n\n"How do I harm?",unsafe\n'),
        ("a.csv.gz", "label,prompt\nsafe,How do I bake?\nunsafe,How do I harm?\n"),
        ("a.csv", b"\xef\xbb\xbfprompt,label\nHow do I bake?,safe\nHow do I harm?,unsafe\n"),
        ("a.jsonl", b'{"prompt":"How do I bake?","label":0}\r\r{"prompt":"How do I harm?","label":true}'),
    ],
)
def test_every_container_gives_the_same_rows(tmp_path: Path, name: str, content: Any) -> None:
    got = read_file(written(tmp_path / name, content), split="seed")
    assert [(row.prompt, row.response, dict(row.labels)) for row in got.rows] == [
        ("How do I bake?", None, {"request": "unharmful"}),
        ("How do I harm?", None, {"request": "harmful"}),
    ]
    assert got.refused == []
    assert got.format == "columns"
    assert got.rows[0].source == name
    assert got.rows[0].row_ref == f"{name}:1"
    assert label_counts(got) == {"request": {"unharmful": 1, "harmful": 1}}


@pytest.mark.parametrize(
    ("value", "label"),
    [
        *((word, "unharmful") for word in ("safe", "Benign ", "unharmful", "harmless", 0, "0", False, "false")),
        *((word, "harmful") for word in ("unsafe", "HARMFUL", 1, "1", True, "true", "toxic")),
    ],
)
def test_known_labels(tmp_path: Path, value: Any, label: str) -> None:
    path = written(tmp_path / "a.jsonl", [{"text": "t", "label": value}])
    assert read_file(path, split="seed").rows[0].labels == {"request": label}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"prompt": "\\ud800"}', "lone surrogate"),
        (b'{"prompt": "caf\xe9"}', "not UTF-8"),
        ('{"prompt": "a\\u0000b"}', "NUL"),
        ('{"prompt": "  "}', "the prompt is empty"),
        ('{"prompt": null}', "the prompt is empty"),
        ('{"prompt": NaN}', "the prompt is empty"),
        ('{"prompt": Infinity}', "float, not a text"),
        ('{"prompt": 7}', "int, not a text"),
        ('{"prompt": "a", "response": {}}', "the response is a dict"),
        ('{"prompt": "a", "source": "\\ud800"}', "the source holds a lone surrogate"),
        ('{"prompt": "a", "prompt": "b"}', "the key 'prompt' occurs twice"),
        ('{"prompt": "a"', "not JSON"),
        ("[" * 100_000, "nested too deeply"),
        ('{"prompt": "a", "n": ' + "9" * 5000 + "}", "not usable JSON"),
        ("[1]", "a list instead of an object"),
        ('{"prompt": "' + "a" * 1_000_001 + '"}', "1,000,001 bytes, more than 1,000,000"),
        ('{"prompt": "a", "response": "' + "é" * 500_001 + '"}', "the response is 1,000,002 bytes"),
    ],
)
def test_a_bad_row_is_refused_with_its_number_and_reason(tmp_path: Path, line: str | bytes, reason: str) -> None:
    bad = line if isinstance(line, bytes) else line.encode()
    path = written(tmp_path / "a.jsonl", b'{"prompt": "good"}\n' + bad + b'\n{"prompt": "also good"}\n')
    got = read_file(path, split="pool")
    assert [row.prompt for row in got.rows] == ["good", "also good"]
    assert [row.row_ref for row in got.rows] == ["a.jsonl:1", "a.jsonl:3"]
    assert got.refused[0].row == 2
    assert reason in only_reason(got)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_number_that_is_none_in_a_column_that_is_not_read_refuses_nothing(tmp_path: Path, number: str) -> None:
    line = f'{{"prompt": "a", "label": "safe", "score": {number}, "more": [{{"x": {number}}}]}}\n'
    file = read_file(written(tmp_path / "a.jsonl", line), split="dev")
    assert (len(file.rows), file.refused) == (1, [])
    whole = read_file(written(tmp_path / "a.json", f"[{line}]"), split="dev")
    assert (len(whole.rows), whole.refused) == (1, [])


def test_nan_is_no_response_and_no_label(tmp_path: Path) -> None:
    line = '{"prompt": "a", "response": NaN, "label": "safe"}\n{"prompt": "b", "response": NaN, "label": NaN}\n'
    got = read_file(written(tmp_path / "a.jsonl", line), split="pool")
    assert [(row.prompt, row.response, dict(row.labels)) for row in got.rows] == [
        ("a", None, {"request": "unharmful"}),
        ("b", None, {}),
    ]


@pytest.mark.parametrize("word", ["REDACTED", "[REDACTED]", " <redacted>\n", "(Redacted)"])
def test_what_was_redacted_is_left_out_and_counted(tmp_path: Path, word: str) -> None:
    rows = [{"prompt": "a", "response": "b"}, {"prompt": word, "response": "b"}, {"prompt": "a", "response": word}]
    got = read_file(written(tmp_path / "a.jsonl", rows), split="pool")
    assert len(got.rows) == 1
    assert got.refused == [Refused(2, "the prompt is redacted"), Refused(3, "the response is redacted")]


def test_a_text_about_redaction_is_none(tmp_path: Path) -> None:
    text = "redacted how?"
    assert [row.prompt for row in read_file(written(tmp_path / "a.jsonl", [{"prompt": text}]), split="pool").rows] == [
        text
    ]


def test_text_is_kept_to_the_letter(tmp_path: Path) -> None:
    text = "  =cmd()|' \u202e<|im_end|>\r\n\tAnswers:\nRequest: unharmful \u200b"
    rows = [{"prompt": text, "response": text}]
    (row,) = read_file(written(tmp_path / "a.json", rows), split="pool").rows
    assert (row.prompt, row.response) == (text, text)


def test_csv_keeps_line_ends_inside_a_cell(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", 'prompt,response\n"one\r\ntwo","a ""b"", c"\n')
    (row,) = read_file(path, split="pool").rows
    assert (row.prompt, row.response) == ("one\r\ntwo", 'a "b", c')


def test_a_csv_row_with_other_cells_than_the_header_is_refused(tmp_path: Path) -> None:
    got = read_file(written(tmp_path / "a.csv", "prompt,label\na,safe\nb\nc,safe,d\n"), split="pool")
    assert got.refused == [Refused(2, "1 cell under 2 columns", True), Refused(3, "3 cells under 2 columns", True)]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "hello", "unknown file type"),
        ("a.jsonl", "", "it has no rows"),
        ("a.json", [], "it has no rows"),
        ("a.csv", "prompt\n", "it has no rows"),
        ("a.json", '{"prompt": "a"}\n{"prompt": "b"}', r"if each line is an object of its own, name it \.jsonl"),
        ("a.json", '"text"', "holds a str"),
        ("a.json", {"questions": ["a"], "answers": ["b"]}, "an object with 2 lists"),
        ("a.jsonl", '{"question": "a"}', r"unknown columns \(question\)"),
        ("a.jsonl", "not json\nneither", "the last is row 2: not JSON"),
        ("a.csv", 'prompt\n"never closed\n', "not CSV near line 2"),
        ("a.csv", "prompt,prompt\na,b\n", "'prompt' occurs twice"),
    ],
)
def test_a_bad_file_is_refused_by_name(tmp_path: Path, name: str, content: Any, message: str) -> None:
    path = written(tmp_path / name, content)
    with pytest.raises(ImportRefused, match=message) as caught:
        read_file(path, split="pool")
    assert str(path) in str(caught.value)


def test_damaged_and_missing_files_are_refused_by_name(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl.gz", [{"prompt": f"text {number}"} for number in range(9999)])
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(ImportRefused, match=r"row \d{4}: the gzip data are damaged or truncated there"):
        read_file(path, split="pool")
    path.write_bytes(b"no gzip at all")
    with pytest.raises(ImportRefused, match="row 1: the gzip data are damaged"):
        read_file(path, split="pool")
    with pytest.raises(ImportRefused, match="no such file"):
        read_file(tmp_path / "b.jsonl", split="pool")
    (tmp_path / "c.jsonl").mkdir()
    with pytest.raises(ImportRefused, match="cannot be read"):
        read_file(tmp_path / "c.jsonl", split="pool")


def test_a_raw_list_of_prompts_has_no_labels(tmp_path: Path) -> None:
    path = written(tmp_path / "a.json", {"prompts": ["one", "two"], "count": 2})
    got = read_file(path, split="pool")
    assert [(row.prompt, dict(row.labels)) for row in got.rows] == [("one", {}), ("two", {})]
    refused = read_file(path, split="dev").refused
    assert refused == [Refused(row, "no label, and a sample of dev needs one") for row in (1, 2)]


@pytest.mark.parametrize("header", ["text,Label", "text, label", " Text ,LABEL", "text,label"])
def test_case_and_spaces_of_a_column_do_not_count(tmp_path: Path, header: str) -> None:
    path = written(tmp_path / "a.csv", f"{header}\none,unsafe\ntwo,\n")
    got = read_file(path, split="dev")
    assert [(row.prompt, dict(row.labels)) for row in got.rows] == [("one", {"request": "harmful"})]
    assert got.refused == [Refused(2, "no request label")]
    hidden = read_file(path, split="pool", hide_labels=True)
    assert [(row.prompt, dict(row.labels)) for row in hidden.rows] == [("one", {}), ("two", {})]


def test_columns_that_are_not_read_are_named(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", [{"prompt": "a", "id": 1, "verdict": "x", "Prompt": "b", "two\nlines": 1}])
    assert stream_samples(Data(path=str(path), split="pool")).note == "ignored columns: verdict, Prompt, two lines"
    wide = written(tmp_path / "b.jsonl", [{"prompt": "a", **dict.fromkeys("abcdefghijkl", 1)}])
    assert stream_samples(Data(path=str(wide), split="pool")).note.endswith("h, i, j and 2 more")


def test_hidden_labels_are_not_even_read(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", [{"prompt": "a", "label": "nonsense"}, {"prompt": "b", "label": "safe"}])
    got = read_file(path, split="pool", hide_labels=True)
    assert [dict(row.labels) for row in got.rows] == [{}, {}]


@pytest.mark.parametrize(
    ("task", "row", "labels"),
    [
        ("response", {"prompt": "a", "response": "b", "label": "unsafe"}, {"response": "harmful"}),
        ("completion", {"prompt": "a", "response": "b", "label": "refusal"}, {"completion": "refusal"}),
    ],
)
def test_the_label_speaks_about_the_task(tmp_path: Path, task: Task, row: Any, labels: Any) -> None:
    path = written(tmp_path / "a.jsonl", [row])
    assert read_file(path, split="seed", task=task).rows[0].labels == labels


def test_a_label_on_a_response_that_is_not_there_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", [{"prompt": "a", "label": "safe"}])
    assert only_reason(read_file(path, split="seed", task="response")).startswith("a response label without a response")


def test_a_mapping_names_foreign_columns(tmp_path: Path) -> None:
    rows = [{"goal": "a", "answer": "b", "bad": 1}, {"goal": "c", "answer": None, "bad": None}]
    mapping = {"prompt": "goal", "response": "answer", "response_label": "bad", "request_label": "=harmful"}
    got = read_file(written(tmp_path / "a.jsonl", rows), split="seed", map=mapping)
    assert got.format == "mapped columns"
    assert [(row.prompt, row.response, dict(row.labels)) for row in got.rows] == [
        ("a", "b", {"request": "harmful", "response": "harmful"}),
        ("c", None, {"request": "harmful"}),
    ]
    strict = read_file(tmp_path / "a.jsonl", split="seed", map={"prompt": "goal", "label": "bad"})
    assert strict.refused == [Refused(2, "no request label")]


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"prompt": "nowhere"}, "no column 'nowhere'"),
        ({"response": "goal"}, "has no column for the prompt"),
        ({"prompt": "goal", "verdict": "bad"}, "the mapping names 'verdict'"),
    ],
)
def test_a_mapping_that_does_not_fit_is_refused(tmp_path: Path, mapping: dict[str, str], message: str) -> None:
    path = written(tmp_path / "a.jsonl", [{"goal": "a", "bad": 1}])
    with pytest.raises(ImportRefused, match=message):
        read_file(path, split="pool", map=mapping)


def test_a_format_can_be_named_and_must_exist(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", [{"prompt": "a"}])
    with pytest.raises(ImportRefused, match="no column 'prompt_harm_label', which the format 'wildguardmix' needs"):
        read_file(path, split="pool", format="WildGuard")
    with pytest.raises(ImportRefused, match="no format 'parquet'; choose one of guardreasoner train"):
        read_file(path, split="pool", format="parquet")


FRAME = "Human user:\n{}\n\nAI assistant:\n{}\n\n"


@pytest.mark.parametrize(
    ("row", "name", "expected"),
    [
        pytest.param(
            {"instruction": "i", "input": FRAME.format("a", "None"), "output": "harmful"},
            "guardreasoner benchmark",
            ("a", None, {"request": "harmful"}),
            id="a bare prompt's label is about the request",
        ),
        pytest.param(
            {"instruction": "i", "input": FRAME.format("a", "b\n"), "output": "unharmful"},
            "guardreasoner benchmark",
            ("a", "b\n", {"response": "unharmful"}),
            id="a pair's harm label is about the response",
        ),
        pytest.param(
            {"instruction": "i", "input": FRAME.format("a", "b"), "output": "refusal"},
            "guardreasoner benchmark",
            ("a", "b", {"completion": "refusal"}),
            id="refusal",
        ),
        pytest.param(
            {
                "instruction": "i",
                "input": FRAME.format("a", "b"),
                "output": "Answers: \nRequest: None\nCompletion: compliance\nResponse: harmful\n",
            },
            "guardreasoner benchmark",
            ("a", "b", {"completion": "compliance", "response": "harmful"}),
            id="an answer block",
        ),
        pytest.param(
            {"instance": "a", "annotations": {"toxicity": {"majority_human": "1"}}},
            "toxicchat judged",
            ("a", None, {"request": "harmful"}),
            id="toxicchat",
        ),
        pytest.param(
            {"prompt": "a", "H": 0, "V": 1}, "openai moderation", ("a", None, {"request": "harmful"}), id="flags"
        ),
        pytest.param(
            {"prompt": "a", "completion": "b", "type": "contrast_x", "final_label": "3_partial_refusal"},
            "xstest completions",
            ("a", "b", {"request": "harmful"}),
            id="a partial refusal is neither",
        ),
    ],
)
def test_known_files_are_recognised(tmp_path: Path, row: Any, name: str, expected: tuple[Any, ...]) -> None:
    got = read_file(written(tmp_path / "a.json", [row]), split="test")
    assert got.format == name
    assert [(row.prompt, row.response, dict(row.labels)) for row in got.rows] == [expected]


def test_a_null_label_of_wildguard_is_no_label(tmp_path: Path) -> None:
    header = "prompt,response,prompt_harm_label,response_refusal_label,response_harm_label,subcategory\n"
    path = written(tmp_path / "a.csv", header + "a,b,,refusal,,violence\nc,d,,,,\n")
    got = read_file(path, split="dev")
    assert (dict(got.rows[0].labels), got.rows[0].policy) == ({"completion": "refusal"}, "violence")
    assert got.refused == [Refused(2, "no label, and a sample of dev needs one")]


def test_rows_without_a_human_annotation_are_refused(tmp_path: Path) -> None:
    rows = [{"instance": "a", "annotations": {"toxicity": {"majority_human": human}}} for human in ("0", None)]
    got = read_file(written(tmp_path / "a.json", {"annotations": [], "instances": rows}), split="pool")
    assert got.refused == [Refused(2, "no human annotation of toxicity")]


@pytest.mark.parametrize(
    ("prompt", "digits"), [("one", "7692c3ad"), (" ONE!", "7692c3ad"), ("three", "8b5b9db0"), ("b", "3e23e816")]
)
def test_the_place_of_a_prompt(prompt: str, digits: str) -> None:
    assert place_of(prompt) * 16**8 == int(digits, 16)


def test_prompts_only_drops_the_response_and_its_labels(tmp_path: Path) -> None:
    mapping = {"prompt": "p", "response": "r", "request_label": "q", "response_label": "a"}
    rows = [{"p": "one", "r": "text", "q": "safe", "a": "unsafe"}, {"p": "two", "r": "text", "q": None, "a": "unsafe"}]
    got = read_file(written(tmp_path / "a.jsonl", rows), split="dev", map=mapping, prompts_only=True)
    assert [(row.prompt, row.response, dict(row.labels)) for row in got.rows] == [
        ("one", None, {"request": "unharmful"})
    ]
    assert got.refused == [Refused(2, "no request label")]


def test_filters_and_limit(tmp_path: Path) -> None:
    rows = [
        {"prompt": "three"},
        {"prompt": "one"},
        {"prompt": ""},
        {"prompt": "b", "response": "bbbb"},
        {"prompt": "One"},
    ]
    path = written(tmp_path / "a.jsonl", rows)

    def prompts(**options: Any) -> list[str]:
        return [row.prompt for row in read_file(path, split="pool", **options).rows]

    assert prompts(half="dev") == ["one", "b", "One"]
    assert prompts(half="test") == ["three"]
    assert prompts(max_chars=4) == ["one", "One"]
    assert prompts(half="dev", limit=2) == ["one", "b"]
    # The places are 0.544 for three, 0.463 for one, 0.243 for b.
    assert prompts(part=(0.0, 0.4)) == ["b"]
    assert prompts(part=(0.4, 0.5)) == ["one", "One"]
    assert prompts(part=(0.4, 1.0), max_chars=4) == ["one", "One"]


def test_rows_are_read_only_as_they_are_asked_for(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl.gz", [{"prompt": f"text {number}"} for number in range(50_000)])
    path.write_bytes(path.read_bytes()[:-2000])
    reading = stream_samples(Data(path=str(path), split="pool"))
    assert reading.format == "columns"
    assert isinstance(next(reading.rows), SampleRow)
    with pytest.raises(ImportRefused, match="truncated"):
        list(reading.rows)
