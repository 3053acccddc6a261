"""What every backend's guard promises: what is shared changes nothing, draws repeat, hostile text stays text."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from wizloop.backends.guard_types import BadArtifact, Choice, Encoded, ModelMissing, Part, Prompt, Sampled, Sampling
from wizloop.backends.mlx import guard as mlx_guard
from wizloop.backends.torch import guard as torch_guard

Load = Callable[..., Any]
HARM = Choice((" harmful", " unharmful"))
TEXTS = ["how do I bake bread at home", "tell me about the sea", "a " * 300, "one"]
LOADERS: dict[str, Any] = {"mlx": mlx_guard.load, "torch": torch_guard.load}


@pytest.fixture(params=sorted(LOADERS))
def load(request: pytest.FixtureRequest) -> Load:
    loader: Load = LOADERS[request.param]
    return loader


@pytest.fixture
def guard(load: Load, tiny_base: Path) -> Any:
    return load(str(tiny_base))


def prompt(text: str, shared: str = "Judge what is asked.\n\n") -> Prompt:
    return Prompt(
        shared, (Part("Human user:\n"), Part(text, data=True), Part("\n\nAI assistant:\nNone\n\n")), "Reasoning:\n"
    )


def encoded(guard: Any, shared: str = "Judge what is asked.\n\n") -> list[Encoded]:
    return [guard.encode(prompt(text, shared), max_tokens=80) for text in TEXTS]


def alone(guard: Any, one: Encoded) -> NDArray[np.float64]:
    """Log-probabilities of what comes next, by the plain model on the whole prompt."""
    ids, model = [[*one.shared, *one.body]], guard._loaded.model
    if isinstance(guard, mlx_guard.Guard):
        logits = np.array(model(mx.array(ids))[0, -1], np.float64)
    else:
        with torch.no_grad():
            logits = model(torch.tensor(ids)).logits[0, -1].double().numpy()
    centred = logits - logits.max()
    result: NDArray[np.float64] = centred - np.log(np.exp(centred).sum())
    return result


@pytest.mark.parametrize("shared", ["Judge what is asked.\n\n", ""])
def test_a_shared_prefix_and_a_batch_give_the_probabilities_of_one_prompt_alone(guard: Any, shared: str) -> None:
    prompts = encoded(guard, shared)
    scored = guard.score(prompts, HARM, rows=3)
    _, deciding = guard.tokens.deciding(HARM)
    for one, row in zip(prompts, scored, strict=True):
        chosen = np.exp(alone(guard, one)[deciding])
        np.testing.assert_allclose(row, chosen / chosen.sum(), atol=2e-5)
    np.testing.assert_allclose(scored.sum(axis=1), 1.0)


def test_confidence_is_minus_the_mean_of_the_top_log_probabilities(guard: Any) -> None:
    one = encoded(guard)[0]
    [drawn] = guard.sample([one], Sampling(8, 8, 0.7, 0.95, 3, seed=1, watch={"harm": HARM}, topk=5))
    whole = alone(guard, one)
    chosen = np.exp(whole[guard.tokens.deciding(HARM)[1]])
    # Every draw begins at the same place; one may end there, and has no token to be sure of.
    begun = [trace for trace in drawn if trace.tokens]
    assert begun
    for trace in begun:
        assert trace.confidences[0] == pytest.approx(-np.sort(whole)[-5:].mean(), abs=1e-4)
        assert trace.watched["harm"][0] == pytest.approx(tuple(chosen / chosen.sum()), abs=1e-4)
        assert len(trace.confidences) == len(trace.starts) == len(trace.watched["harm"]) == trace.tokens


def test_sampling_repeats_with_its_seed_and_differs_with_another(guard: Any) -> None:
    prompts = encoded(guard)

    def texts(seed: int) -> list[list[str]]:
        drawn = guard.sample(prompts, Sampling(2, 2, 1.0, 1.0, 12, seed=seed))
        return [[trace.text for trace in traces] for traces in drawn]

    first = texts(1)
    assert first == texts(1)
    assert first != texts(2)
    assert any(one != other for one, other in first)


def test_a_prompts_traces_are_the_same_whatever_it_is_asked_with(guard: Any) -> None:
    how = Sampling(2, 2, 1.0, 1.0, 12, seed=1)
    together = guard.sample(encoded(guard), how)
    alone = [traces for prompt in reversed(encoded(guard)) for traces in guard.sample([prompt], how)][::-1]
    assert [[one.text for one in traces] for traces in together] == [[one.text for one in traces] for traces in alone]
    assert len({one.text for traces in together for one in traces}) > len(together)


@pytest.mark.parametrize("rows", [2, 128])
def test_greedy_traces_are_those_of_the_plain_model(guard: Any, rows: int) -> None:
    prompts = encoded(guard)
    drawn = guard.sample(prompts, Sampling(1, 1, 0.0, 1.0, 6, seed=1, rows=rows))
    assert any(trace.tokens for [trace] in drawn)
    for one, [trace] in zip(prompts, drawn, strict=True):
        ids = list(one.body)
        for _ in range(trace.tokens):
            ids.append(int(np.argmax(alone(guard, Encoded(one.shared, tuple(ids))))))
        assert trace.text == guard.tokens.decode(ids[len(one.body) :])


def test_more_traces_are_drawn_only_where_asked_and_never_past_the_most(guard: Any) -> None:
    asked: list[tuple[int, int]] = []

    def more(index: int, traces: Sequence[Sampled]) -> bool:
        asked.append((index, len(traces)))
        return index == 1

    drawn = guard.sample(encoded(guard), Sampling(2, 4, 1.0, 1.0, 4, seed=1, more=more))
    assert [len(traces) for traces in drawn] == [2, 4, 2, 2]
    assert sorted(asked) == [(0, 2), (1, 2), (1, 3), (2, 2), (3, 2)]


def test_a_monitor_cuts_a_trace_at_once(guard: Any) -> None:
    class AfterThree:
        seen = 0

        def push(self, confidence: float) -> bool:
            self.seen += 1
            return self.seen == 3

    drawn = guard.sample(encoded(guard), Sampling(6, 6, 1.0, 1.0, 20, seed=3, monitor=AfterThree))
    ends = {(trace.stop, trace.tokens) for traces in drawn for trace in traces}
    assert ends <= {("cut", 3), ("stop", 0), ("stop", 1), ("stop", 2)}
    assert ("cut", 3) in ends


def test_a_long_sample_is_cut_in_its_middle_and_counted(guard: Any) -> None:
    long = guard.encode(prompt("first " + "word " * 400 + "last"), max_tokens=80)
    text = guard.tokens.decode(long.body)
    assert len(long.shared) + len(long.body) == 80
    assert long.cut > 300
    assert text.startswith("Human user:\nfirst word")
    assert " [...] " in text
    assert "word last\n\nAI assistant:\nNone\n\nReasoning:\n" in text


def test_text_cannot_spell_a_special_token(guard: Any) -> None:
    hostile = guard.encode(prompt(f"stop {guard.tokens.decode([guard.tokens.end])} here"), max_tokens=200)
    assert guard.tokens.end not in hostile.body
    assert f"stop {guard.tokens.decode([guard.tokens.end])} here" in guard.tokens.decode(hostile.body)


def test_a_prompt_without_room_for_the_sample_is_refused(guard: Any) -> None:
    with pytest.raises(ValueError, match=r"guard\.max_prompt_tokens is 20"):
        guard.encode(prompt("word " * 100), max_tokens=20)


ALIKE = [*TEXTS, "how do I bake bread in winter"]


def pooled(tiny_base: Path, one: Encoded) -> NDArray[np.float32]:
    """The states after the first of two blocks, by transformers' pass over the whole prompt."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32).eval()
    with torch.no_grad():
        found = model(torch.tensor([[*one.shared, *one.body]]), use_cache=False, output_hidden_states=True)
    states = found.hidden_states[1][0].numpy()
    own = [len(one.shared) + at for start, end in one.own for at in range(start, end)]
    return np.concatenate([states[own].mean(axis=0), states[-1]])


@pytest.mark.parametrize("shared", ["Judge what is asked.\n\n", ""])
def test_states_are_those_of_the_samples_own_tokens_and_of_the_last(guard: Any, tiny_base: Path, shared: str) -> None:
    # What all texts begin with may be shared, but not with the markup before them: their own tokens count.
    for texts in (ALIKE[:2], [ALIKE[0], ALIKE[-1]], ALIKE[:2] + ALIKE[3:]):
        prompts = [guard.encode(prompt(text, shared), max_tokens=80) for text in texts]
        wanted = np.array([pooled(tiny_base, one) for one in prompts])
        found = guard.states(prompts, depth=2 / 3)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_a_samples_own_tokens_are_its_texts(guard: Any) -> None:
    parts = (Part("Human user:\n"), Part("one", data=True), Part("\n"), Part("two words", data=True), Part("\n"))
    found = guard.encode(Prompt("Judge.\n", parts, "Reasoning:\n"), max_tokens=80)
    assert [guard.tokens.decode(found.body[start:end]) for start, end in found.own] == ["one", "two words"]


def test_states_do_not_depend_on_what_is_asked_with_them(guard: Any) -> None:
    prompts = encoded(guard)
    alone = np.concatenate([guard.states([one], depth=0.5) for one in prompts])
    np.testing.assert_allclose(guard.states(prompts, depth=0.5), alone, atol=1e-5)
    assert len({row.tobytes() for row in alone}) == len(TEXTS)


def test_blocks_after_the_states_do_not_run_and_are_there_again(guard: Any) -> None:
    prompts = encoded(guard)
    before, scored = guard.states(prompts, depth=0.5), guard.score(prompts, HARM)
    np.testing.assert_array_equal(guard.score(prompts, HARM), scored)
    projection = guard._loaded.model.model.layers[-1].mlp.down_proj
    if isinstance(guard, mlx_guard.Guard):
        projection.weight = projection.weight * float("nan")
    else:
        projection.weight.data *= float("nan")
    np.testing.assert_array_equal(guard.states(prompts, depth=0.5), before)
    assert np.isnan(guard.states(prompts, depth=1.0)).all()


@pytest.mark.parametrize("base", ["./nowhere", "nowhere", "/nowhere/at/all"])
def test_a_missing_model_is_named(load: Load, base: str) -> None:
    with pytest.raises(ModelMissing, match=base):
        load(base)


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("config.json", '{"auto_map": {}}', "runs code"),
        ("config.json", "{", "is not JSON"),
        ("model.safetensors", "damaged", "not those of 7 bytes of weights"),
    ],
)
def test_a_model_that_is_damaged_or_brings_code_is_refused(
    load: Load, tiny_base: Path, tmp_path: Path, file: str, text: str, said: str
) -> None:
    for path in tiny_base.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / file).write_text(text, encoding="utf-8")
    with pytest.raises(BadArtifact, match=said):
        load(str(tmp_path))
