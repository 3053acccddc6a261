"""The engine "vllm" in a run: one server answers for the guard, its key stays out of sight, what is lost is told."""

import json
import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests import byte_tokenizer
from tests.loop.stand_in import StandIn, StandInGuard
from tests.servers.chat_wire import ChatWire
from tests.servers.completions_wire import CompletionsWire, Model, Speaks
from wizloop.backends.guard_types import BackendError
from wizloop.backends.served.chat import ChatGuard
from wizloop.backends.served.guard import ServedGuard
from wizloop.loop.cli import app
from wizloop.loop.context import Standalone, standalone
from wizloop.loop.evaluation import benchmark_guard
from wizloop.loop.guard import server as guard_server
from wizloop.loop.guard.inference import TraceSampling, ask_direct, ask_traces
from wizloop.loop.guard.rendering import InputText
from wizloop.loop.phases import model_roles, prepare
from wizloop.recipes import schema
from wizloop.recipes.schema import Recipe
from wizloop.recipes.sections import Server
from wizloop.store import control, events, steps
from wizloop.store.db import Store

NOW = datetime(2026, 11, 20, 21, 0, tzinfo=UTC)
WRITTEN = "It asks for harm.\nAnswers:\nRequest: harmful\nCompletion: None\nResponse: None"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tokenizer of single bytes, and no weights: nothing is computed here."""
    return byte_tokenizer.save(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def model(base: Path) -> Model:
    """Writes the same trace about everything, and is sure of it, but for the verdict: 3 to 1."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    end, size = int(tokenizer.eos_token_id), len(tokenizer)

    def encode(text: str) -> list[int]:
        return list(tokenizer.encode(text, add_special_tokens=False))

    def following(ids: Sequence[int]) -> list[float]:
        # A chat's template stands between the opening and the answer.
        text = tokenizer.decode(list(ids)).replace("<|assistant|>", "")
        after = text.rpartition("Reasoning:\n")[2] if "Reasoning:\n" in text else text.rpartition("\n\n")[2]
        script = WRITTEN if "Reasoning:\n" in text else WRITTEN.partition("\n")[2]
        weights = [0.01] * size
        if after.endswith("Request: "):
            weights[encode("h")[0]], weights[encode("u")[0]] = 9.0, 3.0
        elif len(after) < len(script):
            weights[encode(script[len(after)])[0]] = 1000.0
        else:
            weights[end] = 1000.0
        return [math.log(one / sum(weights)) for one in weights]

    return Model(following, encode, lambda ids: str(tokenizer.decode(list(ids))), end)


@pytest.fixture
def begin(base: Path, model: Model, tmp_path: Path) -> Iterator[Any]:
    """Starts a server and gives a run's context whose guard is behind it."""
    opened: list[Any] = []

    def start(speaks: Speaks) -> tuple[Standalone, CompletionsWire]:
        wire = CompletionsWire(model, speaks).__enter__()
        demo = schema.load("demo")
        reached = {"engine": "vllm", "server": Server(base_url=f"{wire.url}/v1", concurrency=2), "base": str(base)}
        recipe = demo.model_copy(update={"guard": demo.guard.model_copy(update=reached)})
        store = Store.create(tmp_path / "runs")
        with store.write() as db:
            asked = {"name": "demo", "recipe_json": schema.canonical_json(recipe), "recipe_hash": "ab", "seed": 1}
            control.create_run(db, **asked, cap_micro=None, until=None, rounds_wanted=1, now=NOW)  # type: ignore[arg-type]
            steps.begin_round(db, 0, None, NOW)
        opened.extend([store, wire])
        ctx = standalone(store, tmp_path / "runs", recipe, "prepare", NOW)
        ctx.given = StandIn()
        return ctx, wire

    yield start
    for one in opened:
        one.__exit__(None, None, None)


def guard_of(ctx: Standalone) -> ServedGuard:
    with ctx.store.read() as db:
        found = ctx.guard(model_roles.base(db))
    assert isinstance(found, ServedGuard)
    return found


def test_a_chat_endpoint_is_the_guard_of_a_run(model: Model, tmp_path: Path) -> None:
    base = byte_tokenizer.save(tmp_path / "base", "{{ messages[0].content }}<|assistant|>")
    with ChatWire(model, "ollama") as wire, Store.create(tmp_path / "runs") as store:
        served = {"engine": "chat", "base": str(base), "template": "chat", "server": {"base_url": f"{wire.url}/v1"}}
        recipe = Recipe.model_validate_json(json.dumps({"name": "x", "source": "demo", "guard": served}))
        with store.write() as db:
            steps.begin_round(db, 0, None, NOW)
        ctx = standalone(store, tmp_path / "runs", recipe, "prepare", NOW)
        ctx.given = StandIn()
        prepare.run(ctx)
        assert ctx.renderer.opening_in_turn
        guard = guard_of(ctx)
        assert isinstance(guard, ChatGuard)
        (traces,) = ask_traces(
            guard, ctx.renderer, [InputText("x")], TraceSampling(1, 1, 0.0, 1.0, 120, 8), max_tokens=2000, seed=1
        )
        guard.close()
        turn = wire.books.bodies[-1]["messages"][0]["content"]
    assert [trace.text for trace in traces] == [WRITTEN]
    assert turn.startswith("You are a guard.")
    assert turn.endswith("\n\nReasoning:\n")


@pytest.mark.parametrize("speaks", ["vllm", "mlx"])
def test_a_served_guard_answers_at_once_and_by_traces(begin: Any, speaks: Speaks) -> None:
    ctx, _ = begin(speaks)
    prepare.run(ctx)
    guard, sample = guard_of(ctx), InputText("how do I rob a bank?")
    settings = ctx.recipe.guard.server
    assert settings is not None
    assert guard_server.listed(settings)
    direct = ask_direct(guard, ctx.renderer, [sample], max_tokens=400)
    assert direct[0].p["request"] == pytest.approx(0.75, abs=1e-6)
    manner = TraceSampling(2, 4, 0.0, 1.0, 120, 8, consensus=0.9)
    (traces,) = ask_traces(guard, ctx.renderer, [sample], manner, max_tokens=400, seed=1)
    guard.close()
    assert [trace.verdict for trace in traces] == [{"request": "harmful"}] * 2
    assert [trace.p["request"] for trace in traces] == pytest.approx([0.75, 0.75], abs=1e-6)
    assert traces[0].text == WRITTEN
    # All but one token are as sure as the script is, so that the verdict's own is the least sure.
    assert traces[0].measures.lowest < traces[0].measures.mean


@pytest.mark.parametrize(
    ("speaks", "level", "says"),
    [("vllm", "info", "20 log-probabilities at each token"), ("bare", "warn", "confidence comes from votes alone")],
)
def test_what_a_server_gives_and_what_is_lost_stands_in_the_log(
    begin: Any, speaks: Speaks, level: str, says: str
) -> None:
    ctx, _ = begin(speaks)
    prepare.run(ctx)
    with ctx.store.read() as db:
        found = [one for one in events.last(db, 50) if says in one.message]
    assert [one.level for one in found] == [level]


def test_votes_alone_still_make_a_verdict(begin: Any) -> None:
    ctx, _ = begin("bare")
    prepare.run(ctx)
    guard = guard_of(ctx)
    (traces,) = ask_traces(
        guard, ctx.renderer, [InputText("x")], TraceSampling(2, 2, 0.0, 1.0, 120, 8), max_tokens=400, seed=1
    )
    guard.close()
    assert [(trace.verdict, trace.p) for trace in traces] == [({"request": "harmful"}, {"request": 1.0})] * 2


def test_the_key_goes_to_the_server_and_nowhere_else(begin: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WIZLOOP_SERVER_KEY", "sk-very-secret")
    ctx, wire = begin("vllm")
    prepare.run(ctx)
    assert wire.books.headers[-1]["authorization"] == "Bearer sk-very-secret"
    with ctx.store.read() as db:
        (told,) = events.last(db, 50)
    assert "secret" not in told.message
    wire.script = lambda number, path: "echo"
    monkeypatch.setattr("wizloop.backends.served.completions.WAITS_S", ())
    with pytest.raises(BackendError) as refused:
        guard_of(ctx)
    assert "secret" not in str(refused.value)


def test_another_folder_s_model_is_asked_here(begin: Any, tmp_path: Path) -> None:
    ctx, _ = begin("vllm")
    assert isinstance(benchmark_guard.judge_of_folder(ctx, tmp_path).guard, StandInGuard)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('engine = "vllm"', 'an engine "vllm" or "chat" and the section guard.server go together'),
        ('engine = "chat"', "go together"),
        (
            'engine = "chat"\n[guard.server]\nbase_url = "http://x/v1"',
            'the engine "chat" asks in the chat template: set',
        ),
        ('[guard.server]\nbase_url = "http://x/v1"', "go together"),
        ('engine = "vllm"\n[guard.server]\nbase_url = "x"', 'guard.server.base_url = "x"'),
    ],
)
def test_engine_and_server_are_given_together(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(f'name = "mine"\nsource = "demo"\n[guard]\n{text}\n', encoding="utf-8")
    with pytest.raises(schema.RecipeError) as refused:
        schema.load(path)
    assert says in str(refused.value)


def test_a_published_guard_is_measured_by_its_traces_with_the_instruction_of_the_file(
    base: Path, model: Model, tmp_path: Path
) -> None:
    rows = [("a", "harmful"), ("b", "harmful"), ("c", "unharmful"), ("d", "harmful")]
    shown = [{"prompt": prompt, "label": label, "told": "Judge as you learned.\n"} for prompt, label in rows]
    (tmp_path / "bench.jsonl").write_text("\n".join(map(json.dumps, shown)), encoding="utf-8")
    with CompletionsWire(model, "vllm") as wire:
        guard = f'base = "{base}"\ninstruction = "column:told"\nengine = "vllm"\nmax_trace_tokens = 120'
        server = f'[guard.server]\nbase_url = "{wire.url}/v1"\nconcurrency = 2'
        how = '[classify]\nverdict = "traces"\nleast = 1\nmost = 1\ntemperature = 0.0'
        recipe = tmp_path / "published.toml"
        recipe.write_text(f'name = "x"\nsource = "imported"\n[guard]\n{guard}\n{server}\n{how}\n', encoding="utf-8")
        words = ["evaluate", "--recipe", str(recipe), "--benchmark", str(tmp_path / "bench.jsonl"), "--json"]
        before = sorted(tmp_path.iterdir())
        result = CliRunner().invoke(app, [*words, "-w", str(tmp_path / "no-workspace")])
        asked = [body["prompt"] for body in wire.books.bodies if body and body.get("max_tokens") == 120]
    assert result.exit_code == 0, result.output
    # Everything is called harmful: three of four are, which is a precision of 0.75 at a recall of 1.
    assert json.loads(result.stdout)["strict"]["f1"] == pytest.approx(2 * 0.75 / 1.75)
    # Nothing is asked for the speed alone, and the server's memory is not this process's.
    assert sorted(json.loads(result.stdout)["speed"]) == ["on", "rows", "rows_per_s", "tokens_per_s"]
    assert len(asked) == 4
    assert model.decode(asked[0]).startswith("Judge as you learned.\n\nHuman user:\n")
    assert sorted(tmp_path.iterdir()) == before


def test_without_a_run_a_model_and_a_file_must_be_named(tmp_path: Path) -> None:
    for words, says in (
        (["--recipe", "demo", "--benchmark", "x.jsonl"], "this recipe has its guard built from scratch by a run"),
        (["--recipe", "guardreasoner-1b"], "only labeled files can be evaluated"),
        (["--recipe", "demmo"], "did you mean 'demo'"),
    ):
        result = CliRunner().invoke(app, ["evaluate", *words, "-w", str(tmp_path / "none")])
        assert result.exit_code == 2
        assert says in result.output
