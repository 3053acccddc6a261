"""Every shipped recipe loads and is dry-run without a network: what it lacks here is said, and nothing fails."""

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.where import BENCHMARK_RECIPES, ROOT, SHARED_DATA
from wizloop.backends import devices
from wizloop.loop.cli import app
from wizloop.recipes.schema import load
from wizloop.recipes.shipped import shipped

LARGE = {
    "cuda-overnight-8b": ("Qwen/Qwen3-8B", 1000, 15.0),
    "guardreasoner-1b": ("yueliu1999/GuardReasoner-1B", 1200, 20.0),
    "guardreasoner-3b": ("yueliu1999/GuardReasoner-3B", 1200, 20.0),
    "guardreasoner-8b": ("yueliu1999/GuardReasoner-8B", 1200, 20.0),
    "mac-overnight-3b": ("mlx-community/Llama-3.2-3B-Instruct-4bit", 650, 10.0),
    "qwen3-0.6b-deepconf": ("Qwen/Qwen3-0.6B", 500, 8.0),
    "smollm2-135m": ("HuggingFaceTB/SmolLM2-135M-Instruct", 76, 0.0),
}
"""The base, the samples that are taught at most, and the most dollars."""


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a dry run wants to connect")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.null.Keyring")
    monkeypatch.chdir(ROOT)
    # Torch takes long to load, and which backend there is is not the matter here.
    monkeypatch.setattr(devices, "_NEEDED", ("no_such_library",))


def dry(name: str, workspace: Path) -> Any:
    result = CliRunner().invoke(app, ["start", name, "--dry-run", "--json", "-w", str(workspace)])
    assert result.exit_code in (0, 2), result.output
    assert not workspace.exists()
    return json.loads(result.stdout)


@pytest.mark.parametrize("name", LARGE)
def test_a_large_recipe_lacks_its_key_at_most(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base, picked, usd = LARGE[name]
    lacking = [one for one in dry(name, tmp_path / "runs")["missing"] if not one.startswith("backend")]
    paid = "claude" in load(name).teacher.names
    assert [one[:33] for one in lacking] == (["key: there is no key for claude: "] if paid else [])
    monkeypatch.setenv("ANTHROPIC_API_KEY", "k")
    found = dry(name, tmp_path / "runs")
    assert [one for one in found["missing"] if not one.startswith("backend")] == []
    assert next(one for one in found["checks"] if one["name"] == "model")["found"].startswith(base)
    assert (found["plan"]["picked"], found["plan"]["most_usd"]) == (picked, usd)


@pytest.mark.parametrize("name", ["demo", "imported", str(BENCHMARK_RECIPES / "toxicchat.toml")])
def test_the_small_recipes_are_planned_too(name: str, tmp_path: Path) -> None:
    if name.endswith("toxicchat.toml") and not SHARED_DATA.is_dir():
        pytest.skip("the shared data is not on this machine")
    found = dry(name, tmp_path / "runs")
    assert found["plan"]["most_usd"] == 0
    assert found["ok"] is (name != "imported")


def test_no_recipe_for_real_data_rests_on_the_policy_reasoner() -> None:
    made = {name: load(name) for name in shipped()}
    assert {name for name, one in made.items() if "policy" in one.teacher.names} == {"demo", "smollm2-135m"}
    assert {one.source for one in made.values() if "policy" in one.teacher.names} == {"demo"}


@pytest.mark.parametrize("name", LARGE)
def test_a_large_recipe_says_what_to_expect_and_how_that_was_found(name: str) -> None:
    head = shipped()[name].read_text(encoding="utf-8").partition("\nname = ")[0]
    assert all(word in head for word in ("Estimated, not measured", "hours", "Memory: ", "Teacher: ", "$"))
    assert len(head.splitlines()[0]) <= 120


def test_the_paper_s_settings_are_those_of_the_largest_guardreasoner() -> None:
    recipe = load("guardreasoner-8b")
    assert (recipe.train.lr, recipe.train.epochs, recipe.train.batch, recipe.dpo.batch) == (5e-5, 3, 384, 256)
    assert (recipe.dpo.lr, recipe.dpo.epochs, recipe.dpo.beta, recipe.dpo.sft_weight) == (5e-6, 2, 0.01, 2.0)
    assert (recipe.dpo.k, recipe.dpo.gamma, recipe.classify.temperature, recipe.classify.top_p) == (4, 0.2, 0.7, 0.95)
    assert (recipe.guard.instruction, recipe.guard.opening) == ("column:instruction", "none")
