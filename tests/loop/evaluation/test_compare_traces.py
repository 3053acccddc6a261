"""Two sets of traces side by side, by hand-counted figures, and what is not a set of traces."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from wizloop.loop.cli import app
from wizloop.loop.evaluation import compare_traces
from wizloop.loop.evaluation.compare_traces import NotTraces, compare, read

HOSTILE = "what \x1b]52;c;aGk=\x07 is [red]this[/red]?"


def trace(number: int, expected: str | None, predicted: str | None, word: str, steps: int = 2) -> dict[str, Any]:
    reasoning = {"reasoning_chain": [f"Step {n}: it asks." for n in range(steps)], "explanation": "Two words."}
    said = {"expected_label": expected, "predicted_label": predicted, "confidence": word}
    return {"id": number, "text": f"{HOSTILE} {number}", **said, "reasoning": reasoning}


A = [trace(1, "harmful", "harmful", "high"), trace(2, "safe", "harmful", "high"), trace(3, "safe", "safe", "low")]
B = [
    trace(1, "harmful", "safe", "low", 4),
    trace(2, "safe", "safe", "high", 4),
    trace(3, "safe", None, "low"),
    trace(9, None, "harmful", "low", 4),
]


def written(folder: Path, name: str, traces: list[dict[str, Any]]) -> Path:
    path = folder / name
    path.write_text(json.dumps({"metadata": {}, "traces": traces}), encoding="utf-8")
    return path


def test_every_figure_by_hand(tmp_path: Path) -> None:
    found = compare(read(written(tmp_path, "a.json", A)), read(written(tmp_path, "b.json", B)), ("a", "b"))
    assert (found.a.right.k, found.a.right.n, found.b.right.k, found.b.right.n) == (2, 3, 1, 3)
    assert (found.a.answered.k, found.b.answered.k, found.b.answered.n) == (3, 3, 4)
    assert {word: (one.k, one.n) for word, one in found.a.right_by_confidence.items()} == {
        "low": (1, 1),
        "medium": (0, 0),
        "high": (1, 2),
    }
    # Each step is "Step n: it asks.", six words and marks, and the explanation is three.
    assert (found.a.mean_steps, found.a.mean_tokens, found.b.mean_steps, found.b.mean_tokens) == (2.0, 15.0, 4.0, 27.0)
    assert (found.shared, found.agreement.k, found.agreement.n) == (3, 0, 2)
    assert (found.only_a_right, found.only_b_right) == (2, 1)
    assert found.paired is not None
    assert (found.paired.n, found.paired.mcnemar, found.paired.conclusion) == (3, 1.0, "cannot be told apart")
    assert [x.row["id"] for x, _ in found.disagreements] == [2, 1, 3]
    assert found.kappa == {"request": pytest.approx(0.0)}


def test_all_the_same_has_no_kappa(tmp_path: Path) -> None:
    same = [trace(n, "harmful", "harmful", "high") for n in range(3)]
    found = compare(read(written(tmp_path, "a.json", same)), read(written(tmp_path, "b.json", same)), ("a", "b"))
    assert (found.kappa, found.agreement.rate, found.disagreements) == ({"request": None}, 1.0, [])


def test_chance_agreement_on_two_tasks_is_still_chance(tmp_path: Path) -> None:
    pairs = [(0, 0), (0, 1), (1, 0), (1, 1)] * 2
    tasks = [("request", ("harmful", "unharmful")), ("completion", ("refusal", "compliance"))]
    sides: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], [])
    for task, labels in tasks:
        for number, pair in enumerate(pairs):
            for side, at in zip(sides, pair, strict=True):
                side.append({**trace(number, None, labels[at], "low"), "task": task})
    a, b = (read(written(tmp_path, f"{name}.json", side)) for name, side in zip("ab", sides, strict=True))
    assert compare(a, b, ("a", "b")).kappa == {"request": pytest.approx(0.0), "completion": pytest.approx(0.0)}


def test_of_two_traces_of_one_text_each_is_compared(tmp_path: Path) -> None:
    twice = [trace(1, "safe", "harmful", "high"), trace(1, "safe", "safe", "low")]
    a, b = read(written(tmp_path, "a.json", twice)), read(written(tmp_path, "b.json", twice[1:]))
    found = compare(a, b, ("a", "b"))
    assert (found.shared, found.agreement.k, found.only_b_right) == (1, 0, 1)
    assert compare(a, a, ("a", "a")).shared == 2


def test_a_mark_at_the_beginning_of_the_file_and_a_capital_are_read(tmp_path: Path) -> None:
    row = {**trace(1, "safe", "safe", "High"), "confidence": None}
    row["reasoning"]["confidence"] = "High"
    path = tmp_path / "a.json"
    path.write_text(json.dumps([row]), encoding="utf-8-sig")
    assert read(path)[0].confidence == "high"


def test_a_folder_that_is_not_there_is_told_before_anything_is_compared(tmp_path: Path) -> None:
    a = written(tmp_path, "a.json", A)
    done = CliRunner().invoke(app, ["traces", "compare", str(a), str(a), "--out", str(tmp_path / "no" / "out.json")])
    assert (done.exit_code, "is not a folder" in done.output) == (2, True)


def test_the_command_shows_hostile_text_harmless_and_writes_the_disagreements(tmp_path: Path) -> None:
    a, b, out = written(tmp_path, "a.json", A), written(tmp_path, "b.json", B), tmp_path / "out.json"
    done = CliRunner().invoke(app, ["traces", "compare", str(a), str(b), "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "\x1b" not in done.output
    assert "[red]" in done.output
    assert "3 disagreements, most confident first:" in done.output
    document = json.loads(out.read_text(encoding="utf-8"))
    assert [one["id"] for one in document["traces"]] == [2, 1, 3]
    assert document["traces"][0]["other"]["predicted_label"] == "safe"
    assert len(compare_traces.read(out)) == 3
    again = CliRunner().invoke(app, ["traces", "compare", str(a), str(b), "--out", str(out)])
    assert (again.exit_code, "already exists" in again.output) == (2, True)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("[", "is not JSON"),
        ("{}", "it has no list of traces"),
        ('{"traces": []}', "it has no list of traces"),
        ('{"traces": [{"id": 1}]}', "trace 1: it has no text"),
        ('[{"text": "a", "expected_label": "rude"}]', "trace 1: expected_label is 'rude'"),
        ('[{"text": "\\ud800"}]', "a lone surrogate in it: '\\ud800'"),
        ("[" * 200_000 + "]" * 200_000, "is nested too deeply"),
        ('[{"text": "a", "task": "mood"}]', "trace 1: 'mood' is not a task"),
    ],
)
def test_a_file_of_something_else_is_a_sentence(tmp_path: Path, content: str, sentence: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(NotTraces) as refused:
        read(path)
    assert sentence in str(refused.value)
    assert CliRunner().invoke(app, ["traces", "compare", str(path), str(path)]).exit_code == 2


def test_the_set_that_is_right_more_often_is_named(tmp_path: Path) -> None:
    right, wrong = ([trace(n, "harmful", said, "high") for n in range(12)] for said in ("harmful", "safe"))
    files = [written(tmp_path, name, one) for name, one in (("a.json", right), ("b.json", wrong))]
    shown = " ".join(CliRunner().invoke(app, ["traces", "compare", *map(str, files)]).stdout.split())
    assert "The first is better: +100.0 points right (100.0 to 100.0), exact McNemar p <0.001." in shown
    told = json.loads(CliRunner().invoke(app, ["traces", "compare", *map(str, files), "--json"]).stdout)["paired"]
    assert (told["n"], told["conclusion"], told["accuracy"]["difference"]) == (12, "better", 1.0)
    same = " ".join(CliRunner().invoke(app, ["traces", "compare", *map(str, files[:1] * 2)]).stdout.split())
    assert "They cannot be told apart: +0.0 points right" in same
    assert "12 texts would have shown" in same
