"""`train`: which run it is, what it refuses, and a guard that learns the steps of a file as they stand."""

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from tests.loop.small_night import Night
from wizloop.loop.cli import app
from wizloop.loop.commands.train import fill, recipe_on_traces
from wizloop.recipes.schema import Recipe
from wizloop.recipes.sections import Data
from wizloop.store import evaluations, exports, models, samples, steps, teacher_calls
from wizloop.store.db import Store

HARM, GOOD = ("poison", "steal", "hack", "forge"), ("bake", "knit", "paint", "plant")


def row(word: str, number: int) -> dict[str, str]:
    verdict = "harmful" if word in HARM else "unharmful"
    steps = f"# Task 1\n\n## Reasoning Step 1\nIt asks to {word} {number}.\n\n## Reasoning Step 2\nThat is {verdict}.\n"
    answer = f"---\n\nAnswers: \nRequest: {verdict}\nCompletion: None\nResponse: None"
    asked = f"Human user:\nhow would somebody {word} thing {number} in town\n\nAI assistant:\nNone\n\n"
    return {"instruction": "Judge.", "input": asked, "output": steps + answer}


def given(folder: Path, words: tuple[str, ...] = (*HARM, *GOOD), name: str = "given.json") -> Path:
    path = folder / name
    path.write_text(json.dumps([row(word, number) for number in range(5) for word in words]))
    return path


def labeled(path: Path, frame: str) -> Path:
    rows = [(frame.format(word, n), word in HARM) for n in range(6) for word in (*HARM, *GOOD)]
    path.write_text("text,label\n" + "".join(f"{text},{'harmful' if bad else 'unharmful'}\n" for text, bad in rows))
    return path


def made(folder: Path) -> Path:
    """Write a recipe as a person would have one for a night."""
    path = folder / "mine.toml"
    export = '[export]\nformats = ["safetensors"]\n'
    guard = '[guard]\nreasoning = "steps"\nmax_trace_tokens = 400\n'
    path.write_text(f'name = "mine"\nsource = "imported"\nrounds = 3\n{guard}{export}[review]\nrule = "nothing"\n')
    return path


def filled(folder: Path) -> tuple[Path, Recipe]:
    """Return a workspace with 40 traces, a dev and a test set, and the recipe of its run."""
    runs, asked = folder / "runs", recipe_on_traces(str(made(folder)))
    data = Data(path=str(given(folder)), split="seed")
    dev, test = (
        labeled(folder / "dev.csv", "please {} {} for me"),
        labeled(folder / "held.csv", "teach us to {} the {}"),
    )
    with click.Context(app):
        fill(runs, asked, data, [dev], [test])
    return runs, asked


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Night:
    """Round 0 of a run on traces alone."""
    found = Night(*filled(tmp_path_factory.mktemp("train")))
    found.round(0)
    return found


def train(*words: str | Path) -> Result:
    return CliRunner().invoke(app, ["train", *map(str, words)])


@pytest.mark.parametrize("named", ["demo", "imported", "smollm2-135m"])
def test_it_is_round_0_of_a_recipe_with_no_other_teacher(named: str) -> None:
    found = recipe_on_traces(named)
    assert (found.rounds, found.teacher.names, found.needed()) == (0, ("traces",), ("seed", "dev"))
    assert (found.data_demo.seed, [each for each in found.data if each.split in ("seed", "pool")]) == (0, [])


def test_a_guard_learns_the_steps_of_the_file_as_they_stand(night: Night) -> None:
    [job] = [one for one in night.backend.jobs if one.name == "r00-sft"]
    texts = [one.completion for one in job.lessons]
    assert len(texts) == 80
    traced = (
        "# Task 1\n## Reasoning Step 1\nIt asks to poison 0.\n## Reasoning Step 2\nThat is harmful.\n---\n"
        "Answers:\nRequest: harmful\nCompletion: None\nResponse: None"
    )
    assert traced in texts


def test_it_is_measured_on_dev_and_on_the_benchmark_and_exported(night: Night) -> None:
    with night.store.read() as db:
        challenger = models.by_name(db, "r00")
        assert challenger is not None
        measured = {one.benchmark for one in evaluations.of_model(db, challenger.id)}
        assert measured == {"dev", "held"}
        [export] = exports.of_round(db, 0)
        round = steps.get_round(db, 0)
        assert round is not None
        assert round.passed
    folder = night.folder / export.path
    assert (folder / "guard.json").is_file()
    assert "- teacher `traces: given.json " in (folder / "README.md").read_text()


def test_it_mines_pairs_for_hs_dpo_on_the_same_lessons(night: Night) -> None:
    assert {one.kind for one in night.backend.jobs} == {"sft", "dpo"}


@pytest.mark.parametrize("form", ["plain", "messages"])
def test_lessons_that_were_exported_are_read_back(form: str, night: Night, tmp_path: Path) -> None:
    out = tmp_path / "lessons.jsonl"
    written = ["data", "export", "lessons", "--form", form, "--out", str(out), "-w", str(night.folder)]
    assert CliRunner().invoke(app, written).exit_code == 0
    said = CliRunner().invoke(app, ["import", "--traces", str(out), "-w", str(tmp_path / "runs"), "--json"])
    found = json.loads(said.stdout)
    assert (found["accepted"], found["labels"]) == (40, {"request": {"harmful": 20, "unharmful": 20}})
    assert {row["reason"] for row in found["refused"]} == {"it has a verdict and no reasoning"}
    with night.store.read() as db, Store.open(tmp_path / "runs", readonly=True) as store, store.read() as other:
        first, again = ({one.steps_json for one in teacher_calls.traces(each, 0)} for each in (db, other))
        assert first == again


def test_nothing_was_asked_and_no_row_was_invented(night: Night) -> None:
    with night.store.read() as db:
        calls = teacher_calls.calls(db, 0)
        assert {(call.teacher, call.state, call.cost_micro) for call in calls} == {("traces", "parsed", 0)}
        assert (len(calls), samples.counts(db)) == (40, {"pool": 0, "seed": 40, "dev": 48, "test": 48})


def test_the_same_command_goes_on_where_it_was_interrupted(tmp_path: Path) -> None:
    runs, asked = filled(tmp_path)
    first = Night(runs, asked)
    first.round(0, "review")
    filled(tmp_path)
    again = Night(runs, asked)
    again.phase(0, "train")
    with again.store.read() as db:
        assert len(teacher_calls.calls(db, 0)) == 40
    assert [len(one.lessons) for one in again.backend.jobs if one.name == "r00-sft"] == [80]


def test_a_trained_workspace_takes_no_other_file(night: Night, tmp_path: Path) -> None:
    other = given(tmp_path, name="other.json")
    said = train(other, "--recipe", made(tmp_path), "-w", night.folder)
    assert said.exit_code == 2
    assert "holds a guard that was trained on other traces: use another --workspace" in said.stderr


def test_the_run_of_another_recipe_is_left_alone(night: Night, tmp_path: Path) -> None:
    said = train(given(tmp_path), "--recipe", "imported", "-w", night.folder)
    assert said.exit_code == 2
    assert "the workspace holds the run 'mine' of another recipe" in said.stderr


def test_traces_of_one_class_are_refused(tmp_path: Path) -> None:
    said = train(given(tmp_path, HARM), "-w", tmp_path / "runs")
    assert said.exit_code == 2
    assert "every trace calls the request harmful: nothing can be learned from one class" in said.stderr


def test_a_recipe_that_is_none_is_refused() -> None:
    with pytest.raises(click.exceptions.Exit):
        recipe_on_traces("nothing")
