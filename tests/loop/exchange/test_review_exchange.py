"""Reviews in a browser: what Label Studio and Argilla are given, and what comes back as they export it."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import update

from wizloop.loop.cli import app
from wizloop.store import reviews, samples, tables, teacher_calls
from wizloop.store.db import Store

Given = dict[str, str]
EDITED = {"decision": "approve", "request_verdict": "unharmful", "explanation": "It is about wool."}


def review(workspace: Path, *words: str | Path) -> Result:
    return CliRunner().invoke(app, ["review", "-w", str(workspace), *map(str, words)])


def exported(workspace: Path, folder: Path, tool: str) -> Any:
    """What the tool is given: the tasks of Label Studio, or the records of Argilla."""
    done = review(workspace, "--export", folder, "--for", tool)
    assert done.exit_code == 0, done.output
    return json.loads((folder / {"label-studio": "tasks.json", "argilla": "records.json"}[tool]).read_text())


def standing(workspace: Path, trace_id: int) -> reviews.Standing:
    with Store.open(workspace, readonly=True) as store, store.read() as db:
        found = reviews.standing(db, trace_id)
    assert found is not None
    return found


def approved(workspace: Path) -> dict[int, teacher_calls.TeacherTrace]:
    with Store.open(workspace, readonly=True) as store, store.read() as db:
        return {one.id: one for one in reviews.approved(db, 9)}


def annotation(given: Given, who: Any = 7, **more: Any) -> dict[str, Any]:
    """An annotation as Label Studio stores it."""
    texts = ("explanation", "steps", "reason")
    result = [
        {
            "id": f"r-{name}",
            "from_name": name,
            "to_name": "prompt",
            "type": "textarea" if name in texts else "choices",
            "value": {"text": [value]} if name in texts else {"choices": [value]},
            "origin": "manual",
        }
        for name, value in given.items()
    ]
    return {"id": 31, "completed_by": who, "was_cancelled": False, "result": result, "task": 1, **more}


def label_studio(workspace: Path, folder: Path, given: Given) -> Path:
    """Label Studio's JSON: the first task is answered, the second is not."""
    first, second = exported(workspace, folder / "out", "label-studio")
    rest = {"drafts": [], "project": 83, "total_annotations": 1, "meta": {}}
    tasks = [{"id": 1, **first, "annotations": [annotation(given)], **rest}, {"id": 2, **second, "annotations": []}]
    (folder / "project.json").write_text(json.dumps(tasks))
    return folder / "project.json"


def label_studio_min(workspace: Path, folder: Path, given: Given) -> Path:
    """Label Studio's JSON-MIN: data and answers side by side."""
    first, _ = exported(workspace, folder / "out", "label-studio")
    row = {**first["data"], "id": 1, **given, "annotator": 7, "annotation_id": 31, "lead_time": 4.2}
    (folder / "min.json").write_text(json.dumps([row]))
    return folder / "min.json"


def label_studio_csv(workspace: Path, folder: Path, given: Given) -> Path:
    first, _ = exported(workspace, folder / "out", "label-studio")
    row = {**first["data"], "id": 1, **given, "annotator": 7, "annotation_id": 31, "lead_time": 4.2}
    with (folder / "project.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, list(row))
        table.writeheader()
        table.writerow(row)
    return folder / "project.csv"


def argilla(workspace: Path, folder: Path, given: Given) -> Path:
    """The folder that `Dataset.to_disk` makes."""
    first, second = exported(workspace, folder / "out", "argilla")
    answers = {name: [{"value": value, "user_id": "u-7"}] for name, value in given.items()}
    records = [{**first, "responses": answers, "status": "completed"}, {**second, "status": "pending"}]
    (folder / "disk").mkdir()
    (folder / "disk" / "records.json").write_text(json.dumps(records))
    return folder / "disk"


def argilla_flat(workspace: Path, folder: Path, given: Given, status: str = "submitted") -> Path:
    """Records of `to_list(flatten=True)`, as JSON Lines."""
    first, second = exported(workspace, folder / "out", "argilla")
    flat = [{"id": one["id"], "status": "pending", **one["fields"], **one["metadata"]} for one in (first, second)]
    for name, value in given.items():
        flat[0] |= {f"{name}.responses": [value], f"{name}.responses.users": ["u-7"]}
        flat[0][f"{name}.responses.status"] = [status]
        flat[0][f"{name}.suggestion"] = value
    (folder / "flat.jsonl").write_text("".join(json.dumps(row) + "\n" for row in flat))
    return folder / "flat.jsonl"


TOOLS = (label_studio, label_studio_min, label_studio_csv, argilla, argilla_flat)


@pytest.mark.parametrize("tool", TOOLS)
def test_an_approval_a_correction_and_a_rejection_come_back(
    after_a_night: Path, tmp_path: Path, tool: Callable[[Path, Path, Given], Path]
) -> None:
    file = tool(after_a_night, tmp_path, EDITED)
    done = review(after_a_night, "--import", file)
    assert (done.exit_code, done.stderr) == (0, "1 approved as edited\n"), done.output
    trace = approved(after_a_night)[1]
    assert (trace.verdict, trace.explanation) == ({"request": "unharmful"}, "It is about wool.")
    by = {"a": "person:argilla:u-7", "l": "person:label-studio:7"}[tool.__name__[0]]
    assert (standing(after_a_night, 1).by, standing(after_a_night, 2).decision) == (by, "wait")
    # Importing the same file again changes nothing.
    assert review(after_a_night, "--import", file).stderr == "1 known already\n"


def test_an_answer_like_the_teacher_s_is_an_approval(after_a_night: Path, tmp_path: Path) -> None:
    said = approved_text(after_a_night)
    file = label_studio(after_a_night, tmp_path, {"decision": "approve", "request_verdict": "harmful", **said})
    assert review(after_a_night, "--import", file).stderr == "1 approved\n"
    assert standing(after_a_night, 1).edited_json is None


def approved_text(workspace: Path) -> Given:
    with Store.open(workspace, readonly=True) as store, store.read() as db:
        return {"explanation": teacher_calls.trace(db, 1).explanation}


def test_a_rejection_keeps_its_reason(after_a_night: Path, tmp_path: Path) -> None:
    file = argilla_flat(after_a_night, tmp_path, {"decision": "reject", "reason": "it is knitting"})
    assert json.loads(review(after_a_night, "--import", file, "--json").stdout) == {
        "approve": 0,
        "edit": 0,
        "reject": 1,
        "unchanged": 0,
        "undecided": 0,
        "problems": [],
    }
    assert (standing(after_a_night, 1).decision, standing(after_a_night, 1).reason) == ("reject", "it is knitting")


def test_a_correction_that_is_taken_back_approves_the_teacher_s_text(after_a_night: Path, tmp_path: Path) -> None:
    for at, given in enumerate((EDITED, {"decision": "approve"}, {"decision": "approve"})):
        (tmp_path / str(at)).mkdir()
        file = label_studio_min_of(after_a_night, tmp_path / str(at), given)
        assert review(after_a_night, "--import", file).exit_code == 0
    assert approved(after_a_night)[1].verdict == {"request": "harmful"}
    with Store.open(after_a_night, readonly=True) as store, store.read() as db:
        assert len(reviews.log(db, 1)) == 3


def label_studio_min_of(workspace: Path, folder: Path, given: Given) -> Path:
    """The same project again, whatever waits now."""
    with Store.open(workspace, readonly=True) as store, store.read() as db:
        (sample,) = samples.get(db, [1])
    row = {"wizloop_trace": 1, "wizloop_sample": sample.hash, **given, "annotator": 7, "annotation_id": 31}
    (folder / "min.json").write_text(json.dumps([row]))
    return folder / "min.json"


@pytest.fixture
def with_steps(after_a_night: Path) -> Path:
    """The workspace, whose first trace has two steps."""
    with Store.open(after_a_night) as store, store.write() as db:
        steps = json.dumps({"request": ["It asks for wool.", "Wool is harmless."]})
        db.execute(update(tables.teacher_traces).where(tables.teacher_traces.c.id == 1).values(steps_json=steps))
    return after_a_night


def test_steps_are_mended_line_by_line(with_steps: Path, tmp_path: Path) -> None:
    (first, _) = exported(with_steps, tmp_path / "out", "label-studio")
    said = {one["from_name"]: one["value"].get("text") for one in first["predictions"][0]["result"]}
    assert said["steps"] == ["request: It asks for wool.\nrequest: Wool is harmless."]
    first["annotations"] = [annotation({"decision": "approve", "steps": said["steps"][0] + "\r\n\n"})]
    assert imported(with_steps, [first], tmp_path).stderr == "1 approved\n"
    first["annotations"] = [annotation({"decision": "approve", "steps": "request: It asks: how?"})]
    assert imported(with_steps, [first], tmp_path).stderr == "1 approved as edited\n"
    assert json.loads(approved(with_steps)[1].steps_json) == {"request": ["It asks: how?"]}


@pytest.mark.parametrize(
    ("steps", "sentence"),
    [
        ("It asks.", "a line must begin with request and a colon, not 'It asks.'"),
        ("response: It asks.", "a line must begin with request and a colon"),
        ("request:", "a line must begin with request and a colon"),
    ],
)
def test_steps_that_nobody_can_place_change_nothing(
    with_steps: Path, tmp_path: Path, steps: str, sentence: str
) -> None:
    (first, _) = exported(with_steps, tmp_path / "out", "label-studio")
    first["annotations"] = [annotation({"decision": "approve", "steps": steps})]
    assert sentence in imported(with_steps, [first], tmp_path).stderr
    assert standing(with_steps, 1).decision == "wait"


@pytest.mark.parametrize("status", ["draft", "discarded"])
def test_a_draft_is_no_answer(after_a_night: Path, tmp_path: Path, status: str) -> None:
    done = review(after_a_night, "--import", argilla_flat(after_a_night, tmp_path, EDITED, status))
    assert (done.exit_code, "nobody has answered anything in it yet" in done.stderr) == (2, True)
    assert standing(after_a_night, 1).decision == "wait"


def test_records_that_do_not_say_whether_they_are_drafts_are_not_believed(after_a_night: Path, tmp_path: Path) -> None:
    folder = argilla(after_a_night, tmp_path, EDITED)
    text = (folder / "records.json").read_text().replace('"completed"', '"pending"')
    (folder / "records.json").write_text(text)
    done = review(after_a_night, "--import", folder)
    assert (done.exit_code, "may be drafts" in done.stderr) == (2, True)


def test_predictions_and_canceled_annotations_are_no_answers(after_a_night: Path, tmp_path: Path) -> None:
    tasks = exported(after_a_night, tmp_path / "out", "label-studio")
    for task in tasks:
        task |= {"id": 1, "annotations": [annotation(EDITED, was_cancelled=True)], "drafts": [annotation(EDITED)]}
    (tmp_path / "project.json").write_text(json.dumps(tasks))
    for file in (tmp_path / "project.json", tmp_path / "out" / "tasks.json"):
        done = review(after_a_night, "--import", file)
        assert (done.exit_code, "nobody has answered anything in it yet" in done.stderr) == (2, True), done.output
    assert approved(after_a_night) == {}


def imported(workspace: Path, tasks: Any, folder: Path) -> Result:
    (folder / "project.json").write_text(json.dumps(tasks))
    return review(workspace, "--import", folder / "project.json")


def test_people_who_disagree_decide_nothing_and_people_who_agree_once(after_a_night: Path, tmp_path: Path) -> None:
    first, second = exported(after_a_night, tmp_path / "out", "label-studio")
    yes, no = {"decision": "approve"}, {"decision": "reject"}
    first["annotations"] = [annotation(yes), annotation(no, {"id": 8, "email": "ada@example.com"})]
    second["annotations"] = [annotation(no), annotation(no, 8)]
    done = imported(after_a_night, [first, second], tmp_path)
    assert "people disagree (label-studio:7 approve, label-studio:ada@example.com reject): it keeps" in done.stderr
    assert done.stderr.endswith("1 rejected; 1 not recorded\n")
    assert [standing(after_a_night, one).decision for one in (1, 2)] == ["wait", "reject"]


def test_a_person_s_decision_is_not_overwritten_by_another_s(after_a_night: Path, tmp_path: Path) -> None:
    file = label_studio(after_a_night, tmp_path, {"decision": "reject"})
    assert review(after_a_night, "--approve", "1").exit_code == 0
    done = review(after_a_night, "--import", file)
    assert "trace 1 was already decided (approve) by person:" in done.stderr
    assert standing(after_a_night, 1).decision == "approve"


@pytest.mark.parametrize(
    ("data", "given", "sentence"),
    [
        ({"wizloop_sample": "00"}, EDITED, "trace 1 is about another text here"),
        ({"wizloop_trace": 99}, EDITED, "there is no teacher's trace with the id 99"),
        ({"wizloop_trace": "1e3"}, EDITED, "it has no wizloop_trace"),
        ({"wizloop_trace": 10**40}, EDITED, "it has no wizloop_trace"),
        ({}, {"decision": "maybe"}, "'maybe' is no decision: use approve or reject"),
        ({}, {"decision": "approve", "request_verdict": "bad"}, "request_verdict is 'bad': use harmful or unharmful"),
        ({}, {"decision": "approve", "response_verdict": "harmful"}, "the sample has nothing to judge there"),
        ({}, {"decision": "approve", "explanation": "half \ud83d"}, "'explanation' is not valid Unicode"),
    ],
)
def test_an_answer_that_cannot_be_a_decision_is_named_and_the_others_are_recorded(
    after_a_night: Path, tmp_path: Path, data: dict[str, Any], given: Given, sentence: str
) -> None:
    first, second = exported(after_a_night, tmp_path / "out", "label-studio")
    first["data"] |= data
    first["annotations"], second["annotations"] = [annotation(given)], [annotation({"decision": "approve"})]
    done = imported(after_a_night, [first, second], tmp_path)
    assert (done.exit_code, sentence in done.stderr) == (0, True), done.output
    assert [standing(after_a_night, one).decision for one in (1, 2)] == ["wait", "approve"]


def test_hostile_text_stays_text(after_a_night: Path, tmp_path: Path) -> None:
    tasks = exported(after_a_night, tmp_path / "ls", "label-studio")
    assert "\x1b]52" in tasks[1]["data"]["prompt"]
    raw = (tmp_path / "ls" / "tasks.json").read_bytes() + (tmp_path / "ls" / "labeling.xml").read_bytes()
    assert not {0x1B, 0x07} & set(raw)
    view = ElementTree.parse(tmp_path / "ls" / "labeling.xml").getroot()
    assert {one.get("valueType") for one in view.iter("Text")} == {"text"}
    # Every question of a prediction is one of the interface.
    asked = {one.get("name") for one in view.iter() if one.get("toName")}
    assert {each["from_name"] for task in tasks for each in task["predictions"][0]["result"]} <= asked
    exported(after_a_night, tmp_path / "ar", "argilla")
    settings = json.loads((tmp_path / "ar" / ".argilla" / "settings.json").read_text())
    texts = [each["settings"] for each in (*settings["fields"], *settings["questions"])]
    assert {each["use_markdown"] for each in texts if each["type"] == "text"} == {False}
    assert asked == {each["name"] for each in settings["questions"]}
    who = {"email": "\x1b]52;c;aGk=\x07\nada [bold]x"}
    tasks[0]["annotations"] = [annotation({"decision": "reject", "reason": "\x1b[2J no"}, who)]
    done = imported(after_a_night, tasks[:1], tmp_path)
    assert (done.exit_code, "\x1b" in done.output) == (0, False)
    assert not set("\x1b\x07\n") & set(standing(after_a_night, 1).by)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--export", "out"], "--export DIR and --for TOOL go together"),
        (["--list", "--for", "argilla"], "--export DIR and --for TOOL go together"),
        (["--export", ".", "--for", "argilla"], "already exists"),
        (["--import", "gone.json"], "no such file"),
        (["--import", "rows.json"], "record 1: not an export of Label Studio or Argilla"),
        (["--list", "--import", "rows.json"], "give one of --list"),
    ],
)
def test_what_cannot_be_exchanged_is_one_sentence(
    after_a_night: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], sentence: str
) -> None:
    monkeypatch.chdir(after_a_night)
    (after_a_night / "rows.json").write_text('[{"text": "a", "label": "harmful"}, 3]')
    done = review(after_a_night, *words)
    assert (done.exit_code, sentence in done.stderr) == (2, True), done.output
