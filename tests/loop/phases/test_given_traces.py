"""The teacher "traces" in a night: what its files have is taught as it stands, the rest goes to the next teacher."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.loop.small_night import NOW, Night, recipe
from wizloop.backends.teachers.base import Question
from wizloop.loop.context import standalone
from wizloop.loop.data.records import ImportRefused
from wizloop.loop.preflight.teacher_costs import remaining_load
from wizloop.loop.teaching import given_import, given_traces, teachers
from wizloop.recipes.schema import Recipe, RecipeError, load
from wizloop.recipes.sections import Data
from wizloop.recipes.teaching import Traces
from wizloop.store import reviews, samples, steps, teacher_calls
from wizloop.store.samples import Sample

OWN = "This is what the file says of any danger in it, word for word"


def trace(sample: Sample, verdict: str | None = None, number: int = 0) -> dict[str, Any]:
    """Return a row of ours on a sample, which agrees with its labels."""
    said = {"request": sample.request, "completion": sample.completion, "response": sample.response_label}
    if verdict is not None:
        said["request"] = verdict
    tasks = [task for task, label in said.items() if label is not None]
    return {
        "text": sample.prompt,
        "response": sample.response,
        "task": tasks[-1],
        "predicted_label": said[tasks[-1]],
        "verdicts": said,
        "confidence": "high",
        "reasoning": {"final_label": said[tasks[-1]]},
        "steps": {task: [f"{OWN}, number {number}, on the {task}."] for task in tasks},
    }


def flipped(sample: Sample) -> str:
    return "unharmful" if sample.request == "harmful" else "harmful"


def with_files(*paths: Path, names: tuple[str, ...] = ("traces",), **more: Any) -> Recipe:
    teacher = {"names": list(names), "traces": [{"path": str(path)} for path in paths], **more}
    return recipe(teacher=teacher, guard={"reasoning": "steps", "max_trace_tokens": 400})


def begun(folder: Path) -> tuple[Night, list[Sample]]:
    """Return a night up to its selection, and its seed."""
    night = Night(folder, recipe(guard={"reasoning": "steps", "max_trace_tokens": 400}))
    for phase in ("import", "prepare", "base", "select"):
        night.phase(0, phase)
    with night.store.read() as db:
        return night, samples.page(db, "seed", 0, 100)


def taught(night: Night, asked: Recipe) -> dict[str, Any]:
    night.recipe = asked
    for phase in ("teach", "review", "train"):
        night.phase(0, phase)
    with night.store.read() as db:
        calls = teacher_calls.calls(db, 0)
        return {"calls": calls, "approved": reviews.approved(db, 0)}


def test_the_steps_of_the_file_are_what_is_taught(tmp_path: Path) -> None:
    night, seed = begun(tmp_path / "a")
    file = tmp_path / "given.json"
    file.write_text(json.dumps([trace(sample, number=sample.id) for sample in seed[:20]]))
    found = taught(night, with_files(file))
    assert len(found["approved"]) == 20
    [job] = [one for one in night.backend.jobs if one.name == "r00-sft"]
    texts = "\n".join(one.completion for one in job.lessons)
    assert [f"{OWN}, number {sample.id}, on the request." in texts for sample in seed[:20]] == [True] * 20
    assert "recorded" not in texts


def test_what_was_imported_is_taught_and_only_the_rest_is_asked(tmp_path: Path) -> None:
    night, seed = begun(tmp_path / "a")
    file = tmp_path / "given.json"
    file.write_text(json.dumps([trace(sample, number=sample.id) for sample in seed[:20]]))
    data = Data(path=str(file), split="seed")
    report = given_import.check(data, skip_bad=False)
    given_import.write(standalone(night.store, night.folder, night.recipe, "teach", NOW), data, report)
    with night.store.write() as db:
        steps.finish_step(db, 0, "import", "", NOW)
        load = remaining_load(night.recipe, [], 0, db)
    assert (load is not None and load.questions, report.accepted) == (len(seed) - 20, 20)
    found = taught(night, night.recipe)
    assert Counter(call.teacher for call in found["calls"]) == {"traces": 20, "policy": len(seed) - 20}
    [job] = [one for one in night.backend.jobs if one.name == "r00-sft"]
    assert sum(f"{OWN}, number" in one.completion for one in job.lessons) == 20


def test_what_the_file_lacks_or_contradicts_goes_to_the_next_teacher_and_costs_nothing(tmp_path: Path) -> None:
    night, seed = begun(tmp_path / "a")
    file = tmp_path / "given.json"
    rows = [trace(seed[0]), trace(seed[1], flipped(seed[1])), trace(seed[2]), trace(seed[2], flipped(seed[2]))]
    file.write_text(json.dumps(rows))
    found = taught(night, with_files(file, names=("traces", "policy")))
    of_traces = {call.sample_id: call for call in found["calls"] if call.teacher == "traces"}
    known = [of_traces[one.id].category or "" for one in seed[:4]]
    assert known[0] == ""
    assert "the label says" in known[1] if seed[1].response is None else "request" in known[1]
    assert "have different verdicts on this text" in known[2]
    assert known[3] == "no reasoning is given for this text"
    assert {call.outcome for call in of_traces.values()} == {"ok", "blocked"}
    assert sum(call.teacher == "policy" for call in found["calls"]) == len(seed) - 1
    assert {call.cost_micro for call in found["calls"]} == {0}


def test_a_file_that_was_mended_is_asked_again_where_it_had_no_answer(tmp_path: Path) -> None:
    night, seed = begun(tmp_path / "a")
    file = tmp_path / "given.json"
    file.write_text(json.dumps([trace(seed[0])]))
    night.recipe = with_files(file)
    night.phase(0, "teach")
    file.write_text(json.dumps([trace(seed[0]), trace(seed[1])]))
    night.phase(0, "teach")
    with night.store.read() as db:
        calls = teacher_calls.calls(db, 0)
    assert [sum(call.sample_id == one.id for call in calls) for one in seed[:2]] == [1, 2]
    assert {call.sample_id for call in calls if call.state == "parsed"} == {seed[0].id, seed[1].id}


def test_a_prompt_alone_takes_the_part_of_a_pair_that_is_about_it(tmp_path: Path) -> None:
    row = {
        "text": "a",
        "response": "b",
        "task": "response",
        "predicted_label": "unharmful",
        "verdicts": {"request": "harmful", "completion": "refusal", "response": "unharmful"},
        "reasoning": {},
        "steps": {"request": ["On a."], "completion": ["On b."], "response": ["On b too."]},
    }
    file = tmp_path / "given.json"
    file.write_text(json.dumps([row]))
    teacher = given_traces.teacher_of([Traces(path=str(file))])
    answer = teacher.ask(Question("", "a"))
    assert answer.trace is not None
    assert (answer.trace.request_steps, answer.trace.response, answer.trace.response_steps) == (("On a.",), None, ())


def test_a_kept_answer_is_read_as_it_was_answered(tmp_path: Path) -> None:
    row = {"text": "a", "predicted_label": "safe", "reasoning": {"reasoning_chain": ["It is nothing."]}}
    file = tmp_path / "given.json"
    file.write_text(json.dumps([row]))
    teacher = given_traces.teacher_of([Traces(path=str(file))])
    answer = teacher.ask(Question("", "a"))
    assert teacher.read(answer.raw, answer.stop_reason, Question("", "a")) == answer
    assert teacher.read("{}", "end", Question("", "a")).outcome == "blocked"


def test_a_guard_from_scratch_meets_the_wording_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "given.json"
    row = {"text": "a", "predicted_label": "safe", "reasoning": {"reasoning_chain": ["Nothing here can hurt anybody."]}}
    file.write_text(json.dumps([row]))
    _, seed = begun(tmp_path / "a")
    assert list(teachers.sentences(with_files(file), list(seed))) == ["Nothing here can hurt anybody."]


def test_a_file_without_reasoning_stops_the_night_at_once(tmp_path: Path) -> None:
    file = tmp_path / "given.json"
    file.write_text('[{"prompt": "a", "label": "safe"}]')
    with pytest.raises(ImportRefused, match="no reasoning is found"):
        teachers.here(with_files(file), "traces")


def test_the_table_belongs_to_the_teacher(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('name = "mine"\nsource = "demo"\n[[teacher.traces]]\npath = "a.json"\n')
    with pytest.raises(RecipeError, match='is for the teacher "traces": add it to'):
        load(path)


def test_a_recipe_without_the_table_is_stored_as_before() -> None:
    assert "traces" not in recipe().teacher.model_dump(mode="json")
