"""`wizloop rate`: drawing a set, its raters' agreement on a terminal and as JSON, and what is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.rating_sets import ANNA, BOB, add, answer, rate
from wizloop.loop.cli import app


def rates(workspace: Path, *words: str | Path) -> Result:
    return CliRunner().invoke(app, ["rate", str(words[0]), "-w", str(workspace), *map(str, words[1:])])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty outputs that Anna and Bob have rated: they differ on the request of every fourth, Bob grades one lower."""
    folder = tmp_path_factory.mktemp("made") / "runs"
    add(folder, 40)
    anna = {n: answer(n, "harmful" if n % 2 else "unharmful", 2 + n % 4) for n in range(40)}
    bob = {n: answer(n, "harmful" if n % 4 == 1 else "unharmful", 1 + n % 4) for n in range(40)}
    rate(folder, ANNA, anna)
    rate(folder, BOB, bob)
    return folder


@pytest.fixture
def workspace(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "runs"))


def figures(workspace: Path) -> Any:
    done = rates(workspace, "agreement", "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_agreement_as_json(workspace: Path) -> None:
    found = figures(workspace)
    assert [(one["rater"], one["rated"], one["mean_coherence"]["value"]) for one in found["raters"]] == [
        ("anna", 40, 3.5),
        ("bob", 40, 2.5),
    ]
    assert [one["coherent"]["value"] for one in found["raters"]] == [0.5, 0.25]
    pairs = {one["question"]: one for one in found["pairs"]}
    assert list(pairs) == ["request", "completion", "response", "coherence"]
    request = pairs["request"]
    assert (request["n"], request["prompts"], request["table"]) == (40, 40, [[10, 10], [0, 20]])
    # By hand: (0.75 - 0.5) / (1 - 0.5).
    assert (request["same"]["value"], request["kappa"]["value"]) == (0.75, pytest.approx(0.5))
    assert request["kappa"]["low"] < 0.5 < request["kappa"]["high"]
    assert [one["too_few"] for one in pairs.values()] == [False, True, True, False]
    assert pairs["completion"]["kappa"]["value"] is None
    assert (pairs["coherence"]["weights"], pairs["coherence"]["same"]["value"]) == ("quadratic", 0)
    alphas = {one["question"]: one for one in found["alpha"]}
    # By hand: 10 of 40 differ, 30 of 80 answers are harmful: 1 - (80 - 1) * 2 * 10 / (2 * 30 * 50).
    assert alphas["request"]["value"] == pytest.approx(1 - 79 * 20 / (2 * 30 * 50))
    assert (alphas["request"]["level"], alphas["coherence"]["level"]) == ("nominal", "ordinal")
    assert found["differing"] == 40


def test_agreement_on_a_terminal_fits_and_says_what_is_too_few(workspace: Path) -> None:
    done = rates(workspace, "agreement")
    assert max(map(len, done.stdout.splitlines())) <= 80
    said = " ".join(done.stdout.split())
    assert "request anna / bob 40 75 % (" in said
    assert "Too few for an interval, which needs 30 prompts that both rated: completion 20 (anna / bob)" in said
    assert "both gave one label only" in said
    assert "request: anna by row, bob by column" in said
    assert "Raters differ on 40 outputs; --rows FILE writes them." in said


@pytest.mark.parametrize("texts", [False, True])
def test_rows_on_which_raters_differ_are_written(tmp_path: Path, texts: bool) -> None:
    add(tmp_path, 3)
    rate(tmp_path, ANNA, {0: answer(0), 1: answer(1, "harmful"), 2: answer(2)})
    rate(tmp_path, BOB, {0: answer(0), 1: answer(1, "unharmful", 1)})
    rows = tmp_path / "rows.jsonl"
    done = rates(tmp_path, "agreement", "--json", "--rows", rows, *(["--texts"] if texts else []))
    assert done.exit_code == 0, done.output
    (found,) = [json.loads(line) for line in rows.read_text().splitlines()]
    assert (found["output"], found["differ"], found["row"]) == (2, ["request", "coherence"], "made:1")
    assert found["raters"]["bob"] == {
        "request": "unharmful", "completion": "compliance", "response": "unharmful", "coherence": 1,
    }  # fmt: skip
    assert (found["verdict"]["request"], "prompt" in found, "reasoning" in found) == ("unharmful", texts, texts)


def test_one_rater_agrees_with_nobody(tmp_path: Path) -> None:
    add(tmp_path, 2)
    assert "Nobody has rated it yet" in rates(tmp_path, "agreement").stdout
    rate(tmp_path, ANNA, {0: answer(0)})
    done = rates(tmp_path, "agreement")
    assert ("1 of 2" in done.stdout, "Agreement needs two raters." in done.stdout) == (True, True)
    assert (figures(tmp_path)["pairs"], figures(tmp_path)["alpha"]) == ([], [])


def test_a_file_needs_no_run_and_no_workspace(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"p {n}", "reasoning": "r" * (n % 2)}) + "\n" for n in range(6)))
    done = rates(tmp_path / "new", "draw", "--file", path, "--n", "4", "--seed", "3", "--json")
    assert json.loads(done.stdout) == {
        "set": 1, "of": "file", "name": "rows.jsonl", "round": None, "seed": 3, "outputs": 4,
        "with_reasoning": 2, "of_how_many": 6,
    }  # fmt: skip
    assert "2 have no reasoning: its coherence is not asked there" in done.stderr


def test_a_file_that_cannot_be_read_leaves_no_workspace(tmp_path: Path) -> None:
    done = rates(tmp_path / "new", "draw", "--file", tmp_path / "gone.jsonl")
    assert (done.exit_code, (tmp_path / "new").exists()) == (2, False)


def test_a_teachers_reasoning_is_drawn_from_a_run(after_a_night: Path) -> None:
    done = rates(after_a_night, "draw", "--of", "teacher")
    assert done.stderr == "set 1: 2 of 2 outputs of policy, drawn with seed 7\n"
    assert "\x1b" not in rates(after_a_night, "agreement").output


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["draw", "--file", "f.jsonl", "--of", "teacher"], "--file does not go with --of and --round"),
        (["draw", "--file", "gone.jsonl"], "gone.jsonl: no such file"),
        (["draw"], "has written no traces: it answers directly"),
        (["draw", "--round", "7"], "round 7 has no challenger"),
        (["draw", "--n", "0"], "0 is not in the range"),
        (["agreement"], "draw outputs with `wizloop rate draw`"),
        (["agreement", "--texts"], "--texts goes with --rows FILE"),
        (["import", "gone.jsonl"], "gone.jsonl: no such file"),
    ],
)
def test_what_cannot_be_is_refused(after_a_night: Path, words: list[str], why: str) -> None:
    done = rates(after_a_night, *words)
    assert (done.exit_code, why in done.stderr) == (2, True), done.stderr


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--as", "anna", "draw"], "options of `wizloop rate draw` go after its name"),
        (["--as", "anna"], "rate needs a terminal"),
        (["--as", " "], "is no name for a rater"),
    ],
)
def test_the_group_itself_opens_the_screen(workspace: Path, words: list[str], why: str) -> None:
    done = CliRunner().invoke(app, ["rate", "-w", str(workspace), *words])
    assert (done.exit_code, why in done.stderr) == (2, True), done.stderr
