"""The losses of training on MLX: a shared prefix changes nothing, and HS-DPO is the published one."""

import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten, tree_unflatten
from numpy.typing import NDArray

from tests.backends.lessons import LORA, SETTINGS, examples, new, nothing, pairs
from wizloop.backends import training_rows
from wizloop.backends.guard_types import LoraShape, TrainJob
from wizloop.backends.mlx import adapter as mlx_adapter
from wizloop.backends.mlx import cpu_entropy
from wizloop.backends.mlx import guard as mlx_guard
from wizloop.backends.mlx import load as mlx_load
from wizloop.backends.mlx import losses as mlx_losses
from wizloop.backends.mlx import train as mlx_train
from wizloop.backends.mlx.kinds import Kind


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
        shared = mlx_losses.Shared(hidden, several[0].shared, Kind(True, 2))
        plain = replace(SETTINGS, word_dropout=0.0)
        batch = [mx.array(each) for each in training_rows.sft_batch(several, plain, 0, blank=0)]
        loss = mlx_losses.sft_loss(head, shared, 0.0)
        value, grads = nn.value_and_grad(loaded.model, loss)(loaded.model, *batch)
        return value.item(), dict(tree_flatten(grads))

    value, grads = gradients(rows)
    expected, wanted = gradients(in_front)
    assert value == pytest.approx(expected, abs=1e-5)
    for name, gradient in grads.items():
        np.testing.assert_allclose(np.array(gradient), np.array(wanted[name]), atol=2e-5, err_msg=name)


class Step:
    """Loss and gradients of a step with an adapter that says something, and with dropout."""

    def __init__(self, guard: mlx_guard.Guard, layers: int = -1) -> None:
        loaded = mlx_load.load(guard.base, None, quantise=False, fuse=False)
        mx.random.seed(1)
        mlx_adapter.add_new_adapter(loaded.model, LoraShape(4, 2.0, 0.2, layers))
        said = [
            (name, 0.05 * mx.random.normal(each.shape)) for name, each in mlx_adapter.trainable(loaded.model).items()
        ]
        loaded.model.update(tree_unflatten(said))
        loaded.model.train()
        self.model, self.tokens, self.guard = loaded.model, guard.tokens, guard
        self.hidden, self.head = mlx_load.split(loaded.model)

    def sft(self, most: int) -> tuple[int, dict[str, NDArray[np.float32]]]:
        rows, _ = training_rows.sft_rows(examples(self.tokens)[:6], self.tokens, 120, 8.0)
        loss = mlx_losses.sft_loss(self.head, mlx_losses.Shared(self.hidden, rows[0].shared, Kind(True, 2)), 0.1)
        return self.of(loss, training_rows.sft_passes(rows, SETTINGS, 2, blank=0, most=most))

    def dpo(self, most: int) -> tuple[int, dict[str, NDArray[np.float32]]]:
        rows, _ = training_rows.dpo_rows(pairs(self.tokens)[:6], self.tokens, 120)
        shared = mlx_losses.Shared(self.hidden, rows[0].chosen.shared, Kind(True, 2))
        loss = mlx_losses.dpo_loss(self.head, shared, beta=0.1, sft_weight=2.0)
        return self.of(loss, training_rows.dpo_passes(rows, np.zeros((6, 2), np.float32), most=most))

    def of(
        self, loss: mlx_losses.Loss, passes: list[training_rows.Arrays]
    ) -> tuple[int, dict[str, NDArray[np.float32]]]:
        mx.random.seed(9)
        with cpu_entropy.steps():
            value, gradients = mlx_train.over_passes(mlx_train.pass_gradient(self.model, loss), passes)
        found = {name: np.array(each) for name, each in tree_flatten(gradients)}
        return len(passes), found | {"loss": np.array(value)}


@pytest.fixture(scope="module")
def step(guard: mlx_guard.Guard) -> Step:
    return Step(guard)


def same(some: dict[str, NDArray[np.float32]], others: dict[str, NDArray[np.float32]], atol: float = 2e-5) -> None:
    assert set(some) == set(others)
    for name, value in some.items():
        np.testing.assert_allclose(value, others[name], atol=atol, rtol=1e-4, err_msg=name)


@pytest.mark.parametrize("kind", ["sft", "dpo"])
@pytest.mark.parametrize("most", [1, 200])
def test_a_step_in_several_passes_has_the_loss_and_gradients_of_one(step: Step, kind: str, most: int) -> None:
    step.model.eval()
    one, whole = getattr(step, kind)(2048)
    several, parts = getattr(step, kind)(most)
    step.model.train()
    assert one == 1 < several
    assert max(np.abs(each).max() for each in whole.values()) > 0.01
    same(parts, whole)


@pytest.mark.parametrize("by", [mlx_losses.recompute, mx.checkpoint])
@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_blocks_computed_again_give_the_same_gradients_dropout_included(
    step: Step, monkeypatch: pytest.MonkeyPatch, kind: str, by: Any
) -> None:
    """A prefix's share of the gradient included: mlx-lm's grad_checkpoint loses it and draws another dropout."""
    monkeypatch.setattr(mlx_losses, "recompute", by)
    with mlx_losses.recomputing(step.model):
        _, again = getattr(step, kind)(2048)
        calls: list[Any] = []

        def kept_alive(function: Any) -> Any:
            calls.append(function)
            return function

        monkeypatch.setattr(mlx_losses, "recompute", kept_alive)
        _, kept = getattr(step, kind)(2048)
    # Two blocks, for the prefix and for the rows.
    assert len(calls) >= 4
    same(again, kept, 1e-6)
    assert "again" not in type(step.model.layers[0]).__call__.__qualname__


def test_blocks_without_an_adapter_are_not_computed_again(guard: mlx_guard.Guard) -> None:
    step = Step(guard, layers=1)
    step.model.eval()
    _, kept = step.sft(2048)
    step.model.train()
    for layer in step.model.layers:
        for _, module in layer.named_modules():
            if hasattr(module, "dropout"):
                module.dropout = nn.Dropout(0.0)
    with mlx_losses.recomputing(step.model):
        _, again = step.sft(2048)
    same(again, kept)


@pytest.mark.skipif(shutil.which("g++") is None, reason="MLX compiles for a CPU with g++")
@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_a_step_that_is_compiled_as_on_a_gpu_trains_to_the_same_weights(
    guard: mlx_guard.Guard, taught: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    begin, lessons = {
        "sft": (mlx_train.train_sft, examples(guard.tokens)),
        "dpo": (mlx_train.train_dpo, pairs(guard.tokens)),
    }[kind]
    ended = []
    for name, cpu in (("as on a CPU", True), ("as on a GPU", False)):
        for module in (mlx_train, mlx_losses, cpu_entropy):
            monkeypatch.setattr(module, "on_cpu", lambda cpu=cpu: cpu)
        job = TrainJob(guard.base, taught, SETTINGS, replace(LORA, dropout=0.0), new(tmp_path / name), tmp_path / "ck")
        begin(job, lessons, nothing)  # type: ignore[operator]
        ended.append({key: np.array(each) for key, each in mlx_adapter.read(job.to)[1].items()})
    same(ended[1], ended[0], 1e-3)
    assert max(np.abs(each - begun).max() for each, begun in zip(ended[1].values(), was(taught), strict=True)) > 0.002


def was(taught: Path) -> list[NDArray[np.float32]]:
    return [np.array(each) for each in mlx_adapter.read(taught)[1].values()]


def test_logits_in_pieces_give_the_same_loss_and_gradients(step: Step, monkeypatch: pytest.MonkeyPatch) -> None:
    _, whole = step.sft(2048)
    monkeypatch.setattr(mlx_losses, "PIECE", 7)
    _, pieces = step.sft(2048)
    same(pieces, whole)


def published_loss(margin: float, weight: float, chosen_nll: float) -> float:
    """Return the HS-DPO loss of one pair (arXiv:2501.18492, section 3.3), for beta 0.1 and sft_weight 2.

    `margin` is how much more the policy favours chosen over rejected than the reference does, in summed natural
    log-probabilities. The weight scales the preference term only, as in the paper's formula.
    """
    return weight * math.log1p(math.exp(-0.1 * margin)) + 2.0 * chosen_nll


def test_the_dpo_loss_is_the_published_one(guard: mlx_guard.Guard, taught: Path) -> None:
    loaded = mlx_load.load(guard.base, taught, quantise=False, fuse=True)
    rows, _ = training_rows.dpo_rows(pairs(guard.tokens)[:4], guard.tokens, 120)
    shared = mlx_losses.Shared(loaded.hidden, rows[0].chosen.shared, Kind(True, 2))
    reference = np.array([[-3.0, -4.0], [-2.0, -2.5], [-6.0, -1.0], [-0.5, -0.7]], np.float32)
    policy = mlx_losses.reference_logprobs(loaded.model, loaded.head, shared, rows, 2)
    value = mlx_losses.dpo_loss(loaded.head, shared, beta=0.1, sft_weight=2.0)(
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
