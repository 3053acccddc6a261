"""`wizloop start --dry-run`: what is missing is listed, the plan is bounded from above, and nothing is made or sent."""

import json
import re
import socket
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.where import BENCHMARK_RECIPES, NEEDS_SHARED_DATA, ROOT
from wizloop.loop.cli import app
from wizloop.loop.guard.backend import GGUF, Mlx, Torch, export_fault
from wizloop.loop.preflight.data_sources import Source, fault, sources_of
from wizloop.loop.preflight.teacher_costs import teacher_costs
from wizloop.recipes import schema
from wizloop.recipes.teaching import Teachers
from wizloop.store import control, steps
from wizloop.store.db import Store

NOW = datetime(2026, 11, 20, 21, 0, tzinfo=UTC)
ROWS = [{"prompt": f"how do I knit number {n}", "label": ("harmful", "unharmful")[n % 2]} for n in range(40)]
FILES = """
name = "mine"
rounds = 2
[[data]]
path = "{folder}/pool.jsonl"
split = "pool"
[[data]]
path = "{folder}/seed.jsonl"
split = "seed"
sample = 10
[[data]]
path = "{folder}/dev.jsonl"
split = "dev"
[select]
budget = 15
"""


@pytest.fixture(autouse=True)
def nothing_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    """No connection can be made, and no key is in the environment."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a dry run wants to connect")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    for name in ("ANTHROPIC_API_KEY", "GEMINI_API_KEY", "GOOGLE_API_KEY", "WIZLOOP_SERVER_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.null.Keyring")


def written(folder: Path, more: str = "", rows: list[dict[str, str]] = ROWS) -> Path:
    """A recipe on three files of the same rows."""
    for split in ("pool", "seed", "dev"):
        lines = [json.dumps(row) for row in rows]
        (folder / f"{split}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    recipe = folder / "mine.toml"
    recipe.write_text((FILES + more).format(folder=folder), encoding="utf-8")
    return recipe


def dry(*words: str | Path, status: int = 0) -> Result:
    result = CliRunner().invoke(app, ["start", "--dry-run", *map(str, words)])
    assert result.exit_code == status, result.output
    return result


def told(*words: str | Path, status: int = 0) -> Any:
    return json.loads(dry("--json", *words, status=status).stdout)


def test_a_plan_says_how_much_is_read_and_taught_and_makes_nothing(tmp_path: Path) -> None:
    recipe, workspace = written(tmp_path), tmp_path / "runs"
    before = sorted(tmp_path.iterdir())
    found = told(recipe, "-w", workspace)
    assert (found["ok"], found["missing"]) == (True, [])
    plan = found["plan"]
    assert plan["samples"] == {"pool": 40, "seed": 10, "dev": 40, "test": 0}
    assert (plan["rounds"], plan["picked"], plan["most_usd"]) == (2, 40, 0.0)
    assert plan["phases"]["round 0"][:2] == ["import", "prepare"]
    assert plan["phases"]["each round"][0] == "classify"
    assert sorted(tmp_path.iterdir()) == before
    assert not workspace.exists()


def test_a_pool_that_is_smaller_than_the_rounds_want_bounds_the_plan(tmp_path: Path) -> None:
    assert told(written(tmp_path), "--rounds", "9", "-w", tmp_path / "runs")["plan"]["picked"] == 10 + 40


def test_a_person_reads_the_plan_on_one_screen(tmp_path: Path) -> None:
    said = dry(written(tmp_path), "--until", "07:00", "-w", tmp_path / "runs").stdout
    assert "rounds 1 to 2  classify, select, teach" in said
    assert "to a teacher   at most 40: the seed, then 15 per round" in said
    assert "time           unknown, measured after round 0; no phase starts after 07:00" in said


def test_a_plan_counts_the_questions_about_each_policy(tmp_path: Path) -> None:
    asked = '[guard]\npolicies = "shipped"\npolicies_ask = "{}"\nmax_prompt_tokens = 512\n'
    for ask, questions in (("each", 6), ("all", 1)):
        (folder := tmp_path / ask).mkdir()
        recipe = written(folder, more=asked.replace("{}", ask))
        assert told(recipe, "-w", folder / "runs")["plan"]["questions"] == questions
        assert ("asked 6 questions about each, and takes" in dry(recipe, "-w", folder / "runs").stdout) == (
            ask == "each"
        )


@pytest.mark.parametrize(
    ("more", "rows", "missing"),
    [
        ('[guard]\nbase = "./no-such-folder"', ROWS, "model: ./no-such-folder: no such folder"),
        ('[[members.others]]\nbase = "./no-such"', ROWS, "member 1 model: ./no-such: no such folder"),
        ('[[members.others]]\ninstruction = "gone.txt"', ROWS, "member 1 prompt: gone.txt: cannot read"),
        ('[teacher]\nnames = ["claude"]', ROWS, "key: there is no key for claude: set ANTHROPIC_API_KEY"),
        (
            '[teacher]\nnames = ["recorded"]\n[teacher.recorded]\npath = "none.csv"',
            ROWS,
            "teacher: recorded: none.csv: no such file",
        ),
        ("", [{"prompt": "a", "label": "harmful"}], "data: every labeled request of seed is harmful"),
        (
            '[guard]\nbackend = "mlx"\n[export]\nformats = ["adapter", "nf4"]',
            ROWS,
            "export: the MLX backend does not write nf4: it writes adapter, adapter-mlx, safetensors, mlx-4bit, ",
        ),
        (
            '[guard]\nbackend = "mlx"\n[export]\nformats = ["gguf"]',
            ROWS,
            "export: the tiny guard is not written as GGUF: it has a tokenizer of its own",
        ),
        (
            '[[data]]\npath = "{folder}/dev.jsonl"\nsplit = "dev"\nhide_labels = true',
            ROWS,
            "dev.jsonl: the labels of dev cannot be hidden: it is measured by them",
        ),
        (
            '[[data]]\npath = "owner/set"\nhub_split = "all"\nsplit = "test"\nhide_labels = true',
            ROWS,
            "owner/set: the labels of test cannot be hidden",
        ),
        ("", [{"colour": "red"}], "unknown columns (colour)"),
        ("", [*ROWS, {"label": "harmful"}], "pool.jsonl: row 41: no column 'prompt', which the format 'columns' needs"),
        ('[[data]]\npath = "gone.csv"\nsplit = "test"', ROWS, "data: gone.csv: gone.csv: no such file"),
    ],
)
def test_what_is_missing_is_listed_with_status_2(
    tmp_path: Path, more: str, rows: list[dict[str, str]], missing: str
) -> None:
    result = dry(written(tmp_path, more, rows), "-w", tmp_path / "runs", status=2)
    told = [line for line in result.stderr.splitlines() if line.startswith("missing: ")]
    assert [line for line in told if missing in line], told
    assert "nothing was created, written or sent" in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("config", "missing"),
    [
        ({"model_type": "apertus"}, "config.json: has no mlp_bias, post_norm, qk_norm, which mlx-lm needs"),
        ({"model_type": "gemma2", "sliding_window": 300}, "its layers were trained with a window of 300 tokens"),
        ({"model_type": "nonesuch"}, "mlx-lm has no model of type nonesuch"),
    ],
)
def test_a_base_that_would_not_be_read_as_it_was_trained_is_missing(
    tmp_path: Path, config: dict[str, Any], missing: str
) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text(json.dumps(config))
    recipe = written(tmp_path, f'[guard]\nbase = "{tmp_path}/base"\nbackend = "mlx"')
    said = told(recipe, "-w", tmp_path / "runs", status=2)["missing"]
    assert any(missing in each for each in said)


def test_four_bits_for_a_card_are_torchs_and_need_bitsandbytes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert export_fault(Torch, set(Mlx.FORMATS) - set(GGUF), "tiny") is None
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    assert "the format nf4 needs bitsandbytes" in (export_fault(Torch, ["adapter", "nf4"], "tiny") or "")


def test_a_recipe_that_cannot_be_read_is_the_one_thing_that_is_missing(tmp_path: Path) -> None:
    found = told("demmo", "-w", tmp_path / "runs", status=2)
    assert "did you mean 'demo'" in found["missing"][0]
    assert found["plan"] is None


def test_a_key_is_said_to_be_there_and_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-very-secret")
    result = dry(written(tmp_path, '[teacher]\nnames = ["claude"]'), "-w", tmp_path / "runs")
    assert "claude: found in the environment (ANTHROPIC_API_KEY)" in result.stdout
    assert "secret" not in result.output


def test_the_most_that_teachers_cost_is_bounded_by_the_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "k")
    recipe = written(tmp_path, '[teacher]\nnames = ["claude"]')
    free = told(recipe, "-w", tmp_path / "runs")["plan"]
    assert free["teachers"][0]["calls"] == 80
    # 40 answers of 3,000 tokens and 40 of 6,000 at $10 a million are $3.60, and the questions come on top.
    assert 3.60 < free["most_usd"] < 6.00
    assert told(recipe, "--budget", "1.5", "-w", tmp_path / "runs")["plan"]["most_usd"] == 1.5


def test_a_replayed_teacher_costs_nothing_and_needs_its_file(tmp_path: Path) -> None:
    recipe = written(tmp_path, f'[teacher]\nnames = ["claude"]\nreplay = "{tmp_path}/calls.jsonl"')
    assert f"claude: {tmp_path}/calls.jsonl: cannot be read" in dry(recipe, "-w", tmp_path / "runs", status=2).stderr
    (tmp_path / "calls.jsonl").write_text("")
    found = told(recipe, "-w", tmp_path / "runs")
    assert (found["missing"], found["plan"]["most_usd"]) == ([], 0.0)
    assert found["plan"]["teachers"][0]["mode"] == "replay"


def test_longer_texts_and_a_second_ask_cost_more() -> None:
    texts = {"pool": [100, 9000], "seed": [100], "dev": [100]}
    recipe = schema.load("demo").model_copy(update={"teacher": Teachers(names=("claude",))})
    once = recipe.model_copy(update={"teacher": recipe.teacher.model_copy(update={"second_ask": False})})

    def most(asked: schema.Recipe, rounds: int) -> float:
        from array import array

        found = [Source(split, split, True, "", len(n), array("q", n)) for split, n in texts.items()]  # type: ignore[arg-type]
        usd = teacher_costs(asked, found, rounds, NOW)[0].usd
        assert usd is not None
        return usd

    # A second ask may be for an answer that was cut off, which gets 3,000 tokens more: $0.03.
    assert most(once, 0) * 2 + 0.03 < most(recipe, 0) < most(once, 0) * 2.2 + 0.03
    # The long text is 8,900 bytes, and so tokens, more: at $2.50 a million, the dearest rate that there is for one.
    assert most(once, 1) - 3 * most(once, 0) == pytest.approx(8900 * 2.5e-6, abs=1e-3)


def test_a_server_is_named_and_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = written(tmp_path, '[guard]\nengine = "vllm"\n[guard.server]\nbase_url = "http://127.0.0.1:9/v1"')
    said = dry(recipe, "-w", tmp_path / "runs").stdout
    assert "http://127.0.0.1:9/v1: first used at the start, without a key" in said
    monkeypatch.setenv("WIZLOOP_SERVER_KEY", "sk-very-secret")
    said = dry(recipe, "-w", tmp_path / "runs").stdout
    assert "with the key in the environment (WIZLOOP_SERVER_KEY)" in said
    assert "secret" not in said


def test_a_hub_dataset_is_not_asked_for_and_its_size_is_bounded_by_the_recipe(tmp_path: Path) -> None:
    hub = '[[data]]\npath = "owner/set"\nhub_split = "test"\nsplit = "test"\n'
    found = told(written(tmp_path, hub), "-w", tmp_path / "runs")
    assert found["plan"]["samples"]["test"] is None
    assert any(
        "owner/set: the hub's split test, downloaded at the first start" in one["found"] for one in found["checks"]
    )
    found = told(written(tmp_path, hub + "sample = 70"), "-w", tmp_path / "runs")
    assert found["plan"]["samples"]["test"] == 70


@pytest.mark.parametrize(("rounds", "gates"), [("0", "one gate"), ("3", "4 gates")])
def test_it_says_which_loss_the_gates_can_exclude(tmp_path: Path, rounds: str, gates: str) -> None:
    found = told("demo", "--rounds", rounds, "-w", tmp_path / "runs")
    assert re.search(
        rf"With 260 dev prompts, {gates} can exclude a loss of more than \d+\.\d points", found["plan"]["gate"]
    )


def test_a_measured_workspace_tells_how_long_the_rest_takes(tmp_path: Path) -> None:
    recipe = schema.load("demo")
    with Store.create(tmp_path / "runs") as store, store.write() as db:
        control.create_run(
            db,
            name=recipe.name,
            recipe_json=schema.canonical_json(recipe),
            recipe_hash=schema.recipe_hash(recipe),
            seed=recipe.seed,
            cap_micro=None,
            until=None,
            rounds_wanted=3,
            now=NOW,
        )
        for number, phases in (
            (
                0,
                (
                    "import",
                    "prepare",
                    "base",
                    "check",
                    "select",
                    "teach",
                    "review",
                    "train",
                    "evaluate",
                    "gate",
                    "export",
                ),
            ),
            (1, ("classify", "select", "teach", "review", "train", "evaluate")),
        ):
            steps.begin_round(db, number, None, NOW)
            for phase in phases:
                steps.begin_step(db, number, phase, NOW)
                steps.finish_step(db, number, phase, "", NOW + timedelta(seconds=60 + 540 * (phase == "train")))
    # Left are gate and export of round 1, and rounds 2 and 3 with seven phases of a minute and a training of ten.
    assert told("-w", tmp_path / "runs")["plan"]["time"]["seconds"] == 2 * 60 + 2 * (7 * 60 + 600)
    assert "36 min to go" in dry("-w", tmp_path / "runs").stdout
    other = dry(BENCHMARK_RECIPES / "acceptance.toml", "-w", tmp_path / "runs", status=2).stderr
    assert "holds the run 'demo' of another recipe" in other


def test_a_workspace_with_nothing_imported_cannot_run_on_it(tmp_path: Path) -> None:
    result = dry("imported", "-w", tmp_path / "runs", status=2)
    assert "the split pool has no usable sample" in result.stderr


def test_json_goes_with_dry_run_alone(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["start", "--json", "-w", str(tmp_path / "runs")])
    assert result.exit_code == 2
    assert not (tmp_path / "runs").exists()


def test_the_demo_is_counted_as_the_import_makes_it() -> None:
    found = sources_of(schema.load("demo"), None)
    assert [(one.split, one.rows) for one in found] == [("pool", 1000), ("seed", 80), ("dev", 260), ("test", 300)]
    assert fault(found, schema.load("demo")) is None


@NEEDS_SHARED_DATA
def test_real_files_are_read_to_their_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    plan = told(BENCHMARK_RECIPES / "acceptance.toml", "-w", "no-such-workspace")["plan"]
    assert plan["samples"] == {"pool": 3000, "seed": 200, "dev": 422, "test": 1438}
    assert plan["picked"] == 1000
