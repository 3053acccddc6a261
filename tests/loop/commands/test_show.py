"""What the command line shows: the promised keys, sentences for bad input, exit statuses, nothing hostile."""

import json
import re
import sqlite3
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from wizloop.loop.cli import app
from wizloop.loop.commands import show
from wizloop.loop.controller import lock
from wizloop.recipes import schema
from wizloop.recipes.shipped import shipped
from wizloop.store import control, given_up, samples, steps, teacher_checks
from wizloop.store.checked_teacher import Checked
from wizloop.store.db import Store

DRIVES_A_TERMINAL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]")


def run(*words: str, status: int = 0) -> Any:
    """What a command printed, with its exit status checked."""
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == status, result.output
    assert not DRIVES_A_TERMINAL.search(result.output)
    return result


def test_status_json_has_the_promised_keys(after_a_night: Path) -> None:
    found = json.loads(run("status", "--json", "-w", str(after_a_night)).stdout)
    promised = {"run", "state", "round", "phase", "doing", "waiting", "reason", "budget"}
    assert {key: found[key] for key in promised} == {
        "run": "demo",
        "state": "done",
        "round": 1,
        "phase": "evaluate",
        "doing": None,
        "waiting": None,
        "reason": "the one round is done",
        "budget": {"cap": 5.0, "settled": 0.5, "reserved": 0.0},
    }


def test_rounds_json_has_the_promised_keys(after_a_night: Path) -> None:
    base, first, second = json.loads(run("rounds", "--json", "-w", str(after_a_night)).stdout)
    assert (base["round"], base["gate"], base["metrics"]["test"]["request"]["f1"]) == ("base", None, 0.6)
    assert base["baselines"]["all_harmful"]["test"]["request"]["f1"] == 0.65
    assert set(base) == set(first) == set(second)
    assert (base["selected"], base["teacher"], base["exports"]) == ({}, {"answers": 0, "usd": 0.0}, [])
    assert first["round"] == 0
    assert first["baselines"]["tfidf"]["test"]["request"]["f1"] == 0.9
    assert second["compared"]["test"]["request"]["tfidf"]["low"] == pytest.approx(-0.05)
    assert first["metrics"]["dev"]["request"]["f1"] == 0.7
    assert second["gate"] == {"passed": True, "reason": "it is better", "lower": None}
    assert second["selected"] == {"random": 2}
    assert second["teacher"] == {"answers": 2, "usd": 0.5}
    assert second["exports"] == [str(after_a_night / "exports" / "1-safetensors")]
    figures = second["metrics"]["test"]["request"]
    assert (figures["low"], figures["high"], figures["n"], figures["unparsed"]) == (0.7, 0.8, 80, 1)


def test_status_and_rounds_are_readable(after_a_night: Path) -> None:
    status = run("status", "-w", str(after_a_night)).stdout
    assert "demo: done (the one round is done)" in status
    assert "$0.50 spent, $0.00 reserved, of $5.00" in status
    rounds = " ".join(run("rounds", "-w", str(after_a_night)).stdout.split())
    assert "75.0 (70-80)" in rounds
    assert "The champion, of round 1: on test request its F1 of 75.0 cannot be told apart from the 76.0" in rounds


def test_a_teacher_that_is_out_stands_in_status_and_fails_the_doctor(after_a_night: Path) -> None:
    with Store.open(after_a_night) as store, store.write() as db:
        given_up.note(db, 1, "policy", "its account cannot be used (no credit)")
    assert json.loads(run("status", "--json", "-w", str(after_a_night)).stdout)["teachers_out"] == {
        "policy": "its account cannot be used (no credit)"
    }
    told = run("status", "-w", str(after_a_night)).stdout
    assert "teacher  policy is out: its account cannot be used (no credit)" in told
    doctor = run("doctor", "-w", str(after_a_night), status=1).stdout
    assert "it was given up: its account cannot be used (no credit)" in doctor


def test_what_was_measured_of_a_teacher_stands_on_every_screen(after_a_night: Path) -> None:
    figures = (60, 60, 0.92, 0.81, 0.96, {"harmful": (27, 30)})
    known = Checked("policy", "policy-reasoner", "2026-12-01", *figures, bound=0.75)
    said = "policy: 92 % of 60 right (81-96), checked 2026-12-01"
    with Store.open(after_a_night) as store, store.write() as db:
        teacher_checks.keep(db, known)
    where = ("-w", str(after_a_night))
    assert f"checked  {said}" in run("status", *where).stdout
    status = json.loads(run("status", "--json", *where).stdout)["teachers_checked"]["policy"]
    assert (status["right"], status["low"], status["left_out"], status["sentence"]) == (0.92, 0.81, False, said)
    assert f"teacher {said}" in " ".join(run("rounds", *where).stdout.split())
    assert said in run("doctor", *where).stdout
    with Store.open(after_a_night) as store, store.write() as db:
        teacher_checks.keep(db, replace(known, high=0.7, left_out=True))
    doctor = run("doctor", *where, status=1).stdout
    assert "left out: below 75 % (harmful 27 of 30)" in doctor
    assert "-> name another teacher in teacher.names" in doctor


def test_the_budget_of_doctor_is_for_asking(tmp_path: Path) -> None:
    assert "--budget is for --ask-teacher" in run("doctor", "--budget", "1", "-w", str(tmp_path), status=2).stderr


def test_a_run_whose_controller_was_killed_is_not_called_running(after_a_night: Path) -> None:
    with Store.open(after_a_night) as store, store.write() as db:
        now = datetime.now(UTC)
        control.set_state(db, "running", "", now)
        control.claim_controller(db, pid=4711, host="here", boot_id="1", now=now)
    dead = json.loads(run("status", "--json", "-w", str(after_a_night)).stdout)
    assert (dead["state"], dead["alive"], dead["pid"]) == ("stopped", False, None)
    assert "controller 4711 died without a message" in dead["reason"]
    with lock.held(after_a_night, now):
        alive = json.loads(run("status", "--json", "-w", str(after_a_night)).stdout)
    assert (alive["state"], alive["alive"], alive["pid"]) == ("running", True, 4711)


@pytest.mark.parametrize("words", [["status"], ["rounds"], ["costs"], ["teach", "--unanswered"], ["teach", "--keep"]])
def test_a_workspace_that_was_only_imported_into_holds_no_run(tmp_path: Path, words: list[str]) -> None:
    Store.create(tmp_path).close()
    kept = tmp_path / "calls.jsonl"
    more = [str(kept)] if words[-1] == "--keep" else []
    said = run(*words, *more, "-w", str(tmp_path), status=2)
    nothing = "wizloop: The workspace has no run yet: create one with `wizloop start`.\n"
    assert (said.stdout, said.stderr) == ("", nothing)
    assert not kept.exists()


@pytest.mark.parametrize("command", ["status", "rounds", "pause", "resume", "stop", "classify"])
def test_without_a_workspace_there_is_one_sentence(tmp_path: Path, command: str) -> None:
    result = run(command, "-w", str(tmp_path / "none"), status=2)
    assert result.stdout == ""
    assert result.stderr.startswith("wizloop: there is no workspace in ")
    assert not (tmp_path / "none").exists()


def test_a_workspace_of_an_older_version_is_bad_input_and_says_what_to_do(after_a_night: Path) -> None:
    with sqlite3.connect(after_a_night / "wizloop.db") as db:
        db.execute("UPDATE alembic_version SET version_num = '0003'")
    assert "`wizloop upgrade` upgrades it" in run("status", "-w", str(after_a_night), status=2).stderr


@pytest.mark.parametrize(("command", "status"), [("pause", 2), ("resume", 2), ("stop", 0)])
def test_nothing_is_wanted_of_a_run_that_nobody_works_on(after_a_night: Path, command: str, status: int) -> None:
    assert "no run is active in" in run(command, "-w", str(after_a_night), status=status).stderr
    assert wanted(after_a_night) == "run"


@pytest.mark.parametrize(
    ("words", "noted"), [(["pause"], "pause"), (["resume"], "run"), (["stop"], "stop"), (["stop", "--now"], "stop_now")]
)
def test_what_the_person_wants_is_noted_for_the_controller(after_a_night: Path, words: list[str], noted: str) -> None:
    with lock.held(after_a_night, datetime.now(UTC)):
        run(*words, "-w", str(after_a_night))
    assert wanted(after_a_night) == noted


def wanted(workspace: Path) -> str:
    with Store.open(workspace, readonly=True) as store, store.read() as db:
        found = control.get_run(db)
    assert found is not None
    return found.wanted


def test_recipes_are_listed_and_shown_whole() -> None:
    assert "imported" in run("recipes").stdout
    assert json.loads(run("recipes", "--json").stdout)["demo"].startswith("A whole run on any machine")
    assert json.loads(run("recipes", "show", "demo", "--json").stdout)["classify"]["consensus"] == 0.95
    assert "did you mean 'demo'?" in run("recipes", "show", "demp", status=2).stderr
    assert "Did you mean 'show'?" in run("recipes", "shwo", status=2).stderr
    assert "Did you mean 'rounds'?" in run("ruonds", status=2).stderr


@pytest.mark.parametrize("name", ["demo", "imported", "guardreasoner-8b"])
def test_a_recipe_that_is_shown_can_be_kept_and_started(tmp_path: Path, name: str) -> None:
    mine = tmp_path / "my.toml"
    mine.write_text(run("recipes", "show", name).stdout, encoding="utf-8")
    assert run("recipes", "show", str(mine), "--json").stdout == run("recipes", "show", name, "--json").stdout


def test_every_key_of_a_recipe_is_told_with_its_default_and_its_meaning() -> None:
    said = run("recipes", "keys", "gate").stdout
    assert "gate.margin = 0.01\n    Macro-F1 that a challenger may be below the champion" in said
    assert "[train]" not in said
    assert max(map(len, run("recipes", "keys").stdout.splitlines())) <= 100
    told = {key["name"]: key for key in json.loads(run("recipes", "keys", "--json").stdout)["keys"]}
    assert told["data.split"]["default"] == "needed"
    assert told["data.split"]["words"] == ["pool", "seed", "dev", "test"]
    assert told["until"]["default"] == "left out"
    assert "no such section or key" in run("recipes", "keys", "gatee", status=2).stderr


def test_the_commands_are_told_whole_in_the_order_of_an_evening() -> None:
    lines = run("--help").stdout.partition("Run a night:\n")[2].splitlines()
    assert [line.split()[0] for line in lines[:4]] == ["start", "watch", "status", "rounds"]
    assert not [line for line in lines if line.endswith("...")]
    assert re.fullmatch(r"wizloop \d+\.\d+\.\d+\n", run("--version").stdout)


def test_a_phase_that_is_done_has_done_all_of_it(after_a_night: Path) -> None:
    with Store.open(after_a_night) as store, store.write() as db:
        now = datetime.now(UTC)
        steps.begin_step(db, 1, "export", now + timedelta(seconds=1))
        steps.progress(db, 1, "export", 0, 3)
        steps.finish_step(db, 1, "export", "r01 as adapter", now)
    found = json.loads(run("status", "--json", "-w", str(after_a_night)).stdout)
    assert (found["phase"], found["done"], found["total"]) == ("export", 3, 3)
    assert "round 1, export, 3 of 3" in run("status", "-w", str(after_a_night)).stdout


def test_the_rounds_say_what_the_figures_are_and_why_one_was_held(after_a_night: Path) -> None:
    with Store.open(after_a_night) as store, store.write() as db:
        now = datetime.now(UTC)
        steps.begin_round(db, 2, None, now)
        steps.end_round(
            db,
            2,
            champion_after=2,
            challenger=None,
            passed=False,
            gate_reason="it blocks more",
            record_json="{}",
            now=now,
        )
    said = run("rounds", "-w", str(after_a_night)).stdout.splitlines()
    assert "F1 in percent at the threshold chosen on dev, with its 95 % interval; taught: " in said
    assert "round 2, held: it blocks more" in said


def test_no_figure_is_cut_where_the_terminal_is_narrow(after_a_night: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "24")
    said = run("rounds", "-w", str(after_a_night)).stdout
    assert "…" not in said
    assert {"75.0", "(70-80)", "passed"} <= set(said.split())


def test_a_workspace_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    file.write_text("text,label\nhow to bake,unharmful\n")
    for words in (["start", "demo", "--headless"], ["import", str(file)]):
        said = run(*words, "-w", str(file), status=2).stderr
        assert said == f"wizloop: cannot create a workspace in {file} (it is a file): choose another folder\n"


@pytest.mark.parametrize(
    ("met", "status", "said"),
    [
        (KeyboardInterrupt(), 130, "wizloop: interrupted\n"),
        (OSError(28, "No space left on device"), 1, "wizloop: the output: No space left on device\n"),
        (PermissionError(13, "Permission denied", "/a/b"), 1, "wizloop: /a/b: Permission denied\n"),
    ],
)
def test_what_no_command_foresaw_ends_with_a_sentence(
    monkeypatch: pytest.MonkeyPatch, met: BaseException, status: int, said: str
) -> None:
    def meet(ctx: click.Context) -> None:
        raise met

    monkeypatch.setattr(show.status, "invoke", meet)
    assert run("status", status=status).stderr == said


def test_doctor_says_what_is_well_and_what_to_do(tmp_path: Path) -> None:
    found = json.loads(run("doctor", "--json", "-w", str(tmp_path / "none")).stdout)
    names = [check["name"] for check in found["checks"]]
    assert names[:5] == ["python", "mlx", "sqlite", "disk", "memory"]
    after = ["workspace", "store", "recipe", "model", "backend", "export", "prompt", "teacher", "right"]
    after += [*4 * ["data"], "time"]
    assert names[5:] == after
    mlx = found["checks"][1]
    assert re.search(r"; BLAS: .+, \d+ GFLOP/s", mlx["found"])


def test_doctor_looks_at_what_was_imported(tmp_path: Path) -> None:
    rows, where = tmp_path / "mine.csv", ("-w", str(tmp_path / "w"))
    rows.write_text("text,label\nhow to bake,unharmful\nhow to poison,harmful\n")
    run("import", str(rows), *where)
    assert "BAD  data       the split seed has no usable sample" in run("doctor", *where, status=1).stdout
    rows.write_text("text,label\nhow to bake bread,unharmful\nhow to poison bread,harmful\n")
    run("import", str(rows), "--split", "seed", *where)
    assert "BAD  data       the split dev has no usable sample" in run("doctor", *where, status=1).stdout
    rows.write_text("text,label\nhow to bake cake,unharmful\nhow to poison cake,harmful\n")
    run("import", str(rows), "--split", "dev", *where)
    said = run("doctor", *where, status=1).stdout
    # All but the key of its teacher is there.
    assert [line.split()[1] for line in said.splitlines() if line.startswith("BAD")] == ["key"]
    assert [f"2 samples for {split}, imported" in said for split in ("pool", "seed", "dev")] == [True, True, True]


def test_doctor_sees_a_dev_without_labels_of_an_earlier_import(tmp_path: Path) -> None:
    with Store.create(tmp_path) as store, store.write() as db:
        new = [samples.NewSample(split, f"how to {split}", None, "mine", "1") for split in ("pool", "seed", "dev")]
        samples.add(db, new, datetime.now(UTC))
    assert "BAD  data       no sample of dev has a label" in run("doctor", "-w", str(tmp_path), status=1).stdout
    assert (
        "missing: data: no sample of dev has a label" in run("start", "--dry-run", "-w", str(tmp_path), status=2).stderr
    )


@pytest.mark.parametrize(("rounds", "said"), [(7, "7 rounds"), (1, "1 round")])
def test_doctor_tells_the_runs_rounds_and_not_its_recipes(after_a_night: Path, rounds: int, said: str) -> None:
    with Store.open(after_a_night) as store, store.write() as db:
        control.set_limits(db, rounds_wanted=rounds)
    assert f"ok   recipe     demo, {said} after round 0" in run("doctor", "-w", str(after_a_night)).stdout


def test_doctor_sees_where_no_workspace_can_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("text,label\n")
    assert f"BAD  disk       {file} is a file" in run("doctor", "-w", str(file), status=1).stdout
    # Whoever runs the tests may be root, whom the bits of a folder do not stop.
    monkeypatch.setattr("os.access", lambda path, mode: False)
    said = run("start", "demo", "--dry-run", "-w", str(tmp_path / "w"), status=2)
    assert f"missing: disk: {tmp_path} is not writable" in said.stderr


def test_doctor_finds_what_a_night_would_die_of(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    files = "".join(f'[[data]]\npath = "gone.csv"\nsplit = "{split}"\n' for split in ("pool", "seed", "dev"))
    recipe.write_text(f'name = "mine"\n{files}\n[guard]\nbase = "./no-model"\n')
    said = run("doctor", str(recipe), "-w", str(tmp_path / "none"), status=1).stdout
    assert "BAD  model      ./no-model: no such folder" in said
    assert "BAD  data       gone.csv: gone.csv: no such file" in said
    more = 'hide_labels = true\n[export]\nformats = ["nf4"]\n[guard]\nbackend = "mlx"\n'
    recipe.write_text(f'name = "mine"\n{files}{more}')
    said = run("doctor", str(recipe), "-w", str(tmp_path / "none"), status=1).stdout
    assert "BAD  export     the MLX backend does not write nf4: it writes adapter, adapter-mlx, safetensors, " in said
    assert "BAD  data       gone.csv: gone.csv: the labels of dev cannot be hidden" in said


@pytest.mark.parametrize("name", list(shipped()))
def test_a_shipped_recipe_can_be_printed_for_imported_samples(name: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["recipes", "show", name, "--imported"])
    mine = tmp_path / "mine.toml"
    mine.write_text(done.output, encoding="utf-8")
    left, whole = schema.load(mine), schema.load(name)
    assert (left.source, left.data) == ("imported", ())
    assert left == whole.model_copy(update={"source": "imported", "data": ()})
