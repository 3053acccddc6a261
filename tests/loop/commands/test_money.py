"""`costs` and `keys`: figures for scripts and people; a key that is never shown, and where it comes from."""

import json
from pathlib import Path

import keyring
import pytest
from click.testing import CliRunner, Result
from keyring.backend import KeyringBackend
from pydantic import SecretStr

from tests.loop.scripted import COST, WORST, Scripted, client, context, fault, ok
from wizloop.backends.teachers.base import Answer, Question, Usage
from wizloop.loop import keys
from wizloop.loop.cli import app
from wizloop.loop.phases.teach import teach
from wizloop.store import control
from wizloop.store.db import Store

SECRET = "sk-canary-0123456789"
VARIABLES = [variable for names in keys.VARIABLES.values() for variable in names]


class Drawer(KeyringBackend):
    """A keyring in memory."""

    priority = 1

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.held: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.held.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.held[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.held[service, username]


@pytest.fixture
def drawer(monkeypatch: pytest.MonkeyPatch) -> Drawer:
    """A keyring that works and is empty, and an environment without keys."""
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    made = Drawer()
    monkeypatch.setattr(keyring.core, "_keyring_backend", made)
    return made


def run(*words: str, stdin: str = "") -> Result:
    return CliRunner().invoke(app, list(words), input=stdin)


def test_a_key_goes_into_the_keyring_and_out_again_unseen(drawer: Drawer) -> None:
    said = run("keys", "set", "claude", stdin=f"{SECRET}\n")
    assert said.exit_code == 0, said.output
    assert drawer.held == {("wizloop", "claude"): SECRET}
    found = run("keys", "list", "--json")
    assert json.loads(found.stdout) == {"claude": "the keyring", "gemini": None, "openai": None, "server": None}
    assert SECRET not in said.output + found.output + run("keys", "list").output
    assert run("keys", "delete", "claude").exit_code == 0
    assert drawer.held == {}
    assert run("keys", "delete", "claude").exit_code == 2


@pytest.mark.parametrize("words", [("set", "policy"), ("set", "claude"), ("delete", "nobody")])
def test_what_cannot_be_kept_is_refused(drawer: Drawer, words: tuple[str, str]) -> None:
    assert run("keys", *words, stdin="\n").exit_code == 2
    assert drawer.held == {}


def test_the_environment_comes_first(drawer: Drawer, monkeypatch: pytest.MonkeyPatch) -> None:
    drawer.set_password("wizloop", "gemini", "from the drawer")
    second = keys.find("gemini")
    monkeypatch.setenv("GOOGLE_API_KEY", f" {SECRET}\n")
    first = keys.find("gemini")
    assert first is not None
    assert second is not None
    assert (first.secret.get_secret_value(), first.where) == (SECRET, "the environment (GOOGLE_API_KEY)")
    assert second.where == "the keyring"
    assert SECRET not in repr(first)
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    assert keys.find("openai") is None


def test_a_machine_without_a_keyring_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyring.core, "_keyring_backend", keyring.backends.fail.Keyring())  # type: ignore[no-untyped-call]
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    assert keys.find("claude") is None
    with pytest.raises(keys.KeyringError, match="set the key in the environment") as refused:
        keys.store("claude", SecretStr(SECRET))
    assert SECRET not in str(refused.value)
    assert run("keys", "set", "claude", stdin=SECRET).exit_code == 1


@pytest.fixture
def spent(tmp_path: Path) -> Path:
    """A workspace with an answer, a refusal, an answer on the second try, and a call that broke off."""

    def say(asked: Question, number: int) -> Answer:
        if asked.prompt == "question 2":
            return fault("refused", "cyber", billed="yes", usage=Usage(3, 4, 5, 6))
        if asked.prompt == "question 3" and number == 1:
            return fault("overloaded")
        return fault("overloaded", "timeout", billed="unknown") if asked.prompt == "question 4" else ok(asked)

    ctx = context(tmp_path, 4, cap_micro=1_000_000)
    teach(ctx, [client(Scripted(say))])
    ctx.store.close()
    return tmp_path


def test_costs_are_summed_and_nothing_is_left_out(spent: Path) -> None:
    found = json.loads(run("costs", "-w", str(spent), "--json").stdout)
    (row,) = found["rows"]
    assert row == {
        "teacher": "scripted",
        "model": "m",
        "day": "2026-03-01",
        "round": 0,
        "calls": 5,
        "answers": 2,
        "refusals": 1,
        "failures": 1,
        "ambiguous": 1,
        "input_tokens": 3,
        "cached_tokens": 5,
        "cache_write_tokens": 6,
        "output_tokens": 2 * COST + 4,
        "settled_usd": (2 * COST + 4) / 1e6,
        "reserved_usd": WORST / 1e6,
    }
    assert found["total"]["settled_usd"] == row["settled_usd"]
    assert found["budget"] == {"cap": 1.0, "settled": 124 / 1e6, "reserved": 100 / 1e6}
    refused = {"teacher": "scripted", "outcome": "refused", "category": "cyber", "policy": "none", "n": 1}
    assert found["refusals"] == [refused]
    assert found["unanswered"] == 2
    told = run("costs", "-w", str(spent))
    assert "5 calls, 2 answers, 1 refusals, 1 failures, 1 ambiguous" in told.stdout
    assert max(len(line) for line in told.stdout.splitlines()) <= 80


def test_who_waits_for_money_is_listed_with_the_reason(tmp_path: Path) -> None:
    ctx = context(tmp_path, 6, cap_micro=WORST + 2 * COST)
    told = teach(ctx, [client(Scripted(lambda asked, number: ok(asked)), concurrency=1)])
    ctx.store.close()
    assert told == "3 of 6 taught; 3 without an answer"
    rows = json.loads(run("teach", "--unanswered", "-w", str(tmp_path), "--json").stdout)
    assert [row["sample"]["prompt"] for row in rows] == ["question 4", "question 5", "question 6"]
    why = "one more call could pass the budget of $0.0002: $0.0002 is spent and $0.0000 reserved; "
    why += "`wizloop start --budget` raises it"
    assert [row["given_up"] for row in rows] == [{"scripted": why}] * 3
    assert f"scripted was not asked: {why}" in run("teach", "--unanswered", "-w", str(tmp_path)).stdout
    assert json.loads(run("costs", "-w", str(tmp_path), "--json").stdout)["unanswered"] == 3


def newer(workspace: Path) -> None:
    """Let the run's recipe have a key that this version does not know."""
    with Store.open(workspace) as store, store.write() as db:
        run = control.get_run(db)
        assert run is not None
        text = json.dumps(json.loads(run.recipe_json) | {"moonlight": True})
        control.set_recipe(db, run.name, text, "0" * 64, run.seed)


def test_a_recipe_of_another_version_leaves_out_the_policies_and_nothing_else(spent: Path) -> None:
    known = json.loads(run("costs", "-w", str(spent), "--json").stdout)
    newer(spent)
    told = run("costs", "-w", str(spent), "--json")
    assert told.exit_code == 0
    assert "refusals are shown without their policies" in told.stderr
    assert "unknown key moonlight" in told.stderr
    known["refusals"][0]["policy"] = "not known"
    assert json.loads(told.stdout) == known


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["status"], 0),
        (["rounds"], 0),
        (["costs"], 0),
        (["review", "--list"], 0),
        (["teach", "--unanswered"], 0),
        (["teach", "--dry-run"], 2),
        (["start", "--headless"], 2),
        (["classify", "-"], 2),
        (["audit"], 2),
        (["export", "0", "--format", "adapter", "--to", "there"], 2),
    ],
)
def test_what_needs_such_a_recipe_says_so_and_the_rest_answers(spent: Path, words: list[str], status: int) -> None:
    newer(spent)
    said = run(*words, "-w", str(spent))
    assert said.exit_code == status, said.output
    assert ("written by another version of wizloop: unknown key moonlight" in said.stderr) == (
        status == 2 or words == ["costs"]
    )


def test_who_was_not_answered_is_listed_with_every_outcome(spent: Path) -> None:
    rows = json.loads(run("teach", "--unanswered", "-w", str(spent), "--json").stdout)
    assert [(row["sample"]["prompt"], [call["outcome"] for call in row["calls"]]) for row in rows] == [
        ("question 2", ["refused"]),
        ("question 4", ["overloaded"]),
    ]
    assert "scripted refused (cyber)" in run("teach", "--unanswered", "-w", str(spent)).stdout
