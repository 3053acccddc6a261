"""`classify` on the rows of files: labels stay beside the verdicts, and nothing is left out in silence."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from click.testing import CliRunner, Result

from tests.loop.small_night import NOW, Night, recipe
from wizloop.backends import artifacts
from wizloop.backends.tiny import build as tiny_guard
from wizloop.loop.api import Guard
from wizloop.loop.cli import app
from wizloop.loop.commands import classify_files
from wizloop.loop.context import standalone
from wizloop.loop.guard.rendering import InputText
from wizloop.recipes import schema
from wizloop.store import control, models
from wizloop.store.db import Store

ROWS = [
    {"text": "how do I knit a hat", "label": "unharmful", "policy": "none"},
    {"text": "how to build a bomb", "label": "harmful", "policy": "weapons"},
    {"text": "how to forge a note", "label": "unharmful", "policy": "fraud"},
]


@pytest.fixture(scope="module")
def guard(tmp_path_factory: pytest.TempPathFactory) -> Guard:
    """A guard that knows a harmful request by its words."""
    night = Night(tmp_path_factory.mktemp("guard") / "runs", recipe())
    night.round(0, "prepare")
    return Guard(night.judge("base", "classify"), night.recipe, "base", calibrated=False)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace whose champion is a tiny guard that was never trained."""
    folder, asked = tmp_path_factory.mktemp("tiny"), schema.load("demo")
    with Store.create(folder) as store:
        ctx = standalone(store, folder, asked, "classify", NOW)
        fixed = [ctx.renderer.instruction, "Reasoning:\nAnswers:\nRequest: harmful\nRequest: unharmful"]
        with artifacts.writing(Path(ctx.base()), {}) as base:
            shape = tiny_guard.Shape(300, 1, 16, 32)
            texts = [f"how do I {verb} a {thing}?" for verb in "aeiou" for thing in "pqrxyz"]
            tiny_guard.build(base, texts, shape=shape, epochs=0, seed=1, progress=lambda *_: None, fixed_texts=fixed)
        with store.write() as db:
            named = {"name": "demo", "recipe_json": schema.canonical_json(asked), "recipe_hash": "ab", "seed": 1}
            control.create_run(db, **named, cap_micro=None, until=None, rounds_wanted=1, now=NOW)  # type: ignore[arg-type]
            about = {"role": "base", "parent_id": None, "sha256": "", "meta_json": "{}"}
            made = models.add(db, name="base", path="models/base", round=0, now=NOW, **about)  # type: ignore[arg-type]
            control.set_champion(db, made)
    return folder


def as_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)


def as_parquet(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), path)


def as_lines(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


WRITERS = {"rows.csv": as_csv, "rows.parquet": as_parquet, "rows.jsonl": as_lines}


@pytest.mark.parametrize("name", WRITERS)
def test_labels_stay_beside_the_verdicts(guard: Guard, tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path / name, ROWS)
    assert classify_files.is_table(tmp_path / name)
    table = classify_files.Table(tmp_path / name, {})
    found = list(classify_files.judged(guard, table.rows(), texts=False))
    assert [row["label"]["request"] for row in found] == ["unharmful", "harmful", "unharmful"]
    assert [(row["row"], row["line"]) for row in found] == [(f"{name}:{n}", n) for n in (1, 2, 3)]
    right = [row["verdict"]["request"] == row["label"]["request"] for row in found]
    assert [row["right"] for row in found] == right
    assert (table.told(), "knit" in json.dumps(found)) == ([f"{tmp_path / name}: format columns"], False)


def test_a_row_without_a_usable_label_is_judged_and_one_without_a_text_is_named(guard: Guard, tmp_path: Path) -> None:
    rows = [
        {"text": "how do I knit", "label": ""},
        {"text": "", "label": ""},
        {"text": "how do I bake", "label": "odd"},
    ]
    as_csv(tmp_path / "rows.csv", rows)
    table = classify_files.Table(tmp_path / "rows.csv", {})
    found = list(classify_files.judged(guard, table.rows(), texts=True))
    assert [(row["prompt"], row["right"]) for row in found] == [("how do I knit", None), ("how do I bake", None)]
    assert table.told()[1:] == [
        "1 of its rows are left out",
        "row 2: the prompt is empty",
        "1 rows have an unknown request label and are judged without it: 1 'odd'",
    ]


def test_a_file_s_own_columns_and_words_are_mapped(guard: Guard, tmp_path: Path) -> None:
    as_csv(tmp_path / "rows.csv", [{"question": "how do I knit", "word": "fine"}])
    how = {"map": {"prompt": "question", "label": "word"}, "label": {"fine": "unharmful"}}
    (row,) = classify_files.judged(guard, classify_files.Table(tmp_path / "rows.csv", how).rows(), texts=False)
    assert row["label"]["request"] == "unharmful"


def test_many_rows_keep_their_labels_across_batches(guard: Guard, tmp_path: Path) -> None:
    rows = [{"text": f"{n} is a number", "label": ("harmful", "unharmful")[n % 2]} for n in range(75)]
    as_csv(tmp_path / "rows.csv", rows)
    found = list(classify_files.judged(guard, classify_files.Table(tmp_path / "rows.csv", {}).rows(), texts=True))
    assert [(row["prompt"], row["label"]["request"]) for row in found] == [(row["text"], row["label"]) for row in rows]


def test_lines_of_prompts_and_responses_are_read_one_by_one(tmp_path: Path) -> None:
    file = tmp_path / "texts.jsonl"
    for text, table in (
        ('{"prompt": "a", "response": "b"}', False),
        ("a", False),
        ('{"text": "a"}', True),
        ("", False),
    ):
        file.write_text(f"\n{text}\n")
        assert classify_files.is_table(file) is table
    assert not classify_files.is_table(tmp_path / "gone.jsonl")
    assert [(one.row, one.text.prompt) for one in classify_files.lines_of(["\n", "a\n"], "stdin")] == [("stdin:2", "a")]


def test_a_table_has_a_column_for_each_task_and_no_cell_is_a_formula(guard: Guard) -> None:
    asked = [classify_files.Asked(InputText("=HYPERLINK(1)", "@x", 1), "a.csv:1", {"request": "harmful"})]
    out = io.StringIO()
    write = classify_files.csv_writer(out, texts=True)
    for row in classify_files.judged(guard, asked, texts=True):
        write(row)
    out.seek(0)
    (found,) = csv.DictReader(out)
    assert (found["row"], found["request_label"], found["prompt"], found["response"]) == (
        "a.csv:1",
        "harmful",
        "'=HYPERLINK(1)",
        "'@x",
    )
    assert found["right"] == str(found["request_verdict"] == "harmful")
    assert 0 <= float(found["response_probability"]) <= 1


def classify(workspace: Path, *words: str | Path) -> Result:
    return CliRunner().invoke(app, ["classify", *map(str, words), "-w", str(workspace)])


def test_the_command_reads_a_table_and_writes_a_file(workspace: Path, tmp_path: Path) -> None:
    as_csv(tmp_path / "rows.csv", [*ROWS, {"text": "", "label": "harmful", "policy": "none"}])
    done = classify(workspace, tmp_path / "rows.csv", "--out", tmp_path / "out.jsonl")
    assert (done.exit_code, done.stdout) == (0, ""), done.output
    assert "row 4: the prompt is empty" in done.stderr
    assert done.stderr.endswith(f"wrote 3 rows to {tmp_path / 'out.jsonl'}\n")
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["label"]["request"] for row in rows] == ["unharmful", "harmful", "unharmful"]
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".part")] == []


@pytest.mark.long
def test_the_command_writes_a_table_or_to_stdout(workspace: Path, tmp_path: Path) -> None:
    as_csv(tmp_path / "rows.csv", ROWS)
    assert classify(workspace, tmp_path / "rows.csv").stdout.count("\n") == 3
    assert classify(workspace, tmp_path / "rows.csv", "--out", tmp_path / "out.csv").exit_code == 0
    assert (tmp_path / "out.csv").read_text().count("\n") == 4


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["rows.csv", "--out", "out.xlsx"], "name it .jsonl (JSON Lines) or .csv (a table)"),
        (["rows.csv", "--out", "rows.csv"], "already exists"),
        (["gone.parquet"], "no such file"),
        (["odd.csv"], "unknown columns (question)"),
        (["odd.csv", "--map", "prompt=word"], "no column 'word'"),
        (["-", "--map", "prompt=word"], "are for the rows of a file, not for stdin"),
    ],
)
def test_what_cannot_be_classified_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    as_csv(tmp_path / "rows.csv", ROWS)
    as_csv(tmp_path / "odd.csv", [{"question": "how do I knit"}])
    # Before a guard is loaded: there is none.
    done = classify(tmp_path / "none", *words)
    assert (done.exit_code, done.stdout, sentence in done.stderr) == (2, "", True), done.output
