"""A workspace of an older wizloop: every command says what to do, and `upgrade` does that and nothing else."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.loop.scripted import NOW
from wizloop.loop.cli import app
from wizloop.loop.controller import lock
from wizloop.recipes import schema
from wizloop.store import control, engine, migrations, sqlite
from wizloop.store.db import Store


def run(*words: str, status: int = 0) -> Any:
    said = CliRunner().invoke(app, list(words))
    assert said.exit_code == status, said.output
    return said


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """A run that stands in the schema of before the last two migrations."""
    recipe, folder = schema.load("demo"), tmp_path / "runs"
    folder.mkdir()
    text, digest = schema.canonical_json(recipe), schema.recipe_hash(recipe)
    limits: dict[str, Any] = {"cap_micro": 3_000_000, "until": None, "rounds_wanted": 2}
    maker = engine.sqlite_engine(folder / sqlite.DB_NAME, "rwc", sqlite.driver())
    with maker.begin() as db:
        migrations.upgrade(db, "0004")
        control.create_run(db, name="demo", seed=1, now=NOW, recipe_json=text, recipe_hash=digest, **limits)
    maker.dispose()
    return folder


def revision(folder: Path) -> str | None:
    reader = engine.sqlite_engine(folder / sqlite.DB_NAME, "ro", sqlite.driver())
    with reader.begin() as db:
        found = migrations.revision(db)
    reader.dispose()
    return found


@pytest.mark.parametrize(
    "words",
    [("status",), ("rounds",), ("costs",), ("review", "--list"), ("export", "0", "--format", "adapter", "--to", "out")],
    ids=lambda words: words[0],
)
def test_what_only_reads_says_what_to_do_and_changes_nothing(older: Path, words: tuple[str, ...]) -> None:
    said = run(*words, "-w", str(older), status=2)
    assert "was written by an older wizloop (schema 0004" in said.stderr
    assert "`wizloop upgrade` upgrades it, `wizloop start` also resumes its run" in said.stderr
    assert revision(older) == "0004"


def test_an_import_leaves_it_to_the_older_wizloop(older: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text,label\nhow do I knit?,unharmful\n", encoding="utf-8")
    said = run("import", str(tmp_path / "rows.csv"), "--split", "seed", "-w", str(older), status=2)
    assert "was written by an older wizloop (schema 0004" in said.stderr
    assert revision(older) == "0004"


@pytest.mark.parametrize("words", [("doctor",), ("start", "--dry-run"), ("start", "imported", "--dry-run")])
def test_no_other_recipe_is_checked_in_its_place(older: Path, words: tuple[str, ...]) -> None:
    said = json.loads(run(*words, "--json", "-w", str(older)).stdout)
    found = {check["name"]: check["found"] for check in said["checks"]}
    assert "`wizloop upgrade`" in found["store"]
    assert found["recipe"].startswith("not checked")
    assert said.get("plan") is None
    assert "data" not in found
    assert revision(older) == "0004"


def test_an_upgrade_makes_it_readable_and_starts_nothing(older: Path) -> None:
    assert "is upgraded to schema" in run("upgrade", "-w", str(older)).stderr
    found = json.loads(run("status", "--json", "-w", str(older)).stdout)
    assert (found["run"], found["state"], found["alive"], found["phase"]) == ("demo", "created", False, None)
    assert (found["rounds_wanted"], found["budget"]["cap"]) == (2, 3.0)
    assert json.loads(run("rounds", "--json", "-w", str(older)).stdout) == []
    assert "nothing was changed" in run("upgrade", "-w", str(older)).stderr


def test_a_workspace_that_is_held_is_left_alone(older: Path) -> None:
    with lock.held(older, NOW):
        assert "is in use by process" in run("upgrade", "-w", str(older), status=2).stderr
    assert revision(older) == "0004"


def test_an_upgrade_makes_no_workspace_and_leaves_a_newer_one(tmp_path: Path) -> None:
    assert "there is no workspace" in run("upgrade", "-w", str(tmp_path / "none"), status=2).stderr
    assert not (tmp_path / "none").exists()
    with Store.create(tmp_path / "new") as store, store.write() as db:
        db.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    assert "written by a newer wizloop (schema 9999" in run("upgrade", "-w", str(tmp_path / "new"), status=2).stderr
    assert revision(tmp_path / "new") == "9999"
