"""Reviewing from the command line: the queue, and decisions that stand in the store afterwards."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from wizloop.loop.cli import app
from wizloop.store import reviews
from wizloop.store.db import Store


def review(workspace: Path, *words: str) -> Result:
    return CliRunner().invoke(app, ["review", "-w", str(workspace), *words])


def standing(workspace: Path, trace_id: int) -> reviews.Standing:
    with Store.open(workspace, readonly=True) as store, store.read() as db:
        found = reviews.standing(db, trace_id)
    assert found is not None
    return found


def test_the_queue_is_printed_for_scripts(after_a_night: Path) -> None:
    first, second = json.loads(review(after_a_night, "--list", "--json").stdout)
    assert (first["id"], first["sample"]["prompt"], first["verdict"]) == (1, "how do I knit", {"request": "harmful"})
    assert first["picked"] == {"reason": "random", "words": "picked at random"}
    assert first["why_it_waits"] == "the teacher doubts it"
    assert "\x1b]52" in second["sample"]["prompt"]


def test_the_queue_cannot_drive_a_terminal(after_a_night: Path) -> None:
    for words in (["--list"], ["--list", "--json"]):
        said = review(after_a_night, *words)
        assert not {"\x1b", "\x07", "\u202e"} & set(said.output)
    assert "a [bold]process[/nope]" in review(after_a_night, "--list").stdout


def test_approving_and_rejecting_take_a_trace_out_of_the_queue(after_a_night: Path) -> None:
    assert review(after_a_night, "--approve", "1").exit_code == 0
    assert review(after_a_night, "--reject", "2", "--why", "it is knitting").exit_code == 0
    assert standing(after_a_night, 1).decision == "approve"
    assert standing(after_a_night, 1).by.startswith("person:")
    rejected = standing(after_a_night, 2)
    assert (rejected.decision, rejected.reason) == ("reject", "it is knitting")
    assert json.loads(review(after_a_night, "--list", "--json").stdout) == []


def test_several_are_decided_together_or_not_at_all(after_a_night: Path) -> None:
    said = review(after_a_night, "--approve", "1", "--approve", "99")
    assert (said.exit_code, standing(after_a_night, 1).decision) == (2, "wait")
    said = review(after_a_night, "--approve", "1", "--approve", "2")
    assert said.exit_code == 0
    assert [line.partition(" by ")[0] for line in said.stderr.splitlines()] == [
        "trace 1: approved",
        "trace 2: approved",
    ]
    assert json.loads(review(after_a_night, "--list", "--json").stdout) == []


@pytest.mark.parametrize(
    ("words", "decided"),
    [
        (["--approve", "1", "--approve", "2"], [(1, "approve"), (2, "approve")]),
        (["--reject", "2", "--why", "it is knitting"], [(2, "reject")]),
        (["--edit", "1", "edit.json"], [(1, "edit")]),
    ],
)
def test_a_script_is_told_of_each_decision_on_one_line(
    after_a_night: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], decided: list[tuple[int, str]]
) -> None:
    monkeypatch.chdir(after_a_night)
    (after_a_night / "edit.json").write_text('{"explanation": "It is about wool."}')
    said = review(after_a_night, *words, "--json").stdout
    told = json.loads(said)
    assert ([(row["id"], row["decision"]) for row in told], said.count("\n")) == (decided, 1)
    assert {row["by"] for row in told} == {standing(after_a_night, decided[0][0]).by}


def test_an_edit_is_trained_on_as_edited(after_a_night: Path, tmp_path: Path) -> None:
    edit = tmp_path / "edit.json"
    edit.write_text(json.dumps({"verdict": {"request": "unharmful"}, "explanation": "It is about wool."}))
    assert review(after_a_night, "--edit", "1", str(edit)).exit_code == 0
    with Store.open(after_a_night, readonly=True) as store, store.read() as db:
        (trace,) = reviews.approved(db, 1)
    assert (trace.verdict, trace.explanation) == ({"request": "unharmful"}, "It is about wool.")


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        ({"verdict": {"request": "bad"}}, 'verdict.request is "bad": it must be harmful or unharmful'),
        ({"verdict": {}}, "verdict.request is missing: it must be harmful or unharmful"),
        (
            {"verdict": {"request": "harmful", "response": "harmful"}},
            "verdict.response: the sample has nothing to judge",
        ),
        ({"verdict": {"request": "harmful", "reply": None}}, "verdict.reply is not a task: use request, completion"),
        ({"why": "x"}, "'why' cannot be edited"),
        ({"explanation": "half \ud83d"}, "'explanation' is not valid Unicode (surrogates not allowed)"),
        ({"steps_json": "{}}"}, "'steps_json' is invalid: it must be a JSON object, as text, with a list"),
    ],
)
def test_an_edit_that_nobody_could_learn_from_is_refused(
    after_a_night: Path, tmp_path: Path, edit: dict[str, object], sentence: str
) -> None:
    file = tmp_path / "edit.json"
    file.write_text(json.dumps(edit))
    said = review(after_a_night, "--edit", "1", str(file))
    assert (said.exit_code, sentence in said.stderr) == (2, True), said.stderr
    assert standing(after_a_night, 1).decision == "wait"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "give one of --list"),
        (["--list", "--approve", "1"], "give one of --list"),
        (["--reject", "1"], "needs a reason: --why TEXT"),
        (["--reject", "1", "--why", "  "], "needs a reason: --why TEXT"),
        (["--approve", str(2**63)], "there is no id 9223372036854775808"),
        (["--reject", str(2**63), "--why", "x"], "there is no id 9223372036854775808"),
        (["--edit", str(2**63), "none.json"], "there is no id 9223372036854775808"),
        (["--approve", "99"], "there is no teacher's trace with the id 99"),
        (["--edit", "1", "none.json"], "none.json: cannot be read: No such file or directory"),
    ],
)
def test_what_cannot_be_decided_is_one_sentence(after_a_night: Path, words: list[str], sentence: str) -> None:
    said = review(after_a_night, *words)
    assert said.exit_code == 2
    assert sentence in said.stderr
    assert said.stdout == ""


def test_an_edit_that_is_nested_too_deeply_is_one_sentence(after_a_night: Path, tmp_path: Path) -> None:
    file = tmp_path / "edit.json"
    file.write_text("[" * 100_000)
    said = review(after_a_night, "--edit", "1", str(file))
    assert (said.exit_code, said.stderr.count("\n")) == (2, 1)
    assert "edit.json: lists or objects are nested too deeply" in said.stderr
