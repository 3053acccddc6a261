"""Teachers behind a network as a person meets them: asked, shown, kept, replayed, examined; no key left anywhere."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.loop.scripted import NOW
from tests.servers.pairs import KEY, pair
from tests.servers.provider import Books, each, never
from wizloop.loop import keys
from wizloop.loop.cli import app
from wizloop.loop.controller.starting import TeacherMissing, check_teachers
from wizloop.loop.preflight import Check, teacher_checks
from wizloop.recipes import schema
from wizloop.recipes.schema import Recipe
from wizloop.store import control
from wizloop.store.db import Store
from wizloop.store.spending import budget

ROWS = "text,label\nhow do I knit a hat,unharmful\nhow do I bake bread,unharmful\nhow do I sew,unharmful\n"


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, Any]]:
    with pair("claude") as (claude, _), pair("gemini") as (gemini, _):
        yield {"claude": claude, "gemini": gemini}


@pytest.fixture
def here(servers: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a file of rows, and an environment in which both providers are on the loopback."""
    for server in servers.values():
        server.books, server.script = Books(), never
        server.lifecycle = "active"
    monkeypatch.setenv("ANTHROPIC_BASE_URL", servers["claude"].url)
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", servers["gemini"].url)
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.csv").write_text(ROWS)
    return tmp_path


def run(*words: str, status: int = 0) -> Result:
    said = CliRunner().invoke(app, list(words))
    assert said.exit_code == status, said.output
    return said


def recipe(**teacher: Any) -> Recipe:
    return Recipe.model_validate_json(json.dumps({"name": "r", "source": "demo", "teacher": teacher}))


def test_real_teachers_write_traces_and_what_one_refuses_goes_to_the_next(here: Path, servers: dict[str, Any]) -> None:
    servers["claude"].script = each("refusal", "429 retry-after", "echo", "401")
    (here / "two.toml").write_text('name = "two"\nsource = "demo"\nteacher = ["claude", "gemini"]\n')
    said = run("teach", "rows.csv", "--recipe", "two.toml", "--out", "traces.json", "--budget", "2", "--json")
    told = json.loads(said.stdout)
    assert (told["total_samples"], told["answered"]) == (3, 3)
    assert told["accuracy"] == 1.0
    assert 0 < told["usd"] < 0.05
    written = json.loads((here / "traces.json").read_text())["traces"]
    assert "gemini" in {row["teacher"] for row in written}
    costs = json.loads(run("costs", "-w", "traces.json.ledger", "--json").stdout)
    assert [row["refusals"] for row in costs["rows"] if row["teacher"] == "claude"] == [1]
    no_key_is_left(here, said.output)


def no_key_is_left(folder: Path, said: str) -> None:
    marks = [KEY.encode(), b"Bearer ", b"authorization:"]
    files = [one for one in folder.rglob("*") if one.is_file()]
    assert any(one.suffix == ".db" for one in files)
    assert [one.name for one in files for mark in marks if mark in one.read_bytes()] == []
    assert KEY not in said


def test_what_was_answered_answers_again_without_a_network(
    here: Path, servers: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    servers["gemini"].script = each("wrong schema")
    run("teach", "rows.csv", "--teacher", "gemini", "--out", "first.json")
    assert "4 calls" in run("teach", "--keep", "calls.jsonl", "-w", "first.json.ledger").stderr
    assert "already exists" in run("teach", "--keep", "calls.jsonl", "-w", "first.json.ledger", status=2).stderr
    monkeypatch.delenv("GEMINI_API_KEY")
    asked = servers["gemini"].books.requests
    (here / "again.toml").write_text(
        'name = "again"\nsource = "demo"\n[teacher]\nnames = ["gemini"]\nreplay = "calls.jsonl"\n'
    )
    told = json.loads(run("teach", "rows.csv", "--recipe", "again.toml", "--out", "again.json", "--json").stdout)
    assert (told["answered"], told["usd"], servers["gemini"].books.requests) == (3, 0.0, asked)
    first, again = (json.loads((here / name).read_text())["traces"] for name in ("first.json", "again.json"))
    assert [row["reasoning"] for row in first] == [row["reasoning"] for row in again]
    (here / "calls.jsonl").write_text('{"key": "a"}\n')
    said = run("teach", "rows.csv", "--recipe", "again.toml", "--out", "third.json", status=2).stderr
    assert "calls.jsonl: line 1: teacher" in said


def test_a_budget_that_is_no_amount_is_refused_and_nothing_written(here: Path) -> None:
    for amount in ("nan", "inf", "1e300"):
        said = run("teach", "rows.csv", "--teacher", "policy", "--out", "t.json", "--budget", amount, status=2)
        assert f"{amount} is not an amount: give at most 1,000,000,000 dollars" in said.stderr
    assert [path.name for path in here.iterdir()] == ["rows.csv"]


def test_a_dry_run_shows_what_would_be_sent_and_sends_nothing(
    here: Path, servers: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    asked = servers["claude"].books.requests
    words = ("teach", "rows.csv", "--teacher", "claude", "--dry-run", "--samples", "2")
    (found,) = json.loads(run(*words, "--json").stdout)
    assert (found["teacher"], found["mode"], len(found["requests"])) == ("claude", "live", 2)
    assert "how do I knit a hat" in found["requests"][0]["messages"][0]["content"]
    assert found["requests"][0]["output_config"]["format"]["type"] == "json_schema"
    most = found["at_most"]
    assert most["output_tokens"] == 6000
    assert most["usd"] == pytest.approx((most["input_tokens"] * 2.5 + 6000 * 10.0) / 1e6, abs=2e-6)
    said = run(*words).stdout
    assert "how do I bake bread" in said
    assert "2 requests" in said
    assert servers["claude"].books.requests == asked
    assert not list(here.glob("*.ledger"))
    (free,) = json.loads(run("teach", "rows.csv", "--teacher", "policy", "--dry-run", "--json").stdout)
    assert (free["requests"], free["at_most"]["usd"]) == ([], 0.0)


def test_a_dry_run_on_ones_own_server_bounds_no_dollars(here: Path) -> None:
    server = '[teacher.openai]\nbase_url = "http://127.0.0.1:9/v1"\nmodel = "local"\n'
    (here / "own.toml").write_text(f'name = "own"\nsource = "demo"\n[teacher]\nnames = ["openai"]\n{server}')
    (found,) = json.loads(run("teach", "rows.csv", "--recipe", "own.toml", "--dry-run", "--json").stdout)
    assert len(found["requests"]) == 3
    assert (found["at_most"]["usd"], found["expected"]["usd"]) == (0.0, 0.0)


def test_a_dry_run_of_a_run_shows_what_it_would_ask_next(after_a_night: Path) -> None:
    said = run("teach", "--dry-run", "--teacher", "gemini", "-w", str(after_a_night), "--json").stdout
    assert "\x1b" not in said
    (found,) = json.loads(said)
    assert len(found["requests"]) == 2


def checked(names: list[str]) -> list[Check]:
    now = NOW.replace(month=11)
    return list(teacher_checks.checks(recipe(names=names), now, capped=False, network=True))


def test_doctor_looks_at_key_model_life_and_price_and_pays_nothing(here: Path, servers: dict[str, Any]) -> None:
    servers["claude"].lifecycle = "deprecated"
    bill = servers["claude"].books.bill_micro
    key, price, first, *others = checked(["claude", "gemini"])
    assert all(each.ok for each in (key, price, first, *others))
    assert key.found == "claude: found in the environment (ANTHROPIC_API_KEY)"
    rate = "$2 per million input tokens, $10 per million output tokens"
    assert price.found == f"claude: claude-sonnet-5-5, {rate}"
    assert first.found == "claude-sonnet-5-5: deprecated"
    assert first.advice == "choose a newer model in the next recipe"
    assert [each.name for each in others] == ["key", "price", "teacher gemini"]
    servers["claude"].books.paths.clear()
    servers["claude"].script = each("401", "500")
    refused, broken = (checked(["claude"])[-1] for _ in range(2))
    assert not refused.ok
    assert "keys set" in str(refused.advice)
    assert not broken.ok
    assert servers["claude"].books.bill_micro == bill


def test_a_retired_model_and_a_missing_key_are_found(
    here: Path, servers: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    servers["claude"].lifecycle = "retired"
    found = checked(["claude"])[-1]
    assert (found.ok, found.advice) == (False, "choose another model in the recipe")
    monkeypatch.delenv("GEMINI_API_KEY")
    monkeypatch.setattr(keys, "find", lambda name: None)
    missing, _ = checked(["gemini"])
    assert "set GEMINI_API_KEY or GOOGLE_API_KEY" in missing.found


@pytest.mark.parametrize(
    ("changed", "budget_usd", "says"),
    [
        ({"names": ["claude"], "claude": {"model": "claude-none-1"}}, 1.0, "the price of claude's claude-none-1"),
        (
            {"names": ["openai"], "openai": {"model": "m", "base_url": "http://127.0.0.1:9/v1", "paid": True}},
            1.0,
            "price",
        ),
    ],
)
def test_a_price_that_is_not_known_is_told_before_the_night(
    here: Path, changed: dict[str, Any], budget_usd: float, says: str
) -> None:
    asked = recipe(**changed)
    with Store.create(here / "runs") as store:
        with store.write() as db:
            text, digest = schema.canonical_json(asked), schema.recipe_hash(asked)
            limits: dict[str, Any] = {"cap_micro": int(budget_usd * 1e6), "until": None, "rounds_wanted": 0}
            control.create_run(db, name="r", seed=1, now=NOW, recipe_json=text, recipe_hash=digest, **limits)
        with pytest.raises(TeacherMissing, match=says):
            check_teachers(store, asked, NOW)
        with store.write() as db:
            control.set_limits(db, cap_micro=None)
            assert budget(db).cap_micro is None
        check_teachers(store, asked, NOW)


def test_a_start_without_a_key_ends_before_anything_is_done(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    monkeypatch.setattr(keys, "find", lambda name: None)
    (here / "one.toml").write_text('name = "one"\nsource = "demo"\nteacher = ["claude"]\n')
    said = run("start", "one.toml", "-w", "ws", "--headless", status=2)
    assert "there is no key for claude: set ANTHROPIC_API_KEY" in said.stderr


def test_a_recipe_cannot_say_where_a_key_is_sent() -> None:
    for name in ("claude", "gemini"):
        with pytest.raises(ValueError, match="base_url"):
            recipe(names=[name], **{name: {"base_url": "http://127.0.0.2/"}})
