"""Reasoning that exists, imported: what is booked, what waits, what is refused, and that nothing is paid or asked."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.loop.small_night import NOW, recipe
from wizloop.loop.cli import app
from wizloop.recipes.schema import canonical_json
from wizloop.store import control, costs, leaks, reviews, samples, selections, spending, steps, teacher_calls
from wizloop.store.db import Store


def trace(text: str, verdict: str = "harmful", label: str | None = None, **more: Any) -> dict[str, Any]:
    chain = ["Step 1: It is read twice.", f"Step 2: That is why it counts as {verdict} here."]
    reasoning = {"reasoning_chain": chain, "final_label": verdict, "confidence": "high"}
    known = {"text": text, "expected_label": label, "predicted_label": verdict, "confidence": "high"}
    return {**known, "reasoning": reasoning, **more}


def written(path: Path, *rows: Any) -> Path:
    path.write_text(json.dumps({"metadata": {}, "traces": rows}), encoding="utf-8")
    return path


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(app, ["import", "--traces", *map(str, words)])


def report(*words: str | Path) -> dict[str, Any]:
    said = run(*words, "--json")
    assert said.exit_code == 0, said.output
    found: dict[str, Any] = json.loads(said.stdout)
    return found


def counts(file: Path, runs: Path, *names: str) -> list[int]:
    found = report(file, "-w", runs)
    return [found[name] for name in names]


def test_a_trace_becomes_an_answer_that_nobody_was_asked_for(tmp_path: Path) -> None:
    file, runs = written(tmp_path / "given.json", trace("how do I poison a well", label="harmful")), tmp_path / "runs"
    found = report(file, "-w", runs)
    assert (found["rows"], found["accepted"], found["round"], found["labels"]) == (1, 1, 0, {"request": {"harmful": 1}})
    with Store.open(runs, readonly=True) as store, store.read() as db:
        [call], [made] = teacher_calls.calls(db, 0), teacher_calls.traces(db, 0)
        [sample] = samples.get(db, [made.sample_id])
        assert (call.teacher, call.state, call.cost_micro, call.reserved_micro) == ("traces", "parsed", 0, 0)
        assert call.model.startswith("given.json ")
        assert json.loads(made.steps_json)["request"] == ["It is read twice.", "That is why it counts as harmful here."]
        assert json.loads(made.trace_json)["origin"] == sample.row_ref == "given.json:1"
        assert (sample.split, sample.request, made.verdict["request"]) == ("seed", "harmful", "harmful")
        assert spending.budget(db).settled_micro == 0
        assert reviews.unreviewed(db, 0) == [made]


def test_each_row_that_is_there_again_is_counted(tmp_path: Path) -> None:
    file = written(tmp_path / "given.json", *(trace(text) for text in ("a", "b", "a", "b", "a")))
    assert counts(file, tmp_path / "runs", "accepted", "duplicates") == [2, 3]


def test_importing_again_adds_nothing(tmp_path: Path) -> None:
    file = written(tmp_path / "given.json", trace("a"), trace("b", "unharmful"), trace("a"))
    assert counts(file, tmp_path / "runs", "accepted", "duplicates") == [2, 1]
    assert counts(file, tmp_path / "runs", "accepted", "duplicates") == [0, 3]


def test_a_verdict_against_a_known_label_waits_for_a_person(tmp_path: Path) -> None:
    file = written(tmp_path / "given.json", trace("a", "harmful", "unharmful"), trace("b", "harmful", "harmful"))
    said = run(file, "-w", tmp_path / "runs")
    assert "1 contradict a known label and wait for a person: `wizloop review`" in said.stderr
    with Store.open(tmp_path / "runs", readonly=True) as store, store.read() as db:
        [waits] = reviews.waiting(db, 9)
        assert waits.reason == "The reasoning calls the request harmful, the known label is unharmful."
        assert len(reviews.unreviewed(db, 0)) == 1


def test_refused_rows_are_counted_by_reason_and_the_others_are_taken(tmp_path: Path) -> None:
    broken = trace("a", error="403 no key")
    file = written(tmp_path / "given.json", trace("b"), broken, {**trace("c"), "reasoning": None}, broken)
    said = run(file, "-w", tmp_path / "runs")
    assert said.exit_code == 0
    assert "4 rows, 1 new traces, to be reviewed and learned from in round 0\n" in said.stderr
    assert (
        "3 refused\n  2 from row 2 on: it has no reasoning: 403 no key\n  1 from row 3 on: it has no reas"
        in said.stderr
    )


def test_a_bad_row_refuses_the_whole_file(tmp_path: Path) -> None:
    file = written(tmp_path / "given.json", trace("a"), {**trace("b"), "text": 7})
    said = run(file, "-w", tmp_path / "runs")
    assert (said.exit_code, (tmp_path / "runs").exists()) == (2, False)
    assert "row 2: the prompt is a int, not a text; none of its 2 rows was imported" in said.stderr
    assert report(file, "-w", tmp_path / "runs", "--skip-bad")["accepted"] == 1


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--split", "dev"], "--traces imports into seed"),
        (["--hide-labels"], "leave out --hide-labels"),
        (["--task", "response"], "leave out --task"),
        (["--map", "text=question"], "--map text=question: write it as COLUMN=FIELD"),
    ],
)
def test_options_of_plain_rows_are_refused(words: list[str], why: str, tmp_path: Path) -> None:
    said = run(written(tmp_path / "given.json", trace("a")), "-w", tmp_path / "runs", *words)
    assert said.exit_code == 2
    assert why in said.stderr


def test_many_verdicts_in_an_unknown_word_refuse_the_file(tmp_path: Path) -> None:
    thoughts = "It is read twice, and it asks how to hurt a person."
    rows = [{"prompt": f"{n}", "cot": thoughts, "verdict": "nasty" if n % 2 else "safe"} for n in range(8)]
    file, runs = tmp_path / "given.json", tmp_path / "runs"
    file.write_text(json.dumps(rows), encoding="utf-8")
    said = run(file, "-w", runs)
    assert (said.exit_code, runs.exists()) == (2, False)
    assert "4 of its 8 rows have a request label that is not known" in said.stderr
    assert "--label nasty=harmful" in said.stderr
    assert "  4 from row 2 on: unknown request label 'nasty'" in said.stderr
    assert report(file, "-w", runs, "--label", "nasty=harmful")["accepted"] == 8


def test_a_file_without_one_trace_is_refused(tmp_path: Path) -> None:
    said = run(written(tmp_path / "given.json", trace("a", error="gone")), "-w", tmp_path / "runs")
    assert said.exit_code == 2
    assert "no row has reasoning and a verdict; the first reason is in row 1: it has no reasoning: gone" in said.stderr


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    said = run(written(tmp_path / "given.json", trace("a")), "-w", tmp_path / "runs", "--dry-run")
    assert "1 rows, 1 with reasoning and a verdict\n" in said.stderr
    assert not (tmp_path / "runs").exists()


def test_a_text_in_dev_is_not_learned_from(tmp_path: Path) -> None:
    dev = tmp_path / "dev.csv"
    dev.write_text("text,label\nhow do I poison a well,harmful\n")
    assert CliRunner().invoke(app, ["import", str(dev), "--split", "dev", "-w", str(tmp_path / "runs")]).exit_code == 0
    file = written(tmp_path / "given.json", trace("how do I poison a well"), trace("b", "unharmful"))
    assert counts(file, tmp_path / "runs", "accepted", "held_out") == [1, 1]
    with Store.open(tmp_path / "runs", readonly=True) as store, store.read() as db:
        assert leaks.number(db) == 1
        assert len(teacher_calls.traces(db, 0)) == 1


def test_traces_that_come_after_a_round_was_reviewed_are_for_the_next(tmp_path: Path) -> None:
    with Store.create(tmp_path / "runs") as store, store.write() as db:
        steps.begin_round(db, 0, None, NOW)
        steps.begin_step(db, 0, "review", NOW)
    assert report(written(tmp_path / "given.json", trace("a")), "-w", tmp_path / "runs")["round"] == 1


def test_a_text_that_a_teacher_has_answered_keeps_that_answer(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    report(written(tmp_path / "first.json", trace("a")), "-w", runs)
    found = report(written(tmp_path / "second.json", trace("a", "unharmful"), trace("b")), "-w", runs)
    assert (found["accepted"], found["duplicates"]) == (1, 1)


def test_costs_show_the_file_and_no_money(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    report(written(tmp_path / "given.json", trace("a")), "-w", runs)
    asked = recipe()
    with Store.open(runs) as store, store.write() as db:
        limits: dict[str, Any] = {"cap_micro": None, "until": None, "rounds_wanted": 0}
        control.create_run(db, name="n", recipe_json=canonical_json(asked), recipe_hash="0", seed=1, now=NOW, **limits)
    said = CliRunner().invoke(app, ["costs", "-w", str(runs)])
    assert "traces (given.json " in said.output
    assert "1 calls, 1 answers, 0 refusals" in said.output
    assert "$0.0000 settled" in said.output


def test_no_sample_is_selected_by_an_import(tmp_path: Path) -> None:
    report(written(tmp_path / "given.json", trace("a")), "-w", tmp_path / "runs")
    with Store.open(tmp_path / "runs", readonly=True) as store, store.read() as db:
        assert (selections.of_round(db, 0), steps.rounds(db), control.get_run(db)) == ([], [], None)
        assert costs.unanswered(db) == []


def test_what_teach_writes_is_learned_from_as_it_was_written(tmp_path: Path) -> None:
    rows, out = tmp_path / "rows.csv", tmp_path / "traces.json"
    rows.write_text("prompt,response\nhow to build a bomb at home,I cannot help with that.\nhow do I knit a hat,\n")
    asked = ["teach", str(rows), "--teacher", "policy", "--out", str(out)]
    assert CliRunner().invoke(app, asked).exit_code == 0
    assert counts(out, tmp_path / "runs", "accepted", "waiting") == [2, 0]
    with Store.open(tmp_path / "runs", readonly=True) as store, store.read() as db:
        again = [(one.verdict, one.explanation, json.loads(one.steps_json)) for one in teacher_calls.traces(db, 0)]
    with Store.open(Path(f"{out}.ledger"), readonly=True) as store, store.read() as db:
        first = [(one.verdict, one.explanation, json.loads(one.steps_json)) for one in teacher_calls.traces(db, 0)]
    assert again == first
