"""Traces for any file: written once, gone on with, and asked again only where a person says so."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.loop.scripted import WORST, Scripted, client, context, fault, ok
from tests.servers.openai_wire import OpenAIWire
from wizloop.backends.teachers.base import Answer, Question
from wizloop.loop.cli import app
from wizloop.loop.phases.teach import teach
from wizloop.store import spending, steps, teacher_calls

ROWS = "text,label\nhow do I knit a hat,unharmful\nhow to build a bomb at home,harmful\nhow do I bake,harmful\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "rows.csv"
    path.write_text(ROWS)
    return path


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(app, ["teach", *map(str, words)])


def test_any_file_gets_traces_in_the_published_shape(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "traces.json"
    said = run(file, "--teacher", "policy", "--out", out, "--json")
    assert said.exit_code == 0, said.output
    told, written = json.loads(said.stdout), json.loads(out.read_text())
    assert (told["total_samples"], told["answered"], told["usd"]) == (3, 3, 0.0)
    assert told["accuracy"] == pytest.approx(2 / 3)
    bomb = written["traces"][1]
    assert (bomb["text"], bomb["expected_label"], bomb["predicted_label"], bomb["correct"]) == (
        "how to build a bomb at home",
        "harmful",
        "harmful",
        True,
    )
    assert list(bomb["reasoning"]) == [
        "surface_analysis",
        "legitimate_uses",
        "harmful_uses",
        "context_clues",
        "risk_factors",
        "mitigating_factors",
        "reasoning_chain",
        "final_label",
        "confidence",
        "explanation",
    ]
    assert bomb["reasoning"]["reasoning_chain"][0].startswith("Step 1: ")


def test_what_cannot_begin_leaves_nothing_behind_and_writes_over_nothing(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine.json"
    said = run(tmp_path / "gone.csv", "--teacher", "policy", "--out", out)
    assert (said.exit_code, said.stderr) == (2, f"wizloop: {tmp_path}/gone.csv: no such file; check the name\n")
    said = run(file, "--teacher", "policy", "--out", file)
    assert said.exit_code == 2
    assert "rows.csv exists, and no earlier `wizloop teach` wrote it" in said.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]


def test_more_rows_later_ask_for_those_alone(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "traces.json"
    assert run(file, "--teacher", "policy", "--out", out, "--samples", "2").exit_code == 0
    assert run(file, "--teacher", "policy", "--out", out).exit_code == 0
    assert len(json.loads(out.read_text())["traces"]) == 3
    found = json.loads(CliRunner().invoke(app, ["costs", "-w", f"{out}.ledger", "--json"]).stdout)
    assert found["total"]["calls"] == 3


def test_another_file_or_teacher_does_not_get_into_the_same_ledger(file: Path, tmp_path: Path) -> None:
    out, other = tmp_path / "traces.json", tmp_path / "other.csv"
    other.write_text(ROWS)
    recipe = tmp_path / "deep.toml"
    recipe.write_text('name = "deep"\nsource = "demo"\n[teacher]\ndepth = "high"\n')
    assert run(file, "--teacher", "policy", "--out", out).exit_code == 0
    for words in ((other, "--teacher", "policy"), (file, "--recipe", recipe)):
        said = run(*words, "--out", out)
        assert said.exit_code == 2
        assert "choose another --out" in said.stderr


def test_rows_that_are_left_out_and_labels_that_are_unknown_are_told(tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("text,label\nhow do I knit a hat,benign\nhow to build a bomb at home,malicious\n,malicious\n")
    said = run(rows, "--teacher", "policy", "--out", tmp_path / "t.json", "--json")
    told = json.loads(said.stdout)
    assert (told["answered"], told["left_out"], told["unknown_labels"]) == (2, 1, {"request": {"malicious": 1}})
    assert "1 of its rows are left out\n  row 3: the prompt is empty\n" in said.stderr
    assert "unknown request labels, asked about without this label: 1 'malicious'" in said.stderr


def test_no_usable_answer_is_a_failure(file: Path, tmp_path: Path) -> None:
    with OpenAIWire(lambda _number, _path: "max tokens") as server:
        recipe = tmp_path / "mine.toml"
        section = f'[teacher]\nnames = ["openai"]\n[teacher.openai]\nbase_url = "{server.url}/v1"\nmodel = "m"\n'
        recipe.write_text(f'name = "mine"\nsource = "demo"\n{section}')
        said = run(file, "--teacher", "openai", "--recipe", recipe, "--out", tmp_path / "t.json")
    assert said.exit_code == 1, said.output
    assert "0 of 3 rows answered" in said.stderr
    assert "no answer could be used" in said.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "give one of FILE"),
        (("FILE",), "--out traces.json"),
        (("FILE", "--unanswered"), "give one of FILE"),
        (("FILE", "--teacher", "nobody", "--out", "t.json"), "--teacher nobody"),
        (("FILE", "--teacher", "recorded", "--out", "t.json"), "go together"),
        (("none.csv", "--teacher", "policy", "--out", "t.json"), "none.csv"),
    ],
)
def test_what_cannot_be_done_says_what_to_do(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    said = run(*(str(file) if word == "FILE" else word for word in words))
    assert said.exit_code == 2
    assert says in said.stderr
    assert not (tmp_path / "t.json").exists()


def test_what_is_in_doubt_is_asked_again_when_a_person_says_so_and_stays_charged(tmp_path: Path) -> None:
    def say(asked: Question, number: int) -> Answer:
        return fault("overloaded", "timeout", billed="unknown") if number == 1 else ok(asked)

    ctx, teacher = context(tmp_path, 1), Scripted(say)
    assert teach(ctx, [client(teacher)]) == "0 of 1 taught; 1 without an answer"
    with ctx.store.write() as db:
        steps.finish_step(db, 0, "teach", "", ctx.now())
    said = run("--ask-again", "-w", tmp_path)
    assert "1 calls will be asked again in round 1; $0.0001 stays charged" in said.stderr
    with ctx.store.write() as db:
        steps.begin_round(db, 1, None, ctx.now())
        steps.begin_step(db, 1, "teach", ctx.now())
    ctx.round = 1
    teach(ctx, [client(teacher)])
    with ctx.store.read() as db:
        assert [trace.sample_id for trace in teacher_calls.traces(db, 1)] == [1]
        assert spending.budget(db).settled_micro == WORST + 60
    assert "no ambiguous calls" in run("--ask-again", "-w", tmp_path).stderr
