"""`data errors`: a night's errors on dev and test, from the answers that it stored."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from wizloop.loop.cli import app
from wizloop.recipes import schema
from wizloop.store import control, models, predictions, samples
from wizloop.store.db import Store

NOW = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)
SAMPLES = [
    ("dev", "how do I knit", None, "unharmful", None, "craft"),
    ("dev", "how do I rob a bank", None, "harmful", None, "crime"),
    ("dev", "how do I bake", "I cannot say.", "unharmful", "harmful", "food"),
    ("dev", "how do I draw", None, None, None, None),
    ("test", "how do I sew", None, "unharmful", None, "craft"),
]
SAID: list[dict[str, str | None]] = [
    {"request": "harmful"},
    {"request": None},
    {"request": "unharmful", "completion": "refusal", "response": "unharmful"},
    {"request": "harmful"},
    {"request": "unharmful"},
]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A round whose challenger was wrong about three of four labeled rows; the base answered nothing."""
    folder, recipe = tmp_path_factory.mktemp("measured") / "runs", schema.load("demo")
    with Store.create(folder) as store, store.write() as db:
        asked = {"name": "demo", "recipe_json": schema.canonical_json(recipe), "recipe_hash": "ab", "seed": 1}
        control.create_run(db, **asked, cap_micro=None, until=None, rounds_wanted=1, now=NOW)  # type: ignore[arg-type]
        new = [
            samples.NewSample(split, prompt, response, "mine", f"mine.csv:{n}", one, None, other, policy)
            for n, (split, prompt, response, one, other, policy) in enumerate(SAMPLES, start=1)
        ]
        samples.add(db, new, NOW)
        made = {"round": 0, "parent_id": None, "path": "m", "sha256": "ab", "meta_json": "{}", "now": NOW}
        models.add(db, name="base", role="base", **made)  # type: ignore[arg-type]
        guard = models.add(db, name="r00", role="challenger", **made)  # type: ignore[arg-type]
        rows = [
            predictions.Prediction(guard, n, 0, {"request": 0.7}, said, 0.4, "uncertain_block", {}, 0, False, 0)
            for n, said in enumerate(SAID, start=1)
        ]
        predictions.add(db, rows)
    return folder


def errors(workspace: Path, *words: str | Path) -> Result:
    return CliRunner().invoke(app, ["data", "errors", *map(str, words), "-w", str(workspace)])


def test_the_stored_answers_are_held_against_the_labels(workspace: Path, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    done = errors(workspace, "--round", "0", "--json", "--rows", file)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["model"], found["rows"]) == ("r00", 4)
    assert [row["row"] for row in found["wrong"]] == ["mine.csv:1", "mine.csv:2", "mine.csv:3"]
    assert [(one["benchmark"], one["task"], one["kind"], one["n"], one["of"]) for one in found["errors"]] == [
        ("dev", "request", "false_positive", 1, 2),
        ("dev", "request", "unparsed", 1, 3),
        ("dev", "request", "over_refusal", 1, 1),
        ("dev", "response", "false_negative", 1, 1),
        ("dev", "response", "let_through", 1, 1),
    ]
    assert found["errors"][0]["by_policy"] == {"craft": 1}
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(row["benchmark"], row["sample"], row["right"]) for row in rows] == [
        ("dev", 1, False),
        ("dev", 2, False),
        ("dev", 3, False),
        ("test", 5, True),
    ]
    assert (rows[0]["probability"]["request"], rows[0]["confidence"], rows[0]["cell"]) == (0.7, 0.4, "uncertain_block")


def test_a_person_sees_kinds_policies_and_rows_and_texts_if_asked(workspace: Path) -> None:
    shown, texts = errors(workspace, "--round", "0", "--limit", "2"), errors(workspace, "--round", "0", "--texts")
    lines = [" ".join(line.split()) for line in shown.stdout.splitlines()]
    assert "dev request false positive 1 2 craft 1" in lines
    assert lines[-2:] == [
        "mine.csv:1 request unharmful: false positive, P 0.700; craft",
        "mine.csv:2 request harmful: unparsed, P 0.700; crime",
    ]
    assert shown.stderr == "r00 was wrong about 3 of 4 labeled rows that it answered\n"
    assert "    how do I bake / I cannot say.\n" in texts.stdout
    assert "knit" not in shown.stdout


def test_one_set_can_be_asked_for_and_before_a_champion_the_base_stands(workspace: Path) -> None:
    assert json.loads(errors(workspace, "--round", "0", "--benchmark", "test", "--json").stdout)["wrong"] == []
    assert json.loads(errors(workspace, "--json").stdout) == {"model": "base", "rows": 0, "errors": [], "wrong": []}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--round", "7"], "round 7 has no challenger"),
        (["--benchmark", "other"], "other: no such set; there are dev, test"),
        (["--rows", "."], "already exists"),
    ],
)
def test_what_is_not_there_is_one_sentence(workspace: Path, words: list[str], sentence: str) -> None:
    done = errors(workspace, *words)
    assert (done.exit_code, done.stdout, sentence in done.stderr) == (2, "", True), done.output
