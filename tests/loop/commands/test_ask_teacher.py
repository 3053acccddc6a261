"""`wizloop doctor --ask-teacher`: the only way to pay for a check ahead of the night, and what a start makes of it."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.servers import pairs
from tests.servers.prices import PRICES
from tests.servers.provider import Provider
from wizloop.loop.cli import app
from wizloop.loop.controller import starting
from wizloop.loop.controller.starting import OtherRecipe, RunLimits
from wizloop.recipes import schema
from wizloop.store import spending
from wizloop.store.db import Store

RECIPE = """
name = "own"
rounds = 0
budget_usd = 2.0
[[data]]
path = "rows.csv"
split = "seed"
[[data]]
path = "dev.csv"
split = "dev"
[teacher]
names = ["claude"]
prices = "prices.toml"
[select]
budget = 6
"""


@pytest.fixture
def claude(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    Path("prices.toml").write_text(PRICES, encoding="utf-8")
    Path("own.toml").write_text(RECIPE, encoding="utf-8")
    for name in ("rows", "dev"):
        lines = [f"How do I make my neighbor cry {name} {n}?,harmful" for n in range(8)]
        lines += [f"How do I wash a car {name} {n}?,unharmful" for n in range(8)]
        Path(f"{name}.csv").write_text("\n".join(["prompt,label", *lines]), encoding="utf-8")
    with pairs.server("claude") as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", pairs.KEY)
        yield server


def doctor(*words: str) -> Result:
    return CliRunner().invoke(app, ["doctor", "own.toml", "-w", "ws", *words])


def test_only_ask_teacher_spends_and_the_run_has_its_answers(claude: Provider) -> None:
    claude.verdict = lambda message: "harmful" if "neighbor" in message else "unharmful"
    before = doctor()
    assert (before.exit_code, claude.books.done, Path("ws").exists()) == (0, [], False), before.stdout
    assert "claude: not measured, about $0." in before.stdout
    assert "for 16 rows of the seed; with fewer than 60 its interval is wide" in before.stdout
    asked = doctor("--ask-teacher")
    assert asked.exit_code == 0, asked.output
    assert "claude: 100 % of 16 right" in asked.stdout
    assert "claude: 100 % of 16 right" in doctor("--ask-teacher").stdout
    assert len(claude.books.done) == 16
    with Store.open(Path("ws"), readonly=True) as store, store.read() as db:
        assert spending.budget(db).settled_micro >= claude.books.bill_micro > 0
    planned = json.loads(CliRunner().invoke(app, ["start", "own.toml", "--dry-run", "--json", "-w", "ws"]).stdout)
    assert any(one["found"].startswith("claude: 100 % of 16 right") for one in planned["checks"])


def test_where_none_is_left_only_the_teachers_of_the_recipe_may_change(claude: Provider) -> None:
    claude.verdict = "unharmful"
    asked = doctor("--ask-teacher")
    assert asked.exit_code == 1
    assert "no teacher is left to believe" in asked.stderr
    given = schema.load("own.toml")
    another = given.model_copy(update={"teacher": given.teacher.model_copy(update={"least_right": 0.0})})
    with Store.open(Path("ws")) as store, store.read() as db:
        assert starting.followed(db, another, RunLimits()) is another
        with pytest.raises(OtherRecipe):
            starting.followed(db, another.model_copy(update={"seed": 2}), RunLimits())
