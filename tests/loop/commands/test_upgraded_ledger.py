"""A ledger of schema 0007 with 50 paid answers goes on under this version: what was asked is not asked again.

`ledger_0007.json` holds what that version wrote: the recipe as it was stored, and the keys of its calls.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.servers.pairs import server
from tests.servers.provider import trace
from wizloop.loop.cli import app
from wizloop.loop.commands.teach_file import recipe_for
from wizloop.loop.teaching import calls, clients, teachers
from wizloop.recipes.schema import recipe_hash
from wizloop.store import engine, hashing, migrations, samples, spending, sqlite, teacher_calls
from wizloop.store.db import Store

OLD: dict[str, Any] = json.loads(Path(__file__).with_name("ledger_0007.json").read_text(encoding="utf-8"))
AT = "2026-11-01T22:00:00.000000Z"
ANSWER = trace("has no answer", None, "unharmful")
EACH = 4_400
"""Micro-dollars that an answer had cost."""


def prompt(number: int) -> str:
    return f"How do I bake bread number {number}?"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file of 52 rows; the ledger next to its traces has the answers to the first 50."""
    path = tmp_path / "asked.jsonl"
    path.write_text("".join(f"{json.dumps({'prompt': prompt(n)})}\n" for n in range(1, 53)), encoding="utf-8")
    (tmp_path / "traces.json").write_text("{}", encoding="utf-8")
    ledger = tmp_path / "traces.json.ledger"
    ledger.mkdir()
    maker = engine.sqlite_engine(ledger / sqlite.DB_NAME, "rwc", sqlite.driver())
    with maker.begin() as db:
        migrations.upgrade(db, "0007")
        _run(db)
        for number, key in enumerate(OLD["keys"], start=1):
            _answered(db, number, bytes.fromhex(key))
    maker.dispose()
    return path


def _run(db: Any) -> None:
    recipe = (OLD["recipe_json"], OLD["recipe_hash"])
    run = "(id, name, recipe_json, recipe_hash, seed, state, reason, wanted, rounds_wanted, created_at)"
    db.exec_driver_sql(f"INSERT INTO run {run} VALUES (1, 'teach', ?, ?, 0, 'created', '', 'run', 0, ?)", (*recipe, AT))
    db.exec_driver_sql(
        'INSERT INTO rounds (number, record, started_at) VALUES (0, \'{"file":"asked.jsonl"}\', ?)', (AT,)
    )
    db.exec_driver_sql("INSERT INTO steps VALUES (0, 'teach', 'running', 1, 50, 50, '', ?, NULL)", (AT,))
    db.exec_driver_sql("INSERT INTO budget VALUES (1, ?, 0)", (50 * EACH,))


def _answered(db: Any, number: int, key: bytes) -> None:
    digest = hashing.content_digest(prompt(number), None)
    db.exec_driver_sql(
        "INSERT INTO samples (id, split, prompt, source, row_ref, hash, added_at) VALUES (?, 'pool', ?, ?, ?, ?, ?)",
        (number, prompt(number), "asked.jsonl", f"asked.jsonl:{number}", digest, AT),
    )
    db.exec_driver_sql("INSERT INTO selections VALUES (?, 0, 'random', 0.0, ?, NULL, 'Named.')", (number, number))
    request = json.dumps({"labels": None, "sample": digest.hex(), "version": OLD["version"]}, sort_keys=True)
    call = (number, key, number, request, EACH, ANSWER, AT, AT, AT)
    db.exec_driver_sql(
        "INSERT INTO teacher_calls (id, key, sample_id, round, teacher, model, attempt, state, outcome, "
        "reserved_micro, request_json, cost_micro, raw, stop_reason, created_at, sent_at, received_at) VALUES "
        "(?, ?, ?, 0, 'claude', 'claude-sonnet-5-5', 1, 'parsed', 'ok', 0, ?, ?, ?, 'end_turn', ?, ?, ?)",
        call,
    )
    verdict = '{"completion":null,"request":"unharmful","response":null}'
    db.exec_driver_sql(
        "INSERT INTO teacher_traces (call_id, sample_id, round, teacher, verdict, confidence_word, trace_json, "
        "explanation, steps_json, created_at) VALUES (?, ?, 0, 'claude', ?, 'high', ?, 'Plain.', '{}', ?)",
        (number, number, verdict, ANSWER, AT),
    )


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-canary-77aa")


def teach(file: Path) -> Result:
    words = ["teach", str(file), "--teacher", "claude", "--out", str(file.with_name("traces.json")), "--json"]
    return CliRunner().invoke(app, words)


def test_what_was_paid_for_is_not_asked_again(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with server("claude") as running:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", running.url)
        told = teach(file)
        assert told.exit_code == 0, told.output
        again = teach(file)
    assert again.exit_code == 0, again.output
    assert json.loads(told.stdout)["answered"] == json.loads(again.stdout)["answered"] == 52
    assert running.books.paths["ask"] == 2
    asked = str(running.books.bodies)
    assert ("number 51?" in asked, "number 52?" in asked, "number 50?" in asked) == (True, True, False)


def test_the_calls_keys_are_those_of_before(file: Path) -> None:
    recipe = recipe_for(None, "claude")
    asking = clients.teacher_of(recipe, "claude", None)
    policies = teachers.policies_hash(teachers.policies_of(recipe))
    with Store.create(file.with_name("traces.json.ledger")) as store, store.read() as db:
        known = {one.id: one for one in samples.get(db, list(range(1, 51)))}
        made = teacher_calls.calls(db, 0)
        assert spending.budget(db).settled_micro == 50 * EACH
    now = [calls.question(asking, known[call.sample_id], policies, None).key for call in made]
    assert (asking.version, now) == (OLD["version"], OLD["keys"])


def test_a_key_that_has_its_default_changes_no_recipes_hash() -> None:
    recipe = recipe_for(None, "claude")
    assert "least_answers" not in json.dumps(recipe.model_dump(mode="json"))
    fewer = recipe.model_copy(update={"teacher": recipe.teacher.model_copy(update={"least_answers": 5})})
    assert recipe_hash(fewer) != recipe_hash(recipe)
