"""`data errors`: a night's errors on dev and test, from the answers that it stored."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.loop.branching import run
from tests.loop.small_night import Night, recipe
from wizloop.loop.cli import app
from wizloop.loop.stored_samples import labels_of, usable
from wizloop.store import models, predictions


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Night:
    """A night whose first challenger is measured."""
    night = Night(tmp_path_factory.mktemp("measured") / "runs", recipe())
    run(night, 0, "import", "evaluate")
    return night


def errors(night: Night, *words: str | Path) -> Result:
    return CliRunner().invoke(app, ["data", "errors", *map(str, words), "-w", str(night.folder)])


def test_the_stored_answers_are_held_against_the_labels(night: Night, tmp_path: Path) -> None:
    with night.store.read() as db:
        made = models.by_name(db, "r00")
        assert made is not None
        said = {one.sample_id: one.verdict for one in predictions.of_model(db, made.id, "dev")}
    known = {one.id: labels_of(one) for one in usable(night.store, "dev")}
    wrong = [n for n, labels in known.items() if any(said[n].get(task) != label for task, label in labels.items())]
    file = tmp_path / "rows.jsonl"
    done = errors(night, "--round", "0", "--benchmark", "dev", "--json", "--rows", file)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["model"], found["rows"]) == ("r00", len(known))
    assert [row["sample"] for row in found["wrong"]] == wrong
    assert wrong
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert [row["sample"] for row in rows if row["right"] is False] == wrong
    counted = sum(
        one["n"] for one in found["errors"] if one["kind"] in ("false_positive", "false_negative", "unparsed")
    )
    assert counted == sum(error is not None for row in rows for error in row["error"].values())


def test_a_person_sees_kinds_policies_and_rows_and_texts_if_asked(night: Night) -> None:
    shown, texts = (
        errors(night, "--round", "0", "--limit", "3"),
        errors(night, "--round", "0", "--limit", "3", "--texts"),
    )
    lines = [" ".join(line.split()) for line in shown.stdout.splitlines()]
    assert "benchmark task error rows of mostly" in lines
    assert sum(line.startswith("demo:") for line in lines) >= 3
    assert len(texts.stdout.splitlines()) == len(lines) + 3
    assert "r00 was wrong about " in shown.stderr


def test_before_a_champion_the_base_stands(night: Night) -> None:
    assert json.loads(errors(night, "--json").stdout)["model"] == "base"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--round", "7"], "round 7 has no challenger"),
        (["--benchmark", "other"], "other: no such set; there are dev, test"),
        (["--rows", "."], "already exists"),
    ],
)
def test_what_is_not_there_is_one_sentence(night: Night, words: list[str], sentence: str) -> None:
    done = errors(night, *words)
    assert (done.exit_code, done.stdout, sentence in done.stderr) == (2, "", True), done.output
