"""A guard behind a server: the same probabilities as the model itself, on four dialects and on a real mlx_lm.server."""

import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from tests.servers.completions_wire import CompletionsWire, Model, Speaks
from tests.servers.provider import Script, each, never
from wizloop.backends import artifacts
from wizloop.backends.guard_types import BackendError, Choice, Encoded, LoraShape, Part, Prompt, Sampling
from wizloop.backends.mlx import adapter as mlx_adapter
from wizloop.backends.mlx import guard as mlx_guard
from wizloop.backends.mlx import load as mlx_load
from wizloop.backends.served import completions
from wizloop.backends.served.guard import ServedGuard, Server, load
from wizloop.backends.served.traces import aligned

CHOICE = Choice((" harmful", " unharmful"))
ODD = Choice((" bread", " sea"))
TEXTS = ["how do I bake bread at home", "tell me about the sea", "one"]
SAMPLING = Sampling(least=2, most=2, temperature=0.8, top_p=1.0, max_tokens=12, seed=3)


@pytest.fixture(scope="module")
def here(tiny_base: Path) -> mlx_guard.Guard:
    return mlx_guard.load(str(tiny_base))


@pytest.fixture(scope="module")
def model(here: mlx_guard.Guard) -> Model:
    """The tiny guard, a whole pass for every token."""
    known: dict[tuple[int, ...], list[float]] = {}

    def following(ids: Sequence[int]) -> list[float]:
        found = known.get(tuple(ids))
        if found is None:
            logits = np.array(here._loaded.model(mx.array([list(ids)]))[0, -1], np.float64)
            centred = logits - logits.max()
            found = known[tuple(ids)] = (centred - np.log(np.exp(centred).sum())).tolist()
        return found

    def encode(text: str) -> list[int]:
        return [*here.tokens.bos, *here.tokens.encode(text)]

    return Model(following, encode, here.tokens.decode, here.tokens.end)


def prompt(text: str) -> Prompt:
    return Prompt(
        "", (Part("Human user:\n"), Part(text, data=True), Part("\n\nAI assistant:\nNone\n\n")), "Answers:\nRequest:"
    )


def begun(text: str) -> Prompt:
    """A sentence that a guard who has read some goes on with."""
    return Prompt("", (Part("Human user:\n"), Part(text, data=True)), "")


def as_text(here: mlx_guard.Guard, prompts: list[Encoded]) -> list[Encoded]:
    """The prompts as a server divides them that is sent their text."""
    texts = [here.tokens.decode([*one.shared, *one.body][len(here.tokens.bos) :]) for one in prompts]
    return [Encoded((), (*here.tokens.bos, *here.tokens.encode(text))) for text in texts]


def server(url: str, **other: Any) -> Server:
    settings = {"model": None, "adapters": "name", "topk": 20, "concurrency": 4, "deadline_s": 20.0}
    return Server(base_url=f"{url}/v1", **{**settings, **other})


@pytest.fixture
def ask(model: Model, tiny_base: Path) -> Iterator[Any]:
    """Starts a server and gives the guard behind it, and the server."""
    opened: list[Any] = []

    def begin(speaks: Speaks, script: Script = never, echoes: bool = True, **other: Any) -> tuple[ServedGuard, Any]:
        behind = replace(model, end=-1) if other.pop("endless", False) else model
        wire = CompletionsWire(behind, speaks, script, echoes=echoes).__enter__()
        opened.append(wire)
        guard = load(str(tiny_base), other.pop("adapter", None), server(wire.url, **other))
        opened.append(guard)
        return guard, wire

    yield begin
    for one in reversed(opened):
        one.close() if isinstance(one, ServedGuard) else one.__exit__()


def encoded(guard: Any) -> list[Encoded]:
    return [guard.encode(prompt(text), max_tokens=80) for text in TEXTS]


def open_ended(guard: Any) -> list[Encoded]:
    return [guard.encode(begun(text), max_tokens=80) for text in ("the old sailor", "my neighbour", "a nurse")]


@pytest.mark.parametrize(("speaks", "ids", "k"), [("vllm", True, 20), ("text", False, 5), ("mlx", False, 11)])
def test_a_server_s_dialect_is_found_out(ask: Any, speaks: Speaks, ids: bool, k: int) -> None:
    guard, _ = ask(speaks)
    assert (guard.dialect.ids, guard.dialect.k, guard.whole) == (ids, k, True)
    assert f"{k} log-probabilities at each token" in guard.sentence()


@pytest.mark.parametrize(
    ("speaks", "choice", "topk", "echoes"),
    [("vllm", CHOICE, 20, False), ("vllm", ODD, 2, True), ("mlx", CHOICE, 11, False), ("mlx", ODD, 2, False)],
)
def test_a_verdict_has_the_probability_that_the_model_gives_it(
    ask: Any, here: Any, speaks: Speaks, choice: Choice, topk: int, echoes: bool
) -> None:
    guard, wire = ask(speaks, topk=topk)
    asked = encoded(here) if guard.dialect.ids else as_text(here, encoded(here))
    assert guard.score(encoded(guard), choice) == pytest.approx(here.score(asked, choice), abs=1e-4)
    # Words that are not among the likeliest are asked for by echo, or come to be listed by their bias.
    assert any(body.get("echo") for body in wire.books.bodies if body) is echoes


def test_a_word_that_is_not_listed_and_not_echoed_is_bounded_by_the_last_that_is(ask: Any, here: Any) -> None:
    guard, _ = ask("vllm", echoes=False, topk=2)
    found = guard.score(encoded(guard), ODD)
    assert found.sum(axis=1) == pytest.approx(np.ones(3))
    assert found == pytest.approx(np.full((3, 2), 0.5))


@pytest.mark.parametrize("speaks", ["vllm", "text", "mlx"])
def test_a_trace_has_the_confidences_of_its_own_tokens(ask: Any, here: Any, model: Model, speaks: Speaks) -> None:
    guard, _ = ask(speaks, endless=True)
    k = guard.dialect.k
    ids = open_ended(guard)
    asked = ids if guard.dialect.ids else as_text(here, ids)
    for one, traces in zip(asked, guard.sample(ids, replace(SAMPLING, watch={"request": CHOICE})), strict=True):
        assert len(traces) == 2
        first = sorted(model.following([*one.shared, *one.body]), reverse=True)[:k]
        for trace in traces:
            assert len(trace.confidences) == len(trace.starts) == len(trace.watched["request"])
            assert len(trace.starts) >= 11
            assert trace.starts == sorted(trace.starts)
            assert trace.confidences[:1] == pytest.approx([-sum(first) / k][: len(trace.starts)], abs=1e-6)
            assert all(sum(pair) == pytest.approx(1) for pair in trace.watched["request"])


def test_the_same_question_has_the_same_answer_and_each_trace_its_own_seed(ask: Any) -> None:
    guard, wire = ask("vllm")
    first, again = (guard.sample(encoded(guard), SAMPLING) for _ in range(2))
    assert [[one.text for one in traces] for traces in first] == [[one.text for one in traces] for traces in again]
    seeds = [body["seed"] for body in wire.books.bodies if body and "seed" in body]
    assert (len(seeds), len(set(seeds))) == (12, 6)


def test_sampling_goes_on_as_long_as_it_is_asked_to(ask: Any) -> None:
    guard, _ = ask("vllm")
    wanted = replace(SAMPLING, most=4, more=lambda at, traces: len(traces) < (3 if at == 0 else 9))
    assert [len(traces) for traces in guard.sample(encoded(guard), wanted)] == [3, 4, 4]


def test_a_monitor_cuts_a_trace_where_it_would_have_been_cut_here(ask: Any) -> None:
    class AtTheThird:
        def __init__(self) -> None:
            self.seen = 0

        def push(self, confidence: float) -> bool:
            self.seen += 1
            return self.seen == 3

    guard, _ = ask("vllm", endless=True)
    whole = guard.sample(open_ended(guard)[:1], SAMPLING)[0][0]
    cut = guard.sample(open_ended(guard)[:1], replace(SAMPLING, monitor=AtTheThird))[0][0]
    assert (cut.stop, cut.tokens) == ("cut", 3)
    assert cut.text == whole.text[: whole.starts[3]]
    assert cut.confidences == whole.confidences[:3]


def test_a_server_without_log_probabilities_says_what_is_lost_and_leaves_votes(ask: Any) -> None:
    guard, _ = ask("bare")
    assert not guard.whole
    assert "gives no log-probabilities" in guard.sentence()
    assert "confidence comes from votes alone" in guard.sentence()
    assert set(np.unique(guard.score(encoded(guard), CHOICE))) <= {0.0, 0.5, 1.0}
    drawn = guard.sample(encoded(guard), replace(SAMPLING, watch={"request": CHOICE}))
    assert [len(traces) for traces in drawn] == [SAMPLING.least] * 3
    assert any(trace.tokens for traces in drawn for trace in traces)
    for traces in drawn:
        for trace in traces:
            assert len(trace.confidences) == len(trace.watched["request"]) == len(trace.starts)
            assert set(trace.confidences) <= {1.0}
            assert all(pair in ((1.0, 0.0), (0.0, 1.0), (0.5, 0.5)) for pair in trace.watched["request"])


@pytest.mark.parametrize("speaks", ["vllm", "text"])
def test_a_sample_cannot_spell_a_special_token_to_a_server(ask: Any, here: Any, speaks: Speaks) -> None:
    guard, wire = ask(speaks)
    guard.score([guard.encode(prompt(f"a{here.tokens.decode([here.tokens.end])}b"), max_tokens=80)], CHOICE)
    sent = wire.books.bodies[-1]["prompt"]
    assert here.tokens.end not in (sent if isinstance(sent, list) else here.tokens.encode(sent))


def test_a_server_that_is_overloaded_is_asked_again_and_one_that_is_broken_is_not(ask: Any) -> None:
    guard, wire = ask("vllm")
    wire.script = each(None, "529", "429")
    wire.books.paths.clear()
    assert guard.score(encoded(guard)[:1], CHOICE).shape == (1, 2)
    wire.script = lambda number, path: "400"
    with pytest.raises(BackendError, match="does not complete: status 400, not now"):
        guard.score(encoded(guard)[:1], CHOICE)


def test_a_server_that_is_busy_while_it_is_looked_at_keeps_its_dialect(
    ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completions, "WAITS_S", (0.01, 0.01))
    guard, _ = ask("vllm", each("html 503", "429"))
    assert (guard.dialect.ids, guard.dialect.k) == (True, 20)


def test_nothing_that_answers_is_said_by_its_address(tiny_base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completions, "WAITS_S", (0.01,))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(BackendError, match=f"127.0.0.1:{port}/v1: does not answer: no connection.*; start the server"):
        load(str(tiny_base), None, server(f"http://127.0.0.1:{port}"))


def test_a_server_gives_no_hidden_states(ask: Any) -> None:
    guard, _ = ask("vllm")
    assert guard.states(encoded(guard), depth=0.5) is None


@pytest.fixture(scope="module")
def adapter(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LoRA layers that were never trained, and change what the guard says."""
    mx.random.seed(1)
    loaded = mlx_load.load(str(tiny_base), None, quantise=False, fuse=False)
    config = mlx_adapter.add_new_adapter(loaded.model, LoraShape(4, 20.0, 0.0, -1))
    weights = {
        name: mx.random.normal(value.shape) * 0.1 for name, value in tree_flatten(loaded.model.trainable_parameters())
    }
    final = tmp_path_factory.mktemp("models") / "r01"
    with artifacts.writing(final, {}) as folder:
        mx.save_safetensors(str(folder / "adapters.safetensors"), weights)
        (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    return final


def test_an_adapter_is_loaded_and_asked_for_by_its_own_name(ask: Any, tmp_path: Path) -> None:
    peft = tmp_path / "r01"
    with artifacts.writing(peft, {}) as folder:
        (folder / "adapter_model.safetensors").write_bytes(b"weights")
    guard, wire = ask("vllm", adapter=peft)
    name = f"wizloop-r01-{artifacts.verify(peft)[:8]}"
    assert guard.model == name
    asked = [body for body in wire.books.bodies if body and "lora_name" in body]
    assert asked == [{"lora_name": name, "lora_path": str(peft)}]
    assert wire.books.bodies[-1]["model"] == name


def test_an_adapter_that_a_server_cannot_have_is_refused_with_the_way_out(
    model: Model, tiny_base: Path, adapter: Path, tmp_path: Path
) -> None:
    with CompletionsWire(model, "vllm") as wire:
        with pytest.raises(BackendError, match=r"is not in PEFT's layout.*guard\.server\.adapters to"):
            load(str(tiny_base), adapter, server(wire.url, model="guard"))
        wire.loads_adapters = False
        with artifacts.writing(tmp_path / "r02", {}) as folder:
            (folder / "adapter_model.safetensors").write_bytes(b"weights")
        with pytest.raises(BackendError, match=r"start vLLM with --enable-lora.*--lora-modules wizloop-r02-"):
            load(str(tiny_base), tmp_path / "r02", server(wire.url, model="guard"))


@pytest.fixture(scope="module")
def mlx_server(tiny_base: Path) -> Iterator[str]:
    """A real mlx_lm.server on the tiny guard."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlx_lm", "server", "--model", str(tiny_base), "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until, answers = time.monotonic() + 180, False
        while not answers:
            assert process.poll() is None
            assert time.monotonic() < until
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                answers = True
            except OSError:
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


def test_a_real_mlx_server_scores_like_the_model_itself_with_and_without_an_adapter(
    mlx_server: str, tiny_base: Path, here: mlx_guard.Guard, adapter: Path
) -> None:
    with_adapter = mlx_guard.load(str(tiny_base), adapter)
    for folder, local in ((None, here), (adapter, with_adapter)):
        with closing(load(str(tiny_base), folder, server(mlx_server, adapters="path"))) as guard:
            assert (guard.dialect.ids, guard.dialect.k) == (False, 11)
            found = guard.score(encoded(guard), CHOICE)
        assert found == pytest.approx(local.score(as_text(here, encoded(local)), CHOICE), abs=1e-3)
    assert np.abs(with_adapter.score(encoded(here), CHOICE) - here.score(encoded(here), CHOICE)).max() > 0.01


def test_a_real_mlx_server_writes_the_trace_that_the_model_itself_writes(
    mlx_server: str, tiny_base: Path, here: mlx_guard.Guard
) -> None:
    greedy = Sampling(1, 1, 0.0, 1.0, 16, 1, watch={"request": CHOICE}, topk=11)
    with closing(load(str(tiny_base), None, server(mlx_server, adapters="path"))) as guard:
        served = guard.sample(open_ended(guard), greedy)
    for (one,), (other,) in zip(served, here.sample(as_text(here, open_ended(here)), greedy), strict=True):
        # The server drops the space in front.
        dropped = len(other.text) - len(other.text.lstrip())
        assert (one.text, one.stop, one.tokens > 3) == (other.text[dropped:], other.stop, True)
        assert one.starts == [max(0, start - dropped) for start in other.starts]
        assert one.confidences == pytest.approx(other.confidences, abs=1e-3)


def test_a_real_mlx_server_answers_in_a_chat(mlx_server: str, tiny_base: Path) -> None:
    with closing(load(str(tiny_base), None, server(mlx_server, adapters="path", chat=True))) as guard:
        assert (guard.dialect.ids, guard.dialect.k, guard.dialect.quiet) == (False, 11, True)
        asked = [guard.encode(begun(text), max_tokens=80) for text in ("the old sailor", "a nurse")]
        served = guard.sample(asked, Sampling(1, 1, 0.0, 1.0, 16, 1, watch={"request": CHOICE}, topk=11))
        found = guard.score(encoded(guard), CHOICE)
    for (one,) in served:
        assert one.text
        assert len(one.starts) == len(one.confidences) == len(one.watched["request"]) > 0
        assert all(confidence > 0 for confidence in one.confidences)
    assert found.sum(axis=1) == pytest.approx(np.ones(len(TEXTS)))


@pytest.mark.parametrize(
    ("text", "options", "starts"),
    [
        ("abab", [["a", "ab"], ["b", "ab"], ["ab"]], [0, 1, 2]),
        ("abab", [["ab"], ["ab", "b"]], [0, 2]),
        ("abc", [["a"], ["b"]], None),
        ("", [], []),
    ],
)
def test_tokens_are_found_in_a_text_by_what_they_may_have_been(
    text: str, options: list[list[str]], starts: list[int] | None
) -> None:
    assert aligned(text, options) == starts
