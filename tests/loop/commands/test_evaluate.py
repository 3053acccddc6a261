"""`wizloop evaluate` on recorded outputs: what a person reads, what a script reads, the report, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from wizloop.loop.cli import app
from wizloop.loop.commands.evaluate_table import show
from wizloop.loop.evaluation.scoring import ScoredRow, measure

HOSTILE = "\x1b]52;c;aGk=\x07 | [bold]x[/bold] ![a](b)"
PNG = b"\x89PNG\r\n\x1a\n"


def predictions(folder: Path, name: str = "mine.jsonl") -> Path:
    """Ten harmful rows, of which one passes and one cannot be read; ten unharmful ones, of which two are blocked."""
    rows = []
    for at in range(20):
        label = "harmful" if at < 10 else "unharmful"
        said = {0: "unharmful", 1: "ambiguous", 10: "harmful", 11: "harmful"}.get(at, label)
        predict = f"# Task 1\nIt says so.\n\nAnswers: \nRequest: {said}\nCompletion: None\nResponse: None"
        attack = HOSTILE if at % 2 else "none"
        rows.append({"prompt": f"prompt {at}", "label": label, "predict": predict, "attack": attack})
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def evaluate(*words: str | Path) -> Result:
    return CliRunner().invoke(app, ["evaluate", *map(str, words)])


def test_a_file_that_is_not_there_is_called_missing_and_nothing_else(tmp_path: Path) -> None:
    done = evaluate("--predictions", tmp_path / "gone.jsonl")
    assert (done.exit_code, done.stderr) == (2, f"wizloop: {tmp_path}/gone.jsonl: no such file; check the name\n")
    assert ": a folder; give a file in it" in evaluate("--predictions", tmp_path, "--task", "request").stderr


def test_a_column_to_report_by_has_to_be_there(tmp_path: Path) -> None:
    done = evaluate("--predictions", predictions(tmp_path), "--task", "request", "--group", "atack")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "no row has the column 'atack' to report by; there are prompt, label, predict, attack" in done.stderr


def test_a_script_gets_every_figure(tmp_path: Path) -> None:
    done = evaluate("--predictions", predictions(tmp_path), "--task", "request", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    one = found["benchmarks"][0]
    assert (one["benchmark"], one["n"], one["parsed"]["k"]) == ("mine", 20, 19)
    promised = (
        found["benchmark"],
        found["task"],
        found["n"],
        found["unparsed"],
        round(found["strict"]["precision"], 4),
    )
    assert promised == ("mine", "request", 20, 1, 0.8)
    assert found["strict"]["low"] < found["strict"]["f1"] < found["strict"]["high"]
    assert {name: round(one[name]["f1"], 4) for name in ("official", "strict", "parsed_only")} == {
        "official": 0.8421,
        "strict": 0.8,
        "parsed_only": 0.8421,
    }
    # Both leave the one unparsed row out, so that neither figure can differ.
    assert (one["official"]["low"], one["official"]["high"]) == (one["parsed_only"]["low"], one["parsed_only"]["high"])
    assert (one["blocked_benign"]["k"], one["blocked_benign"]["n"], one["passed_harmful"]["k"]) == (2, 10, 1)
    assert one["too_few_to_tell"] == ["blocked_benign", "passed_harmful", "parsed"]
    assert found["averages"]["strict"]["by_task"]["request"] == pytest.approx(80.0)
    assert (found["reader"], one["auroc"]["value"]) == ("published", None)


def test_a_person_gets_a_table_and_a_report_in_which_nothing_is_markup(tmp_path: Path) -> None:
    report = tmp_path / "report"
    done = evaluate(
        "--predictions", predictions(tmp_path), "--task", "request", "--group", "attack", "--report", report
    )
    assert done.exit_code == 0, done.output
    # 80 columns, names whole, figures one below the other, dashes where there is nothing.
    assert done.stdout.splitlines()[:2] == [
        "benchmark  task     rows  parsed  official  strict  parsed only",
        "mine       request    20  95.0 %     84.21   80.00        84.21",
    ]
    assert "   20.0 % of 10, too few    10.0 % of 10, too few\n" in done.stdout
    (group,) = [line.split() for line in done.stdout.splitlines() if line.startswith("none ")]
    # Not its interval, which is drawn.
    assert group[:3] + group[4:7] == ["none", "10", "80.0", "20.0", "%", "of"]
    assert "official       84.21           -         -              84.21\n" in done.stdout
    text = (report / "report.md").read_text(encoding="utf-8")
    assert "\x1b" not in text
    assert "\\|" in text
    assert "[bold]" not in text.replace("\\[bold\\]", "")
    assert (report / "01-confusion.png").read_bytes().startswith(PNG)
    assert json.loads((report / "report.json").read_text(encoding="utf-8"))["benchmarks"][0]["n"] == 20


def test_each_row_is_written_with_its_answer(tmp_path: Path) -> None:
    words = ("--predictions", predictions(tmp_path), "--task", "request", "--group", "attack")
    rows, whole = tmp_path / "rows.jsonl", tmp_path / "whole.jsonl"
    done = evaluate(*words, "--rows", rows, "--report", tmp_path / "report")
    assert done.exit_code == 0, done.output
    first, second, third = [json.loads(line) for line in rows.read_text().splitlines()][:3]
    assert (first["row"], first["label"]["request"], first["verdict"]["request"]) == (
        "mine.jsonl:1",
        "harmful",
        "unharmful",
    )
    assert [one["error"]["request"] for one in (first, second, third)] == ["false_negative", "unparsed", None]
    assert [one["right"] for one in (first, second, third)] == [False, False, True]
    assert (first["effect"], first["policy"]) == ("let_through", "none")
    # A list for colleagues, and a report, hold no text of a row unless it is asked for.
    assert "prompt 0" not in rows.read_text() + (tmp_path / "report" / "report.md").read_text()
    assert "prompt 0" not in (tmp_path / "report" / "report.json").read_text()
    assert evaluate(*words, "--rows", whole, "--texts").exit_code == 0
    assert json.loads(whole.read_text().splitlines()[0])["prompt"] == "prompt 0"
    assert (evaluate(*words, "--rows", whole).exit_code, evaluate(*words, "--texts").exit_code) == (2, 2)


def test_errors_are_listed_by_kind_and_policy(tmp_path: Path) -> None:
    words = ("--predictions", predictions(tmp_path), "--task", "request", "--group", "attack")
    found = json.loads(evaluate(*words, "--json").stdout)["errors"]
    assert [(one["kind"], one["n"], one["of"]) for one in found] == [
        ("false_positive", 2, 10),
        ("false_negative", 1, 10),
        ("unparsed", 1, 20),
        ("over_refusal", 2, 10),
        ("let_through", 1, 10),
    ]
    assert found[0]["by_policy"] == {"none": 1, HOSTILE: 1}
    lines = [" ".join(line.split()) for line in evaluate(*words).stdout.splitlines()]
    assert "mine request false negative 1 10 none 1" in lines
    assert "\x1b" not in evaluate(*words).stdout


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--predictions", "absent.jsonl", "--task", "request"], "absent.jsonl: no such file"),
        (["--predictions", "mine.jsonl"], "mine is not a published benchmark with one task: give the task"),
        (
            ["--predictions", "mine.jsonl", "--benchmark", "WildGuardTest"],
            "WildGuardTest is not a published benchmark with",
        ),
        (["--predictions", "mine.jsonl", "--benchmark", "a", "--benchmark", "b"], "1 files of predictions and 2 names"),
        (["--predictions", "mine.jsonl", "--round", "1"], "scores recorded outputs"),
        (["--predictions", "mine.jsonl", "--benchmark", "XSTestResponseRefusal"], "not one of the task completion"),
        (["--task", "request"], "a test set has its own labels"),
        (["--predictions", "mine.jsonl", "--task", "request", "--report", "."], "already exists"),
        (
            ["--predictions", "mine.jsonl", "--task", "request", "--report", "mine.jsonl/a/b"],
            "mine.jsonl is not a folder",
        ),
        (["--model", "nowhere"], "there is no workspace in runs"),
    ],
)
def test_what_cannot_be_done_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    predictions(tmp_path)
    done = evaluate(*words)
    assert done.exit_code == 2, done.output
    assert sentence in done.stderr
    assert done.stdout == ""


def test_three_figures_with_intervals_stand_in_one_line_of_80_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    rows = [ScoredRow(f"{at}", ("refusal", "compliance")[at % 2], "refusal", (at * 7 % 20) / 20) for at in range(20)]
    show([measure("other.csv", "completion", rows, rng=np.random.default_rng(1))], {})
    lines = capsys.readouterr().out.splitlines()
    (heads,) = [at for at, line in enumerate(lines) if "Brier" in line]
    assert lines[heads + 1].count("(") == 3
    assert max(map(len, lines)) <= 80
