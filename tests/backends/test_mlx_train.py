"""Training on MLX, real and tiny: it goes on to the same bytes, its losses are the published ones, nothing is cut in
silence.
"""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten

from wizloop.backends import mlx_batches, mlx_guard, mlx_load, mlx_losses, mlx_train
from wizloop.backends.guard_types import (
    BadArtifact,
    DpoPair,
    Encoded,
    LoraShape,
    NotFinite,
    Part,
    Prompt,
    SftExample,
    TrainSettings,
)
from wizloop.loop.preference import hs_dpo_loss

LORA = LoraShape(rank=8, scale=2.0, dropout=0.1, layers=-1)
SETTINGS = TrainSettings(
    epochs=2,
    batch=8,
    lr=2e-3,
    seed=4,
    checkpoint_every=3,
    max_tokens=120,
    verdict_weight=8.0,
    prompt_weight=0.1,
    word_dropout=0.1,
)


def prompts(guard: mlx_guard.Guard) -> list[Encoded]:
    texts = [
        f"the baker asks about {'harmful' if i % 2 else 'unharmful'} bread {'in winter ' * (i % 5)}" for i in range(24)
    ]
    rendered = [
        Prompt("Judge.\n\n", (Part("Human user:\n"), Part(text, data=True), Part("\n\n")), "Answers:\nRequest:")
        for text in texts
    ]
    return [guard.encode(each, max_tokens=90) for each in rendered]


def examples(guard: mlx_guard.Guard) -> list[SftExample]:
    words = [" unharmful", " harmful"]
    return [
        SftExample(i, each, words[i % 2] + "\nCompletion: None", ((1, len(words[i % 2])),))
        for i, each in enumerate(prompts(guard))
    ]


def pairs(guard: mlx_guard.Guard) -> list[DpoPair]:
    words = [" unharmful", " harmful"]
    return [
        DpoPair(i, each, words[i % 2], words[1 - i % 2] + "\n", 0.8 + 0.1 * (i % 5))
        for i, each in enumerate(prompts(guard))
    ]


def digest(folder: Path) -> str:
    return hashlib.sha256((folder / "adapters.safetensors").read_bytes()).hexdigest()


def new(folder: Path) -> Path:
    folder.mkdir()
    return folder


def nothing(step: int, steps: int, loss: float) -> None:
    """Training goes on."""


class Killed(BaseException):
    """Stands for a signal in the middle of a step's report."""


def kill_at(step: int) -> Callable[[int, int, float], None]:
    def on_step(now: int, steps: int, loss: float) -> None:
        if now == step:
            raise Killed

    return on_step


@pytest.fixture(scope="module")
def guard(tiny_base: Path) -> mlx_guard.Guard:
    return mlx_guard.load(str(tiny_base))


@pytest.fixture(scope="module")
def taught(guard: mlx_guard.Guard, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An R-SFT adapter that was trained without a break."""
    folder = tmp_path_factory.mktemp("taught")
    result = mlx_train.train_sft(
        guard.base, None, examples(guard), SETTINGS, LORA, to=folder, checkpoint=folder.parent / "ck", on_step=nothing
    )
    assert result.steps == 6
    assert result.losses[-1][1] < result.losses[0][1]
    return folder


@pytest.mark.parametrize("step", [1, 2, 3, 4, 5, 6])
def test_r_sft_that_was_stopped_goes_on_to_the_same_bytes(
    guard: mlx_guard.Guard, taught: Path, tmp_path: Path, step: int
) -> None:
    args = (guard.base, None, examples(guard), SETTINGS, LORA)
    with pytest.raises(Killed):
        mlx_train.train_sft(*args, to=new(tmp_path / "a"), checkpoint=tmp_path / "ck", on_step=kill_at(step))
    seen: list[int] = []
    mlx_train.train_sft(
        *args, to=new(tmp_path / "b"), checkpoint=tmp_path / "ck", on_step=lambda now, *_: seen.append(now)
    )
    assert seen == list(range(step + 1, 7))
    assert digest(tmp_path / "b") == digest(taught)
    assert not (tmp_path / "ck").exists()


def test_hs_dpo_that_was_stopped_goes_on_to_the_same_bytes(
    guard: mlx_guard.Guard, taught: Path, tmp_path: Path
) -> None:
    args = (guard.base, taught, pairs(guard), SETTINGS, LORA)
    mlx_train.train_dpo(*args, to=new(tmp_path / "whole"), checkpoint=tmp_path / "ck1", on_step=nothing)
    with pytest.raises(Killed):
        mlx_train.train_dpo(*args, to=new(tmp_path / "a"), checkpoint=tmp_path / "ck2", on_step=kill_at(4))
    mlx_train.train_dpo(*args, to=new(tmp_path / "b"), checkpoint=tmp_path / "ck2", on_step=nothing)
    assert digest(tmp_path / "b") == digest(tmp_path / "whole") != digest(taught)


def test_a_checkpoint_of_other_data_is_not_used(guard: mlx_guard.Guard, tmp_path: Path) -> None:
    rows = examples(guard)
    with pytest.raises(Killed):
        mlx_train.train_sft(
            guard.base,
            None,
            rows[:9],
            SETTINGS,
            LORA,
            to=new(tmp_path / "a"),
            checkpoint=tmp_path / "ck",
            on_step=kill_at(3),
        )
    seen: list[int] = []
    mlx_train.train_sft(
        guard.base,
        None,
        rows,
        SETTINGS,
        LORA,
        to=new(tmp_path / "b"),
        checkpoint=tmp_path / "ck",
        on_step=lambda now, *_: seen.append(now),
    )
    assert seen[0] == 1


def test_what_does_not_fit_is_dropped_and_named(guard: mlx_guard.Guard, tmp_path: Path) -> None:
    rows = examples(guard)
    rows[5] = replace(rows[5], completion=" harmful" + " word" * 200)
    result = mlx_train.train_sft(
        guard.base, None, rows, SETTINGS, LORA, to=new(tmp_path / "a"), checkpoint=tmp_path / "ck", on_step=nothing
    )
    assert result.dropped == [5]
    with pytest.raises(ValueError, match="none of 24 examples fits in 10 tokens"):
        mlx_train.train_sft(
            guard.base,
            None,
            rows,
            replace(SETTINGS, max_tokens=10),
            LORA,
            to=tmp_path,
            checkpoint=tmp_path / "ck",
            on_step=nothing,
        )


def test_a_rate_that_blows_up_is_halved_twice_and_then_given_up(guard: mlx_guard.Guard, tmp_path: Path) -> None:
    rates: list[int] = []
    with pytest.raises(NotFinite, match="the loss is"):
        mlx_train.train_sft(
            guard.base,
            None,
            examples(guard),
            replace(SETTINGS, lr=1e30),
            LORA,
            to=new(tmp_path / "a"),
            checkpoint=tmp_path / "ck",
            on_step=lambda step, *_: rates.append(step),
        )
    assert rates.count(1) == 3


def test_an_adapter_of_another_shape_is_refused(guard: mlx_guard.Guard, taught: Path, tmp_path: Path) -> None:
    with pytest.raises(BadArtifact, match="another shape"):
        mlx_train.train_dpo(
            guard.base,
            taught,
            pairs(guard),
            SETTINGS,
            replace(LORA, rank=4),
            to=tmp_path,
            checkpoint=tmp_path / "ck",
            on_step=nothing,
        )


def test_a_prefix_run_once_gives_the_loss_and_gradients_of_a_prefix_in_every_row(guard: mlx_guard.Guard) -> None:
    loaded = mlx_load.load(guard.base, None, quantise=False, fuse=False)
    mlx_load.add_new_adapter(loaded.model, LoraShape(4, 2.0, 0.0, -1))
    # A fresh adapter's second factor is zero, and so would be half of the gradients.
    loaded.model.update({"model": {"layers": [{"self_attn": {"q_proj": {"lora_b": mx.ones((4, 64)) * 0.01}}}]}})
    hidden, head = mlx_load.split(loaded.model)
    rows, _ = mlx_batches.sft_rows(examples(guard)[:6], guard.tokens, 120, 8.0)
    in_front = [
        replace(row, shared=(), ids=[*row.shared, *row.ids], prompt_length=row.prompt_length + len(row.shared))
        for row in rows
    ]

    def gradients(several: list[mlx_batches.Row]) -> tuple[float, dict[str, mx.array]]:
        shared = mlx_losses.Shared(hidden, several[0].shared, 2)
        plain = replace(SETTINGS, word_dropout=0.0)
        batch = mlx_batches.sft_batch(several, plain, 0, blank=0)
        loss = mlx_losses.sft_loss(head, shared, 0.0)
        (value, _), grads = nn.value_and_grad(loaded.model, lambda model, *rest: loss(model, *rest))(
            loaded.model, *batch
        )
        return value.item(), dict(tree_flatten(grads))

    value, grads = gradients(rows)
    expected, wanted = gradients(in_front)
    assert value == pytest.approx(expected, abs=1e-5)
    for name, gradient in grads.items():
        np.testing.assert_allclose(np.array(gradient), np.array(wanted[name]), atol=2e-5, err_msg=name)


def test_the_dpo_loss_is_the_published_one(guard: mlx_guard.Guard, taught: Path) -> None:
    loaded = mlx_load.load(guard.base, taught, quantise=False, fuse=True)
    rows, _ = mlx_batches.dpo_rows(pairs(guard)[:4], guard.tokens, 120)
    shared = mlx_losses.Shared(loaded.hidden, rows[0].chosen.shared, 2)
    reference = np.array([[-3.0, -4.0], [-2.0, -2.5], [-6.0, -1.0], [-0.5, -0.7]], np.float32)
    policy = mlx_losses.reference_logprobs(loaded.model, loaded.head, shared, rows, 2)
    value, _ = mlx_losses.dpo_loss(loaded.head, shared, beta=0.1, sft_weight=2.0)(
        None, *mlx_batches.dpo_batch(rows, reference)
    )
    expected = [
        hs_dpo_loss(
            float(policy[i, 0]),
            float(policy[i, 1]),
            float(reference[i, 0]),
            float(reference[i, 1]),
            beta=0.1,
            weight=row.weight,
            chosen_nll_mean=-float(policy[i, 0]) / len(row.chosen.weights),
            sft_weight=2.0,
        )
        for i, row in enumerate(rows)
    ]
    assert value.item() == pytest.approx(sum(expected) / 4, abs=1e-4)
