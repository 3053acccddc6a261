"""`import` from the command line: the promised keys, what is refused, and that a file comes in once."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from wizloop.loop.cli import app
from wizloop.store import samples
from wizloop.store.db import Store

ROWS = "text,label\nhow do I knit,unharmful\nhow to rob a bank,harmful\nhow do I knit,harmful\n,harmful\n"


def import_(file: Path, workspace: Path, *words: str) -> Result:
    return CliRunner().invoke(app, ["import", str(file), "-w", str(workspace), *words])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "rows.csv"
    path.write_text(ROWS)
    return path


def test_rows_come_in_before_any_run_and_each_is_accounted_for(file: Path, tmp_path: Path) -> None:
    workspace = tmp_path / "runs"
    found = json.loads(import_(file, workspace, "--split", "seed", "--json").stdout)
    promised = {key: found[key] for key in ("rows", "accepted", "duplicates", "conflicts", "refused", "labels")}
    assert promised == {
        "rows": 4,
        "accepted": 2,
        "duplicates": 0,
        "conflicts": 1,
        "refused": [{"row": 4, "reason": "the prompt is empty", "bad": False}],
        "labels": {"request": {"harmful": 2, "unharmful": 1}},
    }
    with Store.open(workspace, readonly=True) as store, store.read() as db:
        assert samples.counts(db)["seed"] == 2
    again = json.loads(import_(file, workspace, "--split", "seed", "--json").stdout)
    assert (again["accepted"], again["duplicates"], again["conflicts"]) == (0, 2, 1)


def test_unknown_columns_are_mapped(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"question": "how do I knit", "verdict": "unharmful"}\n')
    said = import_(file, tmp_path / "runs", "--split", "dev", "--map", "prompt=question", "--map", "label=verdict")
    assert said.exit_code == 0, said.output
    assert "1 rows, 1 accepted into dev" in said.stderr
    assert said.stdout == ""


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--split", "train"], "'train' is not one of 'pool', 'seed', 'dev', 'test'"),
        (["--split", "dev", "--map", "prompt"], "--map prompt: write it as COLUMN=FIELD"),
        (["--split", "dev", "--map", "prompt=nope"], "no column 'nope'"),
        (["--split", "dev", "--format", "nope"], "there is no format 'nope'"),
        (["--split", "dev", "--task", "reply"], "'reply' is not one of 'request', 'completion', 'response'"),
    ],
)
def test_what_cannot_be_imported_is_one_sentence(file: Path, tmp_path: Path, words: list[str], sentence: str) -> None:
    said = import_(file, tmp_path / "runs", *words)
    assert said.exit_code == 2
    assert sentence in said.stderr
    assert said.stdout == ""


def test_a_label_of_another_task_says_which_task(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("text,response,label\nhow do I knit,I cannot say,refusal\n")
    said = import_(file, tmp_path / "runs", "--split", "seed")
    assert "write harmful or unharmful; for a label of the completion, add --task completion" in said.stderr
    assert import_(file, tmp_path / "runs", "--split", "seed", "--task", "completion").exit_code == 0


def test_a_file_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    said = import_(tmp_path / "none.csv", tmp_path / "runs", "--split", "pool")
    assert said.exit_code == 2
    assert "no such file" in said.stderr
