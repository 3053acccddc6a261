"""Training on torch: TRL's own losses where the weights are 1, MLX's losses and gradients, the published ones
otherwise.
"""

import importlib.util
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("trl", reason="training on torch needs the extra cuda")

import mlx.core as mx
import mlx.nn as nn
import torch
from mlx.utils import tree_flatten, tree_unflatten

from tests.backends.lessons import SETTINGS, examples, new, nothing, pairs
from wizloop.backends import artifacts, training_rows
from wizloop.backends.guard_types import BackendError, LoraShape, TrainJob
from wizloop.backends.mlx import adapter as mlx_adapter
from wizloop.backends.mlx import load as mlx_load
from wizloop.backends.mlx import losses as mlx_losses
from wizloop.backends.mlx.kinds import Kind
from wizloop.backends.tokens import Tokens
from wizloop.backends.torch import adapter as torch_adapter
from wizloop.backends.torch import export as torch_export
from wizloop.backends.torch import load as torch_load
from wizloop.backends.torch import train as torch_train
from wizloop.backends.torch.batches import dpo_batches, sft_batches
from wizloop.backends.torch.trainers import HsDpo, RSft, dpo_trainer, sft_trainer

PLAIN = LoraShape(rank=4, scale=2.0, dropout=0.0, layers=-1)
EVEN = replace(SETTINGS, verdict_weight=1.0, prompt_weight=0.0, word_dropout=0.0, beta=0.1, sft_weight=0.0)


@pytest.fixture(scope="module")
def loaded(tiny_base: Path) -> torch_load.Loaded:
    return torch_load.load(str(tiny_base), None, quantise=False, device="cpu")


def student(base: Path) -> tuple[Any, torch_load.Loaded]:
    """A base with an adapter that says something: a fresh one adds nothing, and half of its gradients are zero."""
    loaded = torch_load.load(str(base), None, quantise=False, device="cpu")
    model = torch_adapter.add_new_adapter(loaded.model, PLAIN, seed=3)
    draw = torch.Generator().manual_seed(8)
    for name, each in model.named_parameters():
        if "lora_B" in name:
            each.data = 0.05 * torch.randn(each.shape, generator=draw)
    return model, loaded


@pytest.fixture(scope="module")
def sft(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> RSft:
    model, loaded = student(tiny_base)
    return sft_trainer(model, loaded, EVEN, tmp_path_factory.mktemp("sft"))


@pytest.fixture(scope="module")
def dpo(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> HsDpo:
    model, loaded = student(tiny_base)
    return dpo_trainer(model, loaded, EVEN, tmp_path_factory.mktemp("dpo"))


def sft_batch(*args: Any, **options: Any) -> dict[str, Any]:
    """A step that fits one pass."""
    (batch,) = sft_batches(*args, **options)
    return batch


def dpo_batch(*args: Any) -> dict[str, Any]:
    """A step that fits one pass."""
    (batch,) = dpo_batches(*args)
    return batch


def rows_of(loaded: torch_load.Loaded) -> list[training_rows.Row]:
    return training_rows.sft_rows(examples(Tokens(loaded.tokenizer))[:6], Tokens(loaded.tokenizer), 120, 1.0)[0]


def pairs_of(loaded: torch_load.Loaded, weight: float | None = None) -> list[training_rows.PairRow]:
    rows, _ = training_rows.dpo_rows(pairs(Tokens(loaded.tokenizer))[:6], Tokens(loaded.tokenizer), 120)
    return rows if weight is None else [replace(row, weight=weight) for row in rows]


def ids(row: training_rows.Row) -> tuple[list[int], list[int]]:
    """(prompt, completion)."""
    return [*row.shared, *row.ids[: row.prompt_length]], row.ids[row.prompt_length :]


def test_r_sft_of_equal_weights_is_the_stock_trainers_loss(
    sft: RSft, loaded: torch_load.Loaded, tiny_base: Path, tmp_path: Path
) -> None:
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    rows = rows_of(loaded)
    ours = sft.compute_loss(sft.model, sft_batch(rows, EVEN, 0, blank=0))
    sides = [ids(row) for row in rows]
    columns = [{"input_ids": asked + said, "labels": [-100] * len(asked) + said} for asked, said in sides]
    args = SFTConfig(
        str(tmp_path), max_length=None, use_cpu=True, bf16=False, activation_checkpointing=False, report_to="none"
    )
    model, _ = student(tiny_base)

    class Stock(SFTTrainer):  # type: ignore[misc]
        def _send_telemetry(self) -> None:
            """No test speaks to a network."""

    stock = Stock(model, args=args, processing_class=loaded.tokenizer, train_dataset=Dataset.from_list(columns))
    theirs = stock.compute_loss(stock.model, stock.data_collator(columns))
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-6)


@pytest.fixture(scope="module")
def stock_dpo(
    loaded: torch_load.Loaded, tiny_base: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[list[training_rows.PairRow], np.ndarray[Any, Any]], float]:
    """TRL's own DPO loss of pairs, given the reference's log-probabilities."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    def columns(rows: list[training_rows.PairRow]) -> list[dict[str, Any]]:
        return [
            {"prompt_ids": ids(row.chosen)[0], "chosen_ids": ids(row.chosen)[1], "rejected_ids": ids(row.rejected)[1]}
            for row in rows
        ]

    class Stock(DPOTrainer):  # type: ignore[misc]
        def _send_telemetry(self) -> None:
            """No test speaks to a network."""

        def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
            return dataset

    args = DPOConfig(
        str(tmp_path_factory.mktemp("stock")),
        beta=0.1,
        max_length=None,
        use_cpu=True,
        bf16=False,
        activation_checkpointing=False,
        report_to="none",
    )
    model, _ = student(tiny_base)
    data = Dataset.from_list(columns(pairs_of(loaded)))
    stock = Stock(model, args=args, processing_class=loaded.tokenizer, train_dataset=data)
    # As with precompute_ref_log_probs, without its folder of caches.
    stock.precompute_ref_logps = True

    def loss(rows: list[training_rows.PairRow], reference: np.ndarray[Any, Any]) -> float:
        batch = stock.data_collator(columns(rows))
        batch |= {
            "ref_chosen_logps": torch.tensor(reference[:, 0]),
            "ref_rejected_logps": torch.tensor(reference[:, 1]),
        }
        result: float = stock.compute_loss(stock.model, batch).item()
        return result

    return loss


REFERENCE = np.array([[-3, -4], [-2, -2.5], [-6, -1], [-0.5, -0.7], [-9, -2], [-1, -8]], np.float32)


def test_hs_dpo_of_weight_one_is_the_stock_trainers_loss_and_of_weight_two_its_double(
    dpo: HsDpo, loaded: torch_load.Loaded, stock_dpo: Callable[..., float]
) -> None:
    theirs = stock_dpo(pairs_of(loaded), REFERENCE)
    losses = [
        dpo.compute_loss(dpo.model, dpo_batch(pairs_of(loaded, weight), REFERENCE)).item() for weight in (1.0, 2.0)
    ]
    assert losses[0] == pytest.approx(theirs, abs=1e-6)
    assert losses[1] == pytest.approx(2 * theirs, abs=2e-6)
    assert abs(theirs - 0.6931) > 0.01


def test_the_reference_is_the_start_and_so_the_first_preference_is_log_two(
    dpo: HsDpo, loaded: torch_load.Loaded
) -> None:
    rows = pairs_of(loaded, 1.0)
    reference = torch_train.reference_logprobs(dpo.model, rows, 300)
    loss = dpo.compute_loss(dpo.model, dpo_batch(rows, reference))
    assert loss.item() == pytest.approx(0.693147, abs=1e-5)
    assert list(dpo.model.peft_config) == ["default"]


def test_the_term_beside_the_preference_is_the_chosen_completions_mean_token_loss(
    dpo: HsDpo, loaded: torch_load.Loaded, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = pairs_of(loaded, 0.0)
    monkeypatch.setattr(dpo, "settings", replace(EVEN, sft_weight=2.0))
    ours = dpo.compute_loss(dpo.model, dpo_batch(rows, REFERENCE))
    means = []
    for row in rows:
        prompt, completion = ids(row.chosen)
        logits = dpo.model(input_ids=torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1]
        means.append(torch.nn.functional.cross_entropy(logits, torch.tensor(completion)).item())
    assert ours.item() == pytest.approx(2.0 * sum(means) / len(means), abs=1e-5)


def mlx_name(name: str) -> str:
    """`base_model.model.model.layers.0.mlp.up_proj.lora_A.weight` as mlx-lm has it."""
    return name.removeprefix("base_model.model.").replace(".default", "").removesuffix(".weight").lower()


def on_mlx(base: Path, model: Any) -> mlx_load.Loaded:
    """The same base with the same adapter on MLX."""
    twin = mlx_load.load(str(base), None, quantise=False, fuse=False)
    mlx_adapter.add_new_adapter(twin.model, PLAIN)
    weights = torch_adapter.weights(model)
    twin.model.update(
        tree_unflatten([(mlx_name(name), mx.array(each.detach().T.numpy())) for name, each in weights.items()])
    )
    hidden, head = mlx_load.split(twin.model)
    return replace(twin, hidden=hidden, head=head)


def compare(trainer: Any, batch: dict[str, Any], twin: mlx_load.Loaded, loss: Any, arrays: Any) -> None:
    """Loss and every gradient within 1e-4."""
    arrays = [mx.array(each) for each in arrays]
    expected, wanted = nn.value_and_grad(twin.model, loss)(twin.model, *arrays)
    wanted = dict(tree_flatten(wanted))
    trainer.model.zero_grad()
    value = trainer.compute_loss(trainer.model, batch)
    value.backward()
    assert value.item() == pytest.approx(expected.item(), abs=1e-4)
    ours = {mlx_name(name): each.grad for name, each in trainer.model.named_parameters() if each.requires_grad}
    assert set(ours) == set(wanted)
    for name, gradient in ours.items():
        np.testing.assert_allclose(gradient.T.numpy(), np.array(wanted[name]), atol=1e-4, err_msg=name)
    assert max(float(each.abs().max()) for each in ours.values()) > 0.01


def test_r_sft_has_the_loss_and_gradients_of_mlx(sft: RSft, tiny_base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = replace(SETTINGS, word_dropout=0.2)
    monkeypatch.setattr(sft, "settings", settings)
    twin = on_mlx(tiny_base, sft.model)
    tokens = Tokens(twin.tokenizer)
    rows, _ = training_rows.sft_rows(examples(tokens)[:6], tokens, 120, 8.0)
    loss = mlx_losses.sft_loss(
        twin.head, mlx_losses.Shared(twin.hidden, rows[0].shared, Kind(True, 2)), settings.prompt_weight
    )
    arrays = training_rows.sft_batch(rows, settings, 5, blank=tokens.end)
    compare(sft, sft_batch(rows, settings, 5, blank=tokens.end), twin, loss, arrays)


def test_hs_dpo_has_the_loss_and_gradients_of_mlx(
    dpo: HsDpo, loaded: torch_load.Loaded, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dpo, "settings", replace(EVEN, sft_weight=2.0))
    rows = pairs_of(loaded)
    twin = on_mlx(tiny_base, dpo.model)
    shared = mlx_losses.Shared(twin.hidden, rows[0].chosen.shared, Kind(True, 2))
    loss = mlx_losses.dpo_loss(twin.head, shared, beta=0.1, sft_weight=2.0)
    compare(dpo, dpo_batch(rows, REFERENCE), twin, loss, training_rows.dpo_batch(rows, REFERENCE))


def test_logits_in_pieces_give_the_same_loss_and_gradients(
    sft: RSft, loaded: torch_load.Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wizloop.backends.torch import losses as torch_losses

    batch = sft_batch(rows_of(loaded), EVEN, 0, blank=0)
    results = []
    for size in (1024, 7):
        monkeypatch.setattr(torch_losses, "PIECE", size)
        sft.model.zero_grad()
        loss = sft.compute_loss(sft.model, batch)
        loss.backward()
        results.append([loss.detach(), *(each.grad for each in sft.model.parameters() if each.requires_grad)])
    for whole, pieces in zip(*results, strict=True):
        torch.testing.assert_close(whole, pieces, atol=1e-6, rtol=1e-5)


def gradients(trainer: Any, batches: list[dict[str, Any]]) -> list[Any]:
    """[loss, gradients ...] of a step in so many passes."""
    trainer.model.zero_grad()
    losses = [trainer.compute_loss(trainer.model, batch) for batch in batches]
    for loss in losses:
        loss.backward()
    return [sum(losses).detach(), *(each.grad for each in trainer.model.parameters() if each.requires_grad)]


@pytest.mark.parametrize("most", [1, 200])
def test_a_step_in_several_passes_has_the_loss_and_gradients_of_one(
    sft: RSft, dpo: HsDpo, loaded: torch_load.Loaded, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(sft, "settings", SETTINGS)
    rows, several = rows_of(loaded), pairs_of(loaded)
    by_size = [sft_batches(rows, SETTINGS, 2, blank=0, most=size) for size in (2048, most)]
    assert len(by_size[0]) == 1 < len(by_size[1])
    for one, other in zip(*(gradients(sft, each) for each in by_size), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
    by_size = [dpo_batches(several, REFERENCE, most=size) for size in (2048, most)]
    assert len(by_size[0]) == 1 < len(by_size[1])
    for one, other in zip(*(gradients(dpo, each) for each in by_size), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_trl_tells_nobody_that_it_was_used(tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trl.trainer import base_trainer

    told: list[object] = []
    monkeypatch.setattr(base_trainer, "send_telemetry", lambda **what: told.append(what))
    monkeypatch.delenv("CI", raising=False)
    model, loaded = student(tiny_base)
    sft_trainer(model, loaded, EVEN, tmp_path)
    assert told == []


def test_only_the_last_blocks_get_adapters_where_the_recipe_says_so(tiny_base: Path) -> None:
    loaded = torch_load.load(str(tiny_base), None, quantise=False, device="cpu")
    model = torch_adapter.add_new_adapter(loaded.model, replace(PLAIN, layers=1), seed=3)
    assert {name.split(".layers.")[1][0] for name in torch_adapter.weights(model)} == {"1"}


def test_an_export_tells_its_rotary_base_where_mlx_looks_for_it(tiny_base: Path, tmp_path: Path) -> None:
    base, to = tmp_path / "base", tmp_path / "to"
    shutil.copytree(tiny_base, base)
    to.mkdir()
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    (base / "config.json").write_text(json.dumps(config | {"rope_theta": 123.0}), encoding="utf-8")
    torch_export.export_safetensors(str(base), None, to)
    exported = mlx_load.load(str(to), None, quantise=False, fuse=True)
    probe = torch.tensor([[5, 6, 7, 8, 9, 10, 11, 12]])
    theirs = torch_load.load(str(base), None, quantise=False, device="cpu").model(input_ids=probe).logits
    np.testing.assert_allclose(np.array(exported.model(mx.array(probe.numpy()))), theirs.detach().numpy(), atol=1e-3)


def test_four_bits_without_bitsandbytes_are_refused_in_a_sentence(tiny_base: Path, tmp_path: Path) -> None:
    if importlib.util.find_spec("bitsandbytes"):
        pytest.skip("bitsandbytes is there")
    with pytest.raises(BackendError, match="needs bitsandbytes"):
        torch_export.export_nf4(str(tiny_base), None, tmp_path)
    assert not any(tmp_path.iterdir())


def test_four_bits_are_trained_over_and_exported(tiny_base: Path, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="4 bits on torch need bitsandbytes")
    tokens = Tokens(torch_load.load(str(tiny_base), None, quantise=False, device="cpu").tokenizer)
    taught, to = new(tmp_path / "taught"), new(tmp_path / "nf4")
    job = TrainJob(str(tiny_base), None, SETTINGS, PLAIN, taught, tmp_path / "ck", quantise=True)
    result = torch_train.train_sft(job, examples(tokens), nothing)
    assert result.losses[-1][1] < result.losses[0][1]
    torch_export.export_nf4(str(tiny_base), taught, to)
    assert {path.suffix for path in to.iterdir()} <= artifacts.ALLOWED_SUFFIXES
    exported = torch_load.load(str(to), None, quantise=False, device="cpu")
    whole = torch_load.load(str(tiny_base), taught, quantise=False, device="cpu")
    probe = torch.tensor([ids(rows_of(whole)[0])[0]])
    with torch.no_grad():
        four, full = (torch.softmax(each.model(input_ids=probe).logits[0, -1], -1) for each in (exported, whole))
    assert float((four - full).abs().max()) < 0.2
    assert "Linear4bit" in repr(exported.model)
    # Over weights of 4 bits an adapter stays beside them, and nothing is merged.
    assert "lora_A" in repr(torch_load.load(str(to), taught, quantise=False, device="cpu").model)
    with pytest.raises(BackendError, match="is quantized, and merging would round the adapter away"):
        torch_export.export_safetensors(str(to), taught, new(tmp_path / "merged"))
