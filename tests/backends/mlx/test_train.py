"""The losses of training on MLX: a shared prefix changes nothing, and HS-DPO is the published one."""

import math
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten

from tests.backends.lessons import LORA, SETTINGS, examples, nothing, pairs
from wizloop.backends import training_rows
from wizloop.backends.guard_types import LoraShape, TrainJob
from wizloop.backends.mlx import adapter as mlx_adapter
from wizloop.backends.mlx import guard as mlx_guard
from wizloop.backends.mlx import load as mlx_load
from wizloop.backends.mlx import losses as mlx_losses
from wizloop.backends.mlx import train as mlx_train


@pytest.fixture(scope="module")
def guard(tiny_base: Path) -> mlx_guard.Guard:
    return mlx_guard.load(str(tiny_base))


@pytest.fixture(scope="module")
def taught(guard: mlx_guard.Guard, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An R-SFT adapter."""
    folder = tmp_path_factory.mktemp("taught")
    rows = examples(guard.tokens)
    mlx_train.train_sft(TrainJob(guard.base, None, SETTINGS, LORA, folder, folder.parent / "ck"), rows, nothing)
    return folder


def test_a_prefix_run_once_gives_the_loss_and_gradients_of_a_prefix_in_every_row(guard: mlx_guard.Guard) -> None:
    loaded = mlx_load.load(guard.base, None, quantise=False, fuse=False)
    mlx_adapter.add_new_adapter(loaded.model, LoraShape(4, 2.0, 0.0, -1))
    # A fresh adapter's second factor is zero, and so would be half of the gradients.
    loaded.model.update({"model": {"layers": [{"self_attn": {"q_proj": {"lora_b": mx.ones((4, 64)) * 0.01}}}]}})
    hidden, head = mlx_load.split(loaded.model)
    rows, _ = training_rows.sft_rows(examples(guard.tokens)[:6], guard.tokens, 120, 8.0)
    in_front = [
        replace(row, shared=(), ids=[*row.shared, *row.ids], prompt_length=row.prompt_length + len(row.shared))
        for row in rows
    ]

    def gradients(several: list[training_rows.Row]) -> tuple[float, dict[str, mx.array]]:
        shared = mlx_losses.Shared(hidden, several[0].shared, 2)
        plain = replace(SETTINGS, word_dropout=0.0)
        batch = [mx.array(each) for each in training_rows.sft_batch(several, plain, 0, blank=0)]
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


def published_loss(margin: float, weight: float, chosen_nll: float) -> float:
    """Return the HS-DPO loss of one pair (arXiv:2501.18492, section 3.3), for beta 0.1 and sft_weight 2.

    `margin` is how much more the policy favours chosen over rejected than the reference does, in summed natural
    log-probabilities. The weight scales the preference term only, as in the paper's formula.
    """
    return weight * math.log1p(math.exp(-0.1 * margin)) + 2.0 * chosen_nll


def test_the_dpo_loss_is_the_published_one(guard: mlx_guard.Guard, taught: Path) -> None:
    loaded = mlx_load.load(guard.base, taught, quantise=False, fuse=True)
    rows, _ = training_rows.dpo_rows(pairs(guard.tokens)[:4], guard.tokens, 120)
    shared = mlx_losses.Shared(loaded.hidden, rows[0].chosen.shared, 2)
    reference = np.array([[-3.0, -4.0], [-2.0, -2.5], [-6.0, -1.0], [-0.5, -0.7]], np.float32)
    policy = mlx_losses.reference_logprobs(loaded.model, loaded.head, shared, rows, 2)
    value, _ = mlx_losses.dpo_loss(loaded.head, shared, beta=0.1, sft_weight=2.0)(
        None, *(mx.array(each) for each in training_rows.dpo_batch(rows, reference))
    )
    expected = [
        published_loss(
            float(policy[i, 0]) - float(reference[i, 0]) - (float(policy[i, 1]) - float(reference[i, 1])),
            row.weight,
            -float(policy[i, 0]) / len(row.chosen.weights),
        )
        for i, row in enumerate(rows)
    ]
    assert value.item() == pytest.approx(sum(expected) / 4, abs=1e-4)
