"""`wizloop start` as a command: what it refuses with a sentence, and a night of which only the phases are pretended."""

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.where import ROOT
from wizloop.loop.controller import lock
from wizloop.recipes import shipped
from wizloop.store import control
from wizloop.store.db import Store

PRETENDED = """
import sys
from pathlib import Path
from wizloop.loop.commands.start import run_night
from wizloop.loop.controller.starting import RunLimits
sys.exit(run_night(Path(sys.argv[1]), None, RunLimits(rounds=1), live=False, phases="pretend_phases"))
"""


def ran(script: str, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests" / "loop")}
    command = [sys.executable, "-P", "-c", script, *words]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)


def refused(*words: str) -> str:
    done = ran("from wizloop.loop.cli import main; main()", "start", *words)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_night_tells_of_itself_line_by_line_and_ends_with_the_rounds(tmp_path: Path) -> None:
    workspace = tmp_path / "runs"
    done = ran(PRETENDED, str(workspace))
    assert done.returncode == 0, done.stderr
    lines = [line[9:] for line in done.stderr.splitlines()]
    assert lines[0] == "first of round 0 starts"
    assert lines.count("second of round 1 starts") == 1
    assert lines[-2:-1] == ["the run is done: the one round is done"]
    assert done.stderr.splitlines()[-1] == "done: the one round is done"
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["round", "0", "1"]


def test_a_phase_that_fails_is_a_sentence_and_status_1(tmp_path: Path) -> None:
    workspace = tmp_path / "runs"
    workspace.mkdir()
    (workspace / "first.wrong").write_text("1")
    done = ran(PRETENDED, str(workspace))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("failed: first of round 0: KeyError: 'no such key'")
    assert "Traceback" not in done.stderr


def test_a_file_that_cannot_be_used_is_status_2(tmp_path: Path) -> None:
    workspace = tmp_path / "runs"
    workspace.mkdir()
    (workspace / "second.unreadable").write_text("1")
    done = ran(PRETENDED, str(workspace))
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == "failed: second of round 0: rows.csv: no such file; check the name"


def test_a_second_start_names_the_holder(tmp_path: Path) -> None:
    with lock.held(tmp_path, datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)):
        said = refused("-w", str(tmp_path))
    assert f"is in use by process {os.getpid()} on " in said
    assert "since 2026-05-0" in said


def test_a_recipe_that_cannot_be_read_leaves_no_workspace_behind(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text('name = "mine"\nsource = "demo"\nroundz = 3\n')
    assert "did you mean rounds?" in refused(str(recipe), "-w", str(tmp_path / "runs"))
    assert not (tmp_path / "runs").exists()


def test_another_recipe_than_the_runs_is_refused(after_a_night: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text(shipped.shipped()["demo"].read_text().replace("seed = 7", "seed = 8"))
    assert "seed is 7 there and 8 here: use another --workspace" in refused(str(recipe), "-w", str(after_a_night))
    with Store.open(after_a_night, readonly=True) as store, store.read() as db:
        assert control.controller(db) is None


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--until", "7"], "write it like 07:00"),
        (["--until", "24:00"], "write it like 07:00"),
        (["--rounds", "-1"], "--rounds"),
        (["--rounds", "1001"], "--rounds"),
        (["--budget", "lots"], "--budget"),
        (["--budget", "nan"], "nan is not an amount: give at most"),
        (["--budget", "inf"], "inf is not an amount: give at most"),
        (["--budget", "1e300"], "1e300 is not an amount: give at most 1,000,000,000 dollars"),
        (["demp"], "did you mean 'demo'?"),
    ],
)
def test_bad_options_are_a_sentence(tmp_path: Path, words: list[str], sentence: str) -> None:
    assert sentence in refused(*words, "-w", str(tmp_path / "runs"))
    assert not (tmp_path / "runs").exists()
