"""What training promises on every backend: it goes on to the same bytes, cuts nothing in silence, keeps no pickle, and
what is exported answers like what was trained.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.backends.lessons import (
    LORA,
    SETTINGS,
    WORDS,
    Killed,
    digest,
    examples,
    kill_at,
    new,
    nothing,
    pairs,
    prompts,
)
from wizloop.backends.guard_types import (
    BadArtifact,
    Choice,
    Encoded,
    NotFinite,
    OnStep,
    SftExample,
    TrainJob,
    TrainResult,
)
from wizloop.backends.tokens import Tokens

Scores = NDArray[np.float64]


def weights_of(folder: Path) -> dict[str, NDArray[np.float32]]:
    from safetensors.numpy import load_file

    (file,) = folder.glob("adapter*.safetensors")
    return dict(load_file(file))


@dataclass(frozen=True)
class Kind:
    """A backend's modules, as its class in loop.backend calls them."""

    train: ModuleType
    export: ModuleType
    scores: Callable[..., Scores]


def mlx_scores(base: Path, adapter: Path | None, asked: list[Encoded]) -> Scores:
    from wizloop.backends.mlx import guard as mlx_guard

    return mlx_guard.load(str(base), adapter).score(asked, Choice(WORDS))


def torch_scores(base: Path, adapter: Path | None, asked: list[Encoded]) -> Scores:
    import torch

    from wizloop.backends.torch import load as torch_load

    loaded = torch_load.load(str(base), adapter, quantise=False, device="cpu")
    _, deciding = Tokens(loaded.tokenizer).deciding(Choice(WORDS))
    rows = [torch.tensor([[*each.shared, *each.body]]) for each in asked]
    with torch.no_grad():
        logits = torch.stack([loaded.model(input_ids=row).logits[0, -1, deciding] for row in rows])
    return np.asarray(torch.softmax(logits, dim=-1), np.float64)


def mlx() -> Kind:
    from wizloop.backends.mlx import export as mlx_export
    from wizloop.backends.mlx import train as mlx_train

    return Kind(mlx_train, mlx_export, mlx_scores)


def torch_on_cpu() -> Kind:
    pytest.importorskip("trl", reason="training on torch needs the extra cuda")
    from wizloop.backends.torch import export as torch_export
    from wizloop.backends.torch import train as torch_train

    return Kind(torch_train, torch_export, torch_scores)


@pytest.fixture(scope="module", params=[mlx, torch_on_cpu])
def kind(request: pytest.FixtureRequest) -> Kind:
    made: Kind = request.param()
    return made


@pytest.fixture(scope="module")
def tokens(tiny_base: Path) -> Tokens:
    from transformers import AutoTokenizer

    return Tokens(AutoTokenizer.from_pretrained(tiny_base))


@pytest.fixture(scope="module")
def sft(kind: Kind, tiny_base: Path, tokens: Tokens) -> Callable[..., Any]:
    """R-SFT of the tiny guard on the examples, or on what is given instead."""

    def train(to: Path, **instead: Any) -> Any:
        rows, on_step = instead.get("examples", examples(tokens)), instead.get("on_step", nothing)
        settings = instead.get("settings", SETTINGS)
        return kind.train.train_sft(
            TrainJob(str(tiny_base), None, settings, LORA, new(to), to.parent / "ck"), rows, on_step
        )

    return train


@pytest.fixture(scope="module")
def taught(sft: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An R-SFT adapter that was trained without a break."""
    folder = tmp_path_factory.mktemp("taught") / "adapter"
    result = sft(folder)
    assert result.steps == 6
    assert result.losses[-1][1] < result.losses[0][1]
    return folder


def test_what_is_done_before_the_first_step_is_told(
    kind: Kind, tiny_base: Path, tokens: Tokens, taught: Path, tmp_path: Path
) -> None:
    told: list[str] = []
    settings = replace(SETTINGS, epochs=1, batch=24)

    def step(*_: object) -> None:
        told.append("a step")

    for begin, lessons in ((kind.train.train_sft, examples(tokens)), (kind.train.train_dpo, pairs(tokens))):
        name = begin.__name__
        job = TrainJob(str(tiny_base), taught, settings, LORA, new(tmp_path / name), tmp_path / f"{name}-ck")
        begin(job, lessons, step, told.append)
    first, *rest = told[3:]
    assert told[:3] == ["loading the base", "first step", "a step"]
    assert (first, rest[-2:]) == ("loading the base", ["first step", "a step"])
    assert rest[0].startswith("reference log-probabilities, 0 of ")


@pytest.mark.parametrize("step", [4, 6])
def test_r_sft_that_was_stopped_goes_on_to_the_same_bytes(
    sft: Callable[..., Any], taught: Path, tmp_path: Path, step: int
) -> None:
    with pytest.raises(Killed):
        sft(tmp_path / "a", on_step=kill_at(step))
    (kept,) = (tmp_path / "ck").glob("step-*")
    assert {path.suffix for path in kept.iterdir()} == {".safetensors", ".json"}
    seen: list[int] = []
    sft(tmp_path / "b", on_step=lambda now, *_: seen.append(now))
    assert seen == list(range(step + 1, 7))
    assert digest(tmp_path / "b") == digest(taught)
    assert not (tmp_path / "ck").exists()


def test_the_loss_on_what_is_held_out_is_measured_after_each_epoch_and_changes_nothing(
    kind: Kind, tiny_base: Path, tokens: Tokens, taught: Path, tmp_path: Path
) -> None:
    def train(to: str, checkpoint: str, on_step: OnStep, rows: list[SftExample]) -> TrainResult:
        job = TrainJob(str(tiny_base), None, SETTINGS, LORA, new(tmp_path / to), tmp_path / checkpoint)
        result: TrainResult = kind.train.train_sft(replace(job, held_out=tuple(rows)), examples(tokens), on_step)
        return result

    # What is learned is what is held out here, and the other way around in the second case.
    right = examples(tokens)[:6]
    wrong = [replace(one, completion=right[1 - at % 2].completion) for at, one in enumerate(right)]
    whole = train("whole", "ck1", nothing, right)
    assert [step for step, _ in whole.held_out] == [3, 6]
    assert whole.held_out[1][1] < whole.held_out[0][1]
    assert train("wrong", "ck3", nothing, wrong).held_out[1][1] > whole.held_out[1][1]
    with pytest.raises(Killed):
        train("a", "ck2", kill_at(4), right)
    assert train("b", "ck2", nothing, right).held_out == whole.held_out
    assert digest(tmp_path / "b") == digest(tmp_path / "whole") == digest(taught)


def test_dora_resumes_to_the_same_bytes_and_trains_the_magnitudes(
    kind: Kind, tiny_base: Path, dense_base: Path, tokens: Tokens, tmp_path: Path
) -> None:
    def train(to: str, checkpoint: str, on_step: OnStep, base: Path = dense_base) -> None:
        lora, ck = replace(LORA, method="dora"), tmp_path / checkpoint
        kind.train.train_sft(TrainJob(str(base), None, SETTINGS, lora, new(tmp_path / to), ck), lessons, on_step)

    lessons = examples(tokens)
    train("whole", "ck1", nothing)
    with pytest.raises(Killed):
        train("a", "ck2", kill_at(4))
    train("b", "ck2", nothing)
    assert digest(tmp_path / "b") == digest(tmp_path / "whole")
    magnitudes = {name: each for name, each in weights_of(tmp_path / "b").items() if each.ndim == 1}
    assert len(magnitudes) == 14
    base = mlx_scores(dense_base, None, prompts(tokens)[:4])
    assert np.abs(mlx_scores(dense_base, tmp_path / "b", prompts(tokens)[:4]) - base).max() > 0.01
    with pytest.raises(BadArtifact, match="weights are all zero"):
        train("c", "ck3", nothing, tiny_base)


def test_whole_blocks_resume_to_the_same_bytes_are_a_reference_and_can_be_exported(
    kind: Kind, tiny_base: Path, tokens: Tokens, tmp_path: Path
) -> None:
    def train(to: str, checkpoint: str, on_step: OnStep, start: str | None = None) -> TrainResult:
        lora, ck = replace(LORA, method="full", layers=1), tmp_path / checkpoint
        begin = kind.train.train_sft if start is None else kind.train.train_dpo
        lessons: Any = examples(tokens) if start is None else pairs(tokens)
        job = TrainJob(
            str(tiny_base), None if start is None else tmp_path / start, SETTINGS, lora, new(tmp_path / to), ck
        )
        result: TrainResult = begin(job, lessons, on_step)
        return result

    asked = prompts(tokens)[:4]
    scores = [kind.scores(tiny_base, None, asked)]
    for name, start in (("sft", None), ("dpo", "sft")):
        whole = train(name, "ck1", nothing, start)
        assert whole.losses[-1][1] < whole.losses[0][1]
        with pytest.raises(Killed):
            train(f"{name}-a", "ck2", kill_at(4), start)
        train(f"{name}-b", "ck2", nothing, start)
        assert digest(tmp_path / f"{name}-b") == digest(tmp_path / name)
        scores.append(kind.scores(tiny_base, tmp_path / name, asked))
        assert np.abs(scores[-1] - scores[-2]).max() > 0.01
    weights = weights_of(tmp_path / "dpo")
    assert {name.split(".")[2] for name in weights} == {"1"}
    assert len(weights) == 9
    kind.export.export_safetensors(str(tiny_base), tmp_path / "dpo", new(tmp_path / "export"))
    for each in (mlx_scores, torch_scores):
        np.testing.assert_allclose(each(tmp_path / "export", None, asked), scores[-1], atol=1e-4)


def test_whole_blocks_that_are_computed_again_learn_the_same(
    kind: Kind, tiny_base: Path, tokens: Tokens, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lora, settings = replace(LORA, method="full"), replace(SETTINGS, epochs=1)
    ended = []
    for name, again in (("kept", False), ("again", True)):
        for module in ("wizloop.backends.training_memory", "wizloop.backends.torch.trainers"):
            monkeypatch.setattr(f"{module}.recomputes", lambda *_, again=again, **__: again)
        job = TrainJob(str(tiny_base), None, settings, lora, new(tmp_path / name), tmp_path / "ck")
        kind.train.train_sft(job, examples(tokens), nothing)
        ended.append(weights_of(tmp_path / name))
    assert len(ended[0]) == 18
    for name, each in ended[0].items():
        np.testing.assert_allclose(ended[1][name], each, atol=1e-4, err_msg=name)


def test_the_blocks_of_another_model_or_library_are_refused(
    kind: Kind, tiny_base: Path, tokens: Tokens, tmp_path: Path
) -> None:
    job = TrainJob(
        str(tiny_base), None, replace(SETTINGS, epochs=1), replace(LORA, method="full"), new(tmp_path / "a"), tmp_path
    )
    kind.train.train_sft(replace(job, checkpoint=tmp_path / "ck"), examples(tokens), nothing)
    scores, other = (mlx_scores, torch_scores) if kind.scores is mlx_scores else (torch_scores, mlx_scores)
    with pytest.raises(BadArtifact, match=r"only (MLX|torch) reads them: set guard.backend to"):
        other(tiny_base, tmp_path / "a", prompts(tokens)[:1])
    (file,) = (tmp_path / "a").glob("adapter*.safetensors")
    from safetensors.numpy import save_file

    save_file({"model.layers.9.mlp.up_proj.weight": np.zeros((2, 2), np.float32)}, file)
    with pytest.raises(BadArtifact, match="belongs to another model"):
        scores(tiny_base, tmp_path / "a", prompts(tokens)[:1])


def test_hs_dpo_that_was_stopped_goes_on_to_the_same_bytes(
    kind: Kind, tiny_base: Path, tokens: Tokens, taught: Path, tmp_path: Path
) -> None:
    def train(to: str, checkpoint: str, on_step: OnStep) -> TrainResult:
        job = TrainJob(str(tiny_base), taught, SETTINGS, LORA, new(tmp_path / to), tmp_path / checkpoint)
        result: TrainResult = kind.train.train_dpo(job, pairs(tokens), on_step)
        return result

    whole = train("whole", "ck1", nothing)
    assert whole.losses[-1][1] < whole.losses[0][1]
    with pytest.raises(Killed):
        train("a", "ck2", kill_at(4))
    train("b", "ck2", nothing)
    assert digest(tmp_path / "b") == digest(tmp_path / "whole") != digest(taught)


def test_a_checkpoint_of_other_data_is_not_used(sft: Callable[..., Any], tokens: Tokens, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        sft(tmp_path / "a", examples=examples(tokens)[:9], on_step=kill_at(3))
    seen: list[int] = []
    sft(tmp_path / "b", on_step=lambda now, *_: seen.append(now))
    assert seen[0] == 1


def test_what_does_not_fit_is_dropped_and_named(sft: Callable[..., Any], tokens: Tokens, tmp_path: Path) -> None:
    rows = examples(tokens)
    rows[5] = replace(rows[5], completion=" harmful" + " word" * 200)
    assert sft(tmp_path / "a", examples=rows).dropped == [5]
    with pytest.raises(ValueError, match="none of 24 examples fits in 10 tokens"):
        sft(tmp_path / "b", settings=replace(SETTINGS, max_tokens=10))


def test_a_rate_that_blows_up_is_halved_twice_and_then_given_up(sft: Callable[..., Any], tmp_path: Path) -> None:
    rates: list[int] = []
    with pytest.raises(NotFinite, match="the loss is"):
        sft(tmp_path / "a", settings=replace(SETTINGS, lr=1e30), on_step=lambda step, *_: rates.append(step))
    assert rates.count(1) == 3


def test_an_adapter_of_another_shape_is_refused(
    kind: Kind, tiny_base: Path, tokens: Tokens, taught: Path, tmp_path: Path
) -> None:
    job = TrainJob(str(tiny_base), taught, SETTINGS, replace(LORA, rank=4), tmp_path, tmp_path / "ck")
    with pytest.raises(BadArtifact, match="another shape"):
        kind.train.train_dpo(job, pairs(tokens), nothing)


def test_merged_weights_answer_like_the_adapter_on_both_backends(
    kind: Kind, tiny_base: Path, tokens: Tokens, taught: Path, tmp_path: Path
) -> None:
    asked = prompts(tokens)[:4]
    kind.export.export_safetensors(str(tiny_base), taught, tmp_path)
    trained = kind.scores(tiny_base, taught, asked)
    assert np.abs(trained - kind.scores(tiny_base, None, asked)).max() > 0.01
    for scores in (mlx_scores, torch_scores):
        np.testing.assert_allclose(scores(tmp_path, None, asked), trained, atol=1e-4)


def test_an_exported_adapter_loads_over_its_base(
    kind: Kind, tiny_base: Path, tokens: Tokens, taught: Path, tmp_path: Path
) -> None:
    kind.export.export_adapter(str(tiny_base), taught, tmp_path)
    asked = prompts(tokens)[:4]
    expected = kind.scores(tiny_base, taught, asked)
    np.testing.assert_allclose(kind.scores(tiny_base, tmp_path, asked), expected, atol=1e-6)
    written = "".join(path.read_text(encoding="utf-8") for path in tmp_path.glob("*.json"))
    assert str(tiny_base.parent) not in written
