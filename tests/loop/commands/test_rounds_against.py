"""`wizloop rounds --against`: each round's stored answers beside those of the base or of another round."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from wizloop.loop.cli import app
from wizloop.loop.commands import watch
from wizloop.recipes import schema
from wizloop.store import control, models, predictions, samples, steps
from wizloop.store.db import Connection, Store

NOW = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)
ROWS = 40
WRONG = {"base": 22, "r00": 8, "r01": 6}
"""How many of the first rows each guard is wrong about."""


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A night of two rounds; every second row of its one test set, and of dev, is harmful."""
    return night(tmp_path_factory.mktemp("measured") / "runs", WRONG)


def night(folder: Path, answered: dict[str, int]) -> Path:
    recipe = schema.load("demo")
    with Store.create(folder) as store, store.write() as db:
        asked = {"name": "demo", "recipe_json": schema.canonical_json(recipe), "recipe_hash": "ab", "seed": 1}
        control.create_run(db, **asked, cap_micro=None, until=None, rounds_wanted=1, now=NOW)  # type: ignore[arg-type]
        new = [
            samples.NewSample(split, f"{split} {at}", None, "mine", f"mine.csv:{at}", label(at))
            for split in ("dev", "test")
            for at in range(ROWS)
        ]
        samples.add(db, new, NOW)
        for number, name in enumerate(("base", "r00", "r01"), start=-1):
            steps.begin_round(db, max(number, 0), None, NOW)
            about: dict[str, Any] = {"role": "base" if name == "base" else "challenger", "round": max(number, 0)}
            made = {"parent_id": None, "path": name, "sha256": "ab", "meta_json": "{}", "now": NOW}
            answer(db, models.add(db, name=name, **about, **made), answered.get(name))  # type: ignore[arg-type]
    return folder


def label(at: int) -> str:
    return ("harmful", "unharmful")[at % 2]


def answer(db: Connection, model: int, wrong: int | None) -> None:
    rows = [
        predictions.Prediction(
            model, at + 1, 0, {"request": 0.5}, {"request": label(at + (at % ROWS < wrong))}, 0.4, "", {}, 0, False, 0
        )
        for at in range(2 * ROWS if wrong is not None else 0)
        if wrong is not None
    ]
    predictions.add(db, rows)


def rounds(folder: Path, *words: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["rounds", *words, "-w", str(folder)])
    return done.exit_code, done.stdout, done.stderr


def test_each_round_is_held_against_the_base(workspace: Path) -> None:
    status, said, _ = rounds(workspace, "--against", "base", "--json")
    assert status == 0
    base, first, second = json.loads(said)
    assert base["against"] == []
    assert [(one["benchmark"], one["task"], one["theirs"]) for one in second["against"]] == [
        ("dev", "request", "base"),
        ("test", "request", "base"),
    ]
    assert [one["conclusion"] for one in first["against"] + second["against"]] == ["better"] * 4
    assert (first["against"][0]["only_ours"], second["against"][0]["only_ours"]) == (14, 16)
    # Without it the objects are as they were.
    assert [set(one) for one in json.loads(rounds(workspace, "--json")[1])] == [set(base) - {"against"}] * 3


def test_a_person_reads_it_under_the_table(workspace: Path) -> None:
    status, said, _ = rounds(workspace, "--against", "0")
    assert status == 0
    lines = [" ".join(line.split()) for line in said.splitlines()]
    assert "base, round 1 against round 0." in lines
    (told,) = [line for line in lines if line.startswith("round 1 test request") and "apart" in line]
    assert told.endswith("cannot be told apart")
    assert any(line.startswith("base dev request") and line.endswith("worse") for line in lines)
    assert "against" not in rounds(workspace)[1]


def test_the_app_compares_by_the_same_test(workspace: Path) -> None:
    with Store.open(workspace) as store:
        found = watch.compared(store, "0")
    assert list(found) == ["base", "round 1"]
    assert [(one.benchmark, one.task, one.conclusion) for one in found["round 1"]] == [
        ("dev", "request", "cannot be told apart"),
        ("test", "request", "cannot be told apart"),
    ]
    assert {one.conclusion for one in found["base"]} == {"worse"}
    assert found["round 1"][0].difference.startswith("+5.0 (")


@pytest.mark.parametrize("which", ["7", "first", "-1"])
def test_a_round_that_is_not_there_is_a_sentence(workspace: Path, which: str) -> None:
    sentence = f"wizloop: --against {which}: give base, or a round with a challenger (see `wizloop rounds`)\n"
    assert rounds(workspace, f"--against={which}") == (2, "", sentence)


def test_a_night_whose_base_answered_nothing_says_so(tmp_path: Path) -> None:
    folder = night(tmp_path / "runs", {"r00": 8, "r01": 6})
    status, said, told = rounds(folder, "--against", "base")
    assert (status, said) == (2, "")
    assert told == "wizloop: --against base: no answers of it on dev or test are stored, so nothing is compared\n"
