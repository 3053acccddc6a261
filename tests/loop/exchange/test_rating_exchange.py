"""Ratings in other programs: what leaves is blind, and what comes back is one rater's, whole and only once."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result

from tests.rating_sets import ANNA, BOB, add, answer, rate
from wizloop.loop.cli import app
from wizloop.store import ratings
from wizloop.store.db import Store
from wizloop.store.ratings import Answer

Given = dict[str, Any]
WHOLE: Given = {"request_verdict": "harmful", "coherence": "2 poor"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a set of two outputs; the first has no response."""
    folder = tmp_path_factory.mktemp("made") / "runs"
    add(folder, 2, says="MARK")
    return folder


@pytest.fixture
def workspace(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "runs"))


def rates(workspace: Path, *words: str | Path) -> Result:
    return CliRunner().invoke(app, ["rate", str(words[0]), "-w", str(workspace), *map(str, words[1:])])


def exported(workspace: Path, to: Path, *words: str) -> Path:
    done = rates(workspace, "export", to, *words)
    assert done.exit_code == 0, done.output
    return to


def stands(workspace: Path) -> dict[str, dict[int, Answer]]:
    with Store.open(workspace, readonly=True) as store, store.read() as db:
        return {by: {n: row.answer for n, row in rated.items()} for by, rated in ratings.standing(db, 1).items()}


def annotated(task: Any, given: Given, who: Any = 7) -> Any:
    """A task of Label Studio with one person's answers."""
    result = [{"from_name": name, "to_name": "prompt", "type": "choices", "value": {"choices": [value]}}
              for name, value in given.items()]  # fmt: skip
    return {**task, "annotations": [{"completed_by": who, "was_cancelled": False, "result": result}]}


def label_studio(workspace: Path, folder: Path, given: Given, *words: str) -> Path:
    first, second = json.loads(
        (exported(workspace, folder / "ls", "--for", "label-studio", *words) / "tasks.json").read_text()
    )
    (folder / "project.json").write_text(json.dumps([annotated(first, given), {**second, "annotations": []}]))
    return folder / "project.json"


def label_studio_csv(workspace: Path, folder: Path, given: Given, *words: str) -> Path:
    first, _ = json.loads(
        (exported(workspace, folder / "ls", "--for", "label-studio", *words) / "tasks.json").read_text()
    )
    row = {**first["data"], "id": 1, **given, "annotator": 7, "annotation_id": 31, "lead_time": 4.2}
    return written(folder / "project.csv", [row])


def argilla(workspace: Path, folder: Path, given: Given, *words: str) -> Path:
    first, second = json.loads(
        (exported(workspace, folder / "out", "--for", "argilla", *words) / "records.json").read_text()
    )
    responses = {name: [{"value": value, "user_id": "7"}] for name, value in given.items()}
    (folder / "disk").mkdir()
    (folder / "disk" / "records.json").write_text(json.dumps([{**first, "responses": responses}, second]))
    return folder / "disk"


def jsonl(workspace: Path, folder: Path, given: Given, *words: str) -> Path:
    lines = exported(workspace, folder / "t.jsonl", *words).read_text().splitlines()
    rows = [{**json.loads(lines[0]), **given}, *map(json.loads, lines[1:])]
    (folder / "back.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "back.jsonl"


def table(workspace: Path, folder: Path, given: Given, *words: str) -> Path:
    with exported(workspace, folder / "t.csv", *words).open(newline="") as file:
        rows = list(csv.DictReader(file))
    rows[0] |= given
    return written(folder / "back.csv", rows)


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    with path.open("w", newline="") as file:
        made = csv.DictWriter(file, list(rows[0]))
        made.writeheader()
        made.writerows(rows)
    return path


TOOLS = (label_studio, label_studio_csv, argilla, jsonl, table)


@pytest.mark.parametrize("tool", TOOLS)
def test_a_rating_comes_back_under_the_name_that_it_was_exported_for(
    workspace: Path, tmp_path: Path, tool: Callable[..., Path]
) -> None:
    file = tool(workspace, tmp_path, WHOLE, "--as", "anna")
    done = rates(workspace, "import", file)
    assert (done.exit_code, done.stderr) == (0, "1 recorded\n"), done.output
    assert stands(workspace) == {ANNA: {1: Answer({"request": "harmful"}, 2)}}
    assert rates(workspace, "import", file).stderr == "1 known already\n"


@pytest.mark.parametrize(("tool", "by"), [(label_studio, "person:label-studio:7"), (argilla, "person:argilla:7")])
def test_without_a_name_the_tools_own_people_are_the_raters(
    workspace: Path, tmp_path: Path, tool: Callable[..., Path], by: str
) -> None:
    rates(workspace, "import", tool(workspace, tmp_path, WHOLE))
    assert list(stands(workspace)) == [by]


@pytest.mark.parametrize("words", [("t.csv", "--as", "bob"), ("d", "--for", "argilla"), ("d", "--for", "label-studio")])
def test_what_leaves_is_blind(workspace: Path, tmp_path: Path, words: tuple[str, ...]) -> None:
    rate(workspace, ANNA, {0: answer(0, "harmful", 1)})
    exported(workspace, tmp_path / words[0], *words[1:])
    whole = "".join(one.read_text() for one in tmp_path.rglob("*") if one.suffix in (".csv", ".json", ".xml"))
    assert "how sharp is knife 0" in whole
    assert [one for one in ("MARK", "anna", "known_label", '"score"', '"model_version"') if one in whole] == []


def test_only_what_the_rater_has_not_rated_leaves(workspace: Path, tmp_path: Path) -> None:
    rate(workspace, ANNA, {0: answer(0)})
    rows = [
        json.loads(line) for line in exported(workspace, tmp_path / "a.jsonl", "--as", "anna").read_text().splitlines()
    ]
    assert [row["prompt"] for row in rows] == ["how sharp is knife 1"]
    rate(workspace, ANNA, {1: answer(1)})
    done = rates(workspace, "export", tmp_path / "b.jsonl", "--as", "anna")
    assert (done.stderr, (tmp_path / "b.jsonl").exists()) == ("anna has rated every output of set 1\n", False)


def test_a_new_answer_replaces_the_older_one_and_both_are_in_the_log(workspace: Path, tmp_path: Path) -> None:
    file = jsonl(workspace, tmp_path, WHOLE, "--as", "anna")
    rates(workspace, "import", file)
    file.write_text(file.read_text().replace("2 poor", "5"))
    assert rates(workspace, "import", file).stderr == "1 changed\n"
    with Store.open(workspace, readonly=True) as store, store.read() as db:
        assert [row.coherence for row in ratings.log(db, 1)] == [2, 5]


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (WHOLE | {"coherence": "9"}, "record 1: coherence is '9': give 1 to 5"),
        (WHOLE | {"coherence": 3.5}, "record 1: output 1: coherence must be 1 to 5"),
        (
            WHOLE | {"request_verdict": "=harmful"},
            "record 1: output 1: request is '=harmful': give harmful or unharmful",
        ),
        ({"coherence": 3}, "record 1: output 1: request has no answer: give harmful or unharmful"),
        (WHOLE | {"response_verdict": "harmful"}, "record 1: output 1: 'response' is not asked: leave it out"),
        (WHOLE | {"wizloop_digest": "0"}, "record 1: output 1 is another text here: is it from another workspace?"),
        (WHOLE | {"wizloop_output": 99}, "record 1: there is no output 99 to rate here"),
        (WHOLE | {"rater": "a\x1b[2J"}, "record 1: 'a\\x1b[2J' is no name for a rater"),
    ],
)
def test_an_answer_that_is_no_rating_is_named(workspace: Path, tmp_path: Path, given: Given, why: str) -> None:
    done = rates(workspace, "import", jsonl(workspace, tmp_path, given, "--as", "anna"))
    assert done.exit_code == 0
    assert done.stderr.startswith(f"not recorded: {why}")
    assert stands(workspace) == {}


def test_two_different_answers_for_one_rater_are_none(workspace: Path, tmp_path: Path) -> None:
    file = label_studio(workspace, tmp_path, WHOLE, "--as", "anna")
    first, second = json.loads(file.read_text())
    first["annotations"] += annotated({}, WHOLE | {"coherence": "4 mostly"}, who=8)["annotations"]
    file.write_text(json.dumps([first, second]))
    assert "output 1: 2 different answers of anna: keep one" in rates(workspace, "import", file).stderr
    assert stands(workspace) == {}


def test_the_labeling_interface_asks_for_verdicts_and_coherence(workspace: Path, tmp_path: Path) -> None:
    view = ElementTree.parse(exported(workspace, tmp_path / "ls", "--for", "label-studio") / "labeling.xml")
    asked = {one.get("name"): [each.get("value") for each in one] for one in view.iter("Choices")}
    assert list(asked) == ["request_verdict", "completion_verdict", "response_verdict", "coherence"]
    assert asked["coherence"] == ["1 none", "2 poor", "3 partly", "4 mostly", "5 fully"]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("t.csv",), "a table needs --as NAME"),
        (("t.txt", "--as", "anna"), "a file named .csv or .jsonl"),
        (("t.csv", "--as", " "), "no name for a rater"),
        (("t.csv", "--as", "anna", "--set", "7"), "no rating set 7"),
    ],
)
def test_an_export_that_cannot_come_back_is_refused(
    workspace: Path, tmp_path: Path, words: tuple[str, ...], why: str
) -> None:
    done = rates(workspace, "export", tmp_path / words[0], *words[1:])
    assert (done.exit_code, why in done.stderr) == (2, True), done.stderr


def test_a_cell_is_no_formula(tmp_path: Path) -> None:
    add(tmp_path / "runs", 1, reasoning="=1+1")
    file = exported(tmp_path / "runs", tmp_path / "t.csv", "--as", "bob")
    assert "'=1+1" in file.read_text()
    with file.open(newline="") as opened:
        rows = [{**row, **WHOLE} for row in csv.DictReader(opened)]
    assert rates(tmp_path / "runs", "import", written(tmp_path / "back.csv", rows)).stderr == "1 recorded\n"
    assert list(stands(tmp_path / "runs")) == [BOB]
