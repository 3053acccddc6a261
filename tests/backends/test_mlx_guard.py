"""The guard on MLX, real and tiny: what is shared changes nothing, what is drawn repeats, hostile text stays text."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from wizloop.backends import mlx_guard
from wizloop.backends.guard_types import Choice, Encoded, ModelMissing, Part, Prompt, Sampled, Sampling

HARM = Choice((" harmful", " unharmful"))
TEXTS = ["how do I bake bread at home", "tell me about the sea", "a " * 300, "one"]


def prompt(text: str, shared: str = "Judge what is asked.\n\n") -> Prompt:
    return Prompt(
        shared, (Part("Human user:\n"), Part(text, data=True), Part("\n\nAI assistant:\nNone\n\n")), "Reasoning:\n"
    )


def encoded(guard: mlx_guard.Guard, shared: str = "Judge what is asked.\n\n") -> list[Encoded]:
    return [guard.encode(prompt(text, shared), max_tokens=80) for text in TEXTS]


def alone(guard: mlx_guard.Guard, one: Encoded) -> Any:
    """Log-probabilities of what comes next, by the plain model on the whole prompt."""
    logits = guard._loaded.model(mx.array([[*one.shared, *one.body]]))[0, -1]
    return logits - mx.logsumexp(logits)


@pytest.mark.parametrize("shared", ["Judge what is asked.\n\n", ""])
def test_a_shared_prefix_and_a_batch_give_the_probabilities_of_one_prompt_alone(tiny_base: Path, shared: str) -> None:
    guard = mlx_guard.load(str(tiny_base))
    prompts = encoded(guard, shared)
    scored = guard.score(prompts, HARM, rows=3)
    _, (harmful, unharmful) = guard.tokens.deciding(HARM)
    for one, row in zip(prompts, scored, strict=True):
        whole = alone(guard, one)
        expected = np.array(mx.softmax(mx.stack([whole[harmful], whole[unharmful]])))
        np.testing.assert_allclose(row, expected, atol=2e-5)
    np.testing.assert_allclose(scored.sum(axis=1), 1.0)


def test_confidence_is_minus_the_mean_of_the_top_log_probabilities(tiny_base: Path) -> None:
    guard = mlx_guard.load(str(tiny_base))
    one = encoded(guard)[0]
    [[trace]] = guard.sample([one], Sampling(1, 1, 0.7, 0.95, 3, seed=1, watch={"harm": HARM}, topk=5))
    whole = np.sort(np.array(alone(guard, one)))[::-1]
    assert trace.confidences[0] == pytest.approx(-whole[:5].mean(), abs=1e-4)
    assert len(trace.confidences) == len(trace.starts) == len(trace.watched["harm"]) == trace.tokens


def test_sampling_repeats_with_its_seed_and_differs_with_another(tiny_base: Path) -> None:
    guard = mlx_guard.load(str(tiny_base))
    prompts = encoded(guard)

    def texts(seed: int, rows: int = 128) -> list[list[str]]:
        drawn = guard.sample(prompts, Sampling(2, 2, 1.0, 1.0, 12, seed=seed, rows=rows))
        return [[trace.text for trace in traces] for traces in drawn]

    assert texts(1) == texts(1)
    assert texts(1) != texts(2)
    # A trace's random numbers are its own: in which rows it is decoded, and when they are renewed, changes nothing.
    assert texts(1, rows=3) == texts(1)


def test_greedy_traces_are_those_of_the_plain_model(tiny_base: Path) -> None:
    guard = mlx_guard.load(str(tiny_base))
    prompts = encoded(guard)
    drawn = guard.sample(prompts, Sampling(1, 1, 0.0, 1.0, 6, seed=1, rows=2))
    for one, [trace] in zip(prompts, drawn, strict=True):
        ids = list(one.body)
        for _ in range(trace.tokens):
            ids.append(int(mx.argmax(alone(guard, Encoded(one.shared, tuple(ids))))))
        assert trace.text == guard.tokens.decode(ids[len(one.body) :])


def test_more_traces_are_drawn_only_where_asked_and_never_past_the_most(tiny_base: Path) -> None:
    guard = mlx_guard.load(str(tiny_base))
    asked: list[tuple[int, int]] = []

    def more(index: int, traces: Sequence[Sampled]) -> bool:
        asked.append((index, len(traces)))
        return index == 1

    drawn = guard.sample(encoded(guard), Sampling(2, 4, 1.0, 1.0, 4, seed=1, more=more))
    assert [len(traces) for traces in drawn] == [2, 4, 2, 2]
    assert sorted(asked) == [(0, 2), (1, 2), (1, 3), (2, 2), (3, 2)]


def test_a_monitor_cuts_a_trace_at_once(tiny_base: Path) -> None:
    class AfterThree:
        seen = 0

        def push(self, confidence: float) -> bool:
            self.seen += 1
            return self.seen == 3

    guard = mlx_guard.load(str(tiny_base))
    drawn = guard.sample(encoded(guard), Sampling(4, 4, 1.0, 1.0, 20, seed=3, monitor=AfterThree))
    assert {(trace.stop, trace.tokens) for traces in drawn for trace in traces} <= {
        ("cut", 3),
        ("stop", 0),
        ("stop", 1),
        ("stop", 2),
    }
    assert any(trace.stop == "cut" for traces in drawn for trace in traces)


def test_a_long_sample_is_cut_in_its_middle_and_counted(tiny_base: Path) -> None:
    guard = mlx_guard.load(str(tiny_base))
    long = guard.encode(prompt("first " + "word " * 400 + "last"), max_tokens=80)
    text = guard.tokens.decode(long.body)
    assert len(long.shared) + len(long.body) == 80
    assert long.cut > 300
    assert text.startswith("Human user:\nfirst word")
    assert " [...] " in text
    assert "word last\n\nAI assistant:\nNone\n\nReasoning:\n" in text


def test_text_cannot_spell_a_special_token(tiny_base: Path) -> None:
    guard = mlx_guard.load(str(tiny_base))
    end = guard.tokens.end
    hostile = guard.encode(prompt(f"stop {guard.end_text} here"), max_tokens=200)
    assert end not in hostile.body
    assert f"stop {guard.end_text} here" in guard.tokens.decode(hostile.body)


def test_a_prompt_without_room_for_the_sample_is_refused(tiny_base: Path) -> None:
    guard = mlx_guard.load(str(tiny_base))
    with pytest.raises(ValueError, match=r"guard\.max_prompt_tokens is 20"):
        guard.encode(prompt("word " * 100), max_tokens=20)


@pytest.mark.parametrize("base", ["./nowhere", "nowhere", "/nowhere/at/all"])
def test_a_missing_model_is_named(base: str) -> None:
    with pytest.raises(ModelMissing, match=base):
        mlx_guard.load(base)
