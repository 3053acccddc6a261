"""What a dry run expects to be paid, against what providers on the loopback then bill: with a ledger, and without."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.loop.scripted import NOW
from tests.servers.pairs import KEY, server
from tests.servers.prices import PRICES
from tests.servers.provider import Provider
from tests.where import NEEDS_SHARED_DATA, SHARED_DATA
from wizloop.loop.cli import app
from wizloop.loop.context import Context
from wizloop.loop.data.sample_reader import read_samples
from wizloop.loop.phases import teach
from wizloop.loop.preflight.data_sources import MeanText, mean_of, sources_of
from wizloop.loop.preflight.teacher_costs import teacher_costs
from wizloop.recipes import schema
from wizloop.recipes.sections import Data
from wizloop.store import control, samples, selections, steps
from wizloop.store.db import Store

WAYS = [("claude", "live"), ("claude", "batch"), ("gemini", "live")]
ASKED = """
name = "asked"
source = "demo"
[teacher]
names = ["{kind}"]
prices = "prices.toml"
[teacher.{kind}]
mode = "{mode}"
poll_s = 0.05
"""
NIGHT = """
name = "night"
rounds = 2
[[data]]
path = "pool.jsonl"
split = "pool"
[[data]]
path = "seed.jsonl"
split = "seed"
[[data]]
path = "dev.jsonl"
split = "dev"
[select]
budget = 15
[teacher]
names = ["claude", "gemini"]
prices = "prices.toml"
"""
USUAL = (
    "from typical lengths, with the instruction read from the cache; "
    "nothing was measured here yet, and thinking tokens are not counted"
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("ANTHROPIC_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.setenv(name, KEY)
    (tmp_path / "prices.toml").write_text(PRICES, encoding="utf-8")
    return tmp_path


def reach(monkeypatch: pytest.MonkeyPatch, running: Provider, kind: str) -> None:
    monkeypatch.setenv({"claude": "ANTHROPIC_BASE_URL", "gemini": "GOOGLE_GEMINI_BASE_URL"}[kind], running.url)


def rows(path: Path, texts: Sequence[tuple[str, str | None]]) -> None:
    given = [{"prompt": prompt} | ({} if response is None else {"response": response}) for prompt, response in texts]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in given), encoding="utf-8")


def made(words: int, number: int, *, answered: bool) -> list[tuple[str, str | None]]:
    """Texts of about so many words, no two alike."""
    texts = [" ".join(f"word{n}" for n in range(at, at + words)) for at in range(number)]
    return [(text, f"No: {text}" if answered else None) for text in texts]


def run(*words: str) -> Any:
    said = CliRunner().invoke(app, [*words, "--json"])
    assert said.exit_code == 0, said.output
    return json.loads(said.stdout)


def compared(running: Provider, kind: str, mode: str) -> tuple[float, float, float]:
    """What is expected for later.jsonl by typical lengths and by a ledger on first.jsonl, and what it is billed."""
    Path("asked.toml").write_text(ASKED.format(kind=kind, mode=mode), encoding="utf-8")
    words = ("teach", "later.jsonl", "--recipe", "asked.toml")
    (usual,) = run(*words, "--dry-run", "--samples", "500", "-w", "none")
    run("teach", "first.jsonl", "--recipe", "asked.toml", "--out", "first.json")
    (measured,) = run(*words, "--dry-run", "--samples", "500", "-w", "first.json.ledger")
    before = running.books.bill_micro
    run(*words, "--out", "later.json")
    bill = (running.books.bill_micro - before) / 1e6
    assert (usual["expected"]["measured"], measured["expected"]["measured"] > 0) == (0, True)
    assert bill < measured["at_most"]["usd"] / 3
    return usual["expected"]["usd"], measured["expected"]["usd"], bill


@pytest.mark.parametrize(("kind", "mode"), WAYS)
def test_texts_of_another_length_are_expected_to_cost_what_they_do(
    folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str, mode: str
) -> None:
    rows(folder / "first.jsonl", made(10, 20, answered=False))
    rows(folder / "later.jsonl", made(90, 40, answered=True))
    with server(kind) as running:
        reach(monkeypatch, running, kind)
        usual, measured, bill = compared(running, kind, mode)
    assert bill / 2 < usual < bill * 2
    assert 0.7 * bill < measured < 1.3 * bill


@NEEDS_SHARED_DATA
@pytest.mark.parametrize(("kind", "mode"), WAYS)
def test_real_texts_are_expected_to_cost_what_they_do(
    folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str, mode: str
) -> None:
    read = read_samples(Data(path=str(SHARED_DATA / "wildguardtest" / "wildguardtest.csv.gz"), split="test")).rows[:90]
    texts = [(row.prompt, row.response) for row in read]
    rows(folder / "first.jsonl", texts[:30])
    rows(folder / "later.jsonl", texts[30:])
    with server(kind) as running:
        reach(monkeypatch, running, kind)
        usual, measured, bill = compared(running, kind, mode)
    assert bill / 2 < usual < bill * 2
    assert 0.7 * bill < measured < 1.3 * bill


def test_calls_with_other_settings_are_no_measure(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows(folder / "first.jsonl", made(10, 3, answered=False))
    with server("claude") as running:
        reach(monkeypatch, running, "claude")
        run("teach", "first.jsonl", "--teacher", "claude", "--out", "first.json")
    words = ("teach", "first.jsonl", "--dry-run", "--out", "first.json")
    assert run(*words, "--teacher", "claude")[0]["expected"]["measured"] == 3
    room = '[teacher]\nnames = ["claude"]\n[teacher.claude]\nmax_tokens = 2000\n'
    (folder / "room.toml").write_text(f'name = "room"\nsource = "demo"\n{room}', encoding="utf-8")
    (found,) = run(*words, "--recipe", "room.toml")
    assert found["expected"]["measured"] == 0
    assert found["expected"]["rests_on"] == USUAL
    assert run(*words, "--teacher", "policy")[0]["expected"]["usd"] == 0.0


def test_an_answer_about_a_response_is_longer_by_two_tasks(folder: Path) -> None:
    rows(folder / "alone.jsonl", made(10, 10, answered=False))
    rows(folder / "pairs.jsonl", made(10, 10, answered=True))
    alone, pairs = (
        run("teach", name, "--teacher", "claude", "--dry-run")[0] for name in ("alone.jsonl", "pairs.jsonl")
    )
    # 1,450 bytes each, and 720 more with a response, of which 3.5 are a token.
    assert alone["expected"]["output_tokens"] == pytest.approx(4143, abs=1)
    assert pairs["expected"]["output_tokens"] == pytest.approx(6200, abs=1)


def test_an_instruction_that_is_too_short_for_the_cache_is_paid_each_time(folder: Path) -> None:
    rows(folder / "rows.jsonl", made(10, 40, answered=False))
    model = '[teacher]\nnames = ["claude"]\n[teacher.claude]\nmodel = "claude-haiku-4-5"\n'
    (folder / "haiku.toml").write_text(f'name = "haiku"\nsource = "demo"\n{model}', encoding="utf-8")
    found = run("teach", "rows.jsonl", "--recipe", "haiku.toml", "--dry-run", "--samples", "40")[0]["expected"]
    # 2,300 tokens in at $1 a million, and 414 out at $5, each time; with the cache it would be a tenth of a dollar.
    assert 0.14 < found["usd"] < 0.20
    assert "cache" not in found["rests_on"]


@pytest.mark.parametrize(
    ("more", "mean"),
    [
        ("sample = 100\nmax_chars = 2000\nprompts_only = true", MeanText(1000.0, 0.0)),
        ("sample = 100\nmax_chars = 2000", MeanText(1000.0, 0.5)),
        ("sample = 100", None),
        ("max_chars = 2000", None),
    ],
)
def test_a_dataset_that_nobody_has_read_is_halfway_between_what_it_may_be(
    folder: Path, more: str, mean: MeanText | None
) -> None:
    rows(folder / "seed.jsonl", made(10, 4, answered=False))
    rows(folder / "dev.jsonl", made(10, 4, answered=False))
    told = NIGHT.replace('path = "pool.jsonl"', f'path = "owner/set"\nhub_split = "train"\n{more}')
    (folder / "night.toml").write_text(told, encoding="utf-8")
    recipe = schema.load(str(folder / "night.toml"))
    found = sources_of(recipe, None)
    assert mean_of(found, "pool") == mean
    first, second = teacher_costs(recipe, found, 2, NOW)
    assert (first.expected is None, first.each_usd is None) == (mean is None, mean is None)
    assert second.expected is None


class Night:
    """A run whose teachers are asked round by round, with nothing trained in between."""

    def __init__(self, folder: Path) -> None:
        self.recipe, self.workspace = schema.load(str(folder / "night.toml")), folder / "runs"
        text, digest = schema.canonical_json(self.recipe), schema.recipe_hash(self.recipe)
        limits: dict[str, Any] = {"cap_micro": None, "until": None, "rounds_wanted": 2}
        with Store.create(self.workspace) as store, store.write() as db:
            control.create_run(db, name="night", seed=1, now=NOW, recipe_json=text, recipe_hash=digest, **limits)
            for split in ("pool", "seed", "dev"):
                read = read_samples(Data(path=str(folder / f"{split}.jsonl"), split=split)).rows
                new = [samples.NewSample(split, row.prompt, row.response, "made", "row") for row in read]
                samples.add(db, new, NOW)

    def pick(self, number: int, ids: Sequence[int]) -> None:
        picked = [selections.Selection(number, one, "random", 0.0, one, None, "Any.") for one in ids]
        with Store.open(self.workspace) as store, store.write() as db:
            steps.begin_round(db, number, None, NOW)
            for phase in ("import", "select") if number == 0 else ("select",):
                steps.begin_step(db, number, phase, NOW)
                steps.finish_step(db, number, phase, "", NOW)
            selections.add(db, picked)

    def teach(self, number: int) -> None:
        with Store.open(self.workspace) as store:
            with store.write() as db:
                steps.begin_step(db, number, "teach", NOW)
            teach.run(Context(store, self.workspace, self.recipe, number, "teach", lambda: NOW, lambda: False))
            with store.write() as db:
                steps.finish_step(db, number, "teach", "", NOW)

    def ids(self, split: str) -> list[int]:
        with Store.open(self.workspace, readonly=True) as store, store.read() as db:
            return samples.ids(db, split)


def test_a_run_is_expected_to_cost_what_is_left_of_it_does(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows(folder / "pool.jsonl", made(30, 60, answered=True))
    lines = [json.dumps({"prompt": f"dev {n}", "label": ("harmful", "unharmful")[n % 2]}) for n in range(10)]
    (folder / "dev.jsonl").write_text("\n".join(lines), encoding="utf-8")
    labeled = [
        json.dumps({"prompt": prompt, "label": ("harmful", "unharmful")[n % 2]})
        for n, (prompt, _) in enumerate(made(12, 20, answered=False))
    ]
    (folder / "seed.jsonl").write_text("\n".join(labeled), encoding="utf-8")
    (folder / "night.toml").write_text(NIGHT, encoding="utf-8")
    with server("claude", script=_third) as claude, server("gemini") as gemini:
        reach(monkeypatch, claude, "claude")
        reach(monkeypatch, gemini, "gemini")
        plan = run("start", "night.toml", "--dry-run", "-w", "runs")["plan"]
        first, second = plan["teachers"]
        assert (first["expected"]["questions"], second["expected"]) == (50, None)
        assert plan["expected_usd"] == first["expected"]["usd"]
        whole = first["usd"]
        assert first["calls"] == 2 * 50
        said = CliRunner().invoke(app, ["start", "night.toml", "--dry-run", "-w", "runs"]).stdout
        assert f"about ${first['expected']['usd']:.2f} for 50 more questions,\n{'':15}{USUAL}\n" in said
        assert f"about ${second['each_usd']:.4f} for each sample that claude does not answer" in said
        said = CliRunner().invoke(app, ["start", "night.toml", "--dry-run", "-w", "runs", "--budget", "0.05"]).stdout
        assert ", more than what is left of the budget; at most $0.05" in said
        night = Night(folder)
        night.pick(0, night.ids("seed"))
        assert run("start", "--dry-run", "-w", "runs")["plan"]["teachers"][0]["expected"]["questions"] == 50
        night.teach(0)
        night.pick(1, night.ids("pool")[:15])
        night.teach(1)
        bill = claude.books.bill_micro + gemini.books.bill_micro
        plan = run("start", "--dry-run", "-w", "runs")["plan"]
        first, second = plan["teachers"]
        # Of 35 every third was refused.
        assert (first["expected"]["questions"], second["expected"]["questions"]) == (15, 5)
        assert first["expected"]["measured"] == 35
        assert (plan["picked"], first["calls"], second["calls"]) == (50, 2 * 15, 2 * 15)
        assert 0.25 * whole < first["usd"] < 0.35 * whole
        night.pick(2, night.ids("pool")[15:30])
        night.teach(2)
        last = (claude.books.bill_micro + gemini.books.bill_micro - bill) / 1e6
    assert 0.7 * last < plan["expected_usd"] < 1.3 * last
    ended = run("start", "--dry-run", "-w", "runs")["plan"]
    assert [one["expected"]["questions"] for one in ended["teachers"]] == [0, 0]
    assert (ended["expected_usd"], ended["most_usd"]) == (0.0, 0.0)


def _third(number: int, path: str) -> str | None:
    return "refusal" if path == "ask" and number % 3 == 0 else None
