"""Training in two processes on the CPU gives the model of one process."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("trl", reason="training on torch needs the extra cuda")

import torch
from safetensors.numpy import load_file

from tests.backends.lessons import LORA, SETTINGS, new, nothing, pairs
from wizloop.backends import torch_adapter, torch_load, torch_train
from wizloop.backends.tokens import Tokens
from wizloop.backends.guard_types import BackendError
from wizloop.backends.torch_batches import Part
from wizloop.loop.guard.backend import Mlx, chosen


def test_rows_are_shared_without_rest_and_a_process_without_one_counts_nothing() -> None:
    assert [Part(rank, 2).of(5) for rank in (0, 1)] == [([0, 2, 4], 1.0), ([1, 3], 1.0)]
    assert [Part(rank, 2).of(1) for rank in (0, 1)] == [([0], 1.0), ([0], 0.0)]


def test_what_one_backend_alone_can_do_is_refused_on_the_other_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=r'train\.launch is "accelerate", which is torch'):
        chosen("mlx", "auto", 2)
    with pytest.raises(BackendError, match="the MLX backend does not write nf4"):
        Mlx().export("nf4", "base", tmp_path, tmp_path)


def test_two_processes_share_the_pairs_of_hs_dpo_and_end_with_the_model_of_one(tiny_base: Path, tmp_path: Path) -> None:
    loaded = torch_load.load(str(tiny_base), None, quantise=False, device="cpu")
    start = new(tmp_path / "start")
    model = torch_adapter.add_new_adapter(loaded.model, LORA, seed=2)
    for name, each in model.named_parameters():
        if "lora_B" in name:
            each.data = 0.05 * torch.randn(each.shape, generator=torch.Generator().manual_seed(8))
    torch_adapter.write(start, model)
    # Steps of 5, 5 and 1 pairs: in one of them the second process has none of its own.
    rows, short = pairs(Tokens(loaded.tokenizer))[:11], replace(SETTINGS, epochs=1, batch=5)
    args = (str(tiny_base), start, rows, short, LORA)
    one = torch_train.train_dpo(*args, to=new(tmp_path / "one"), checkpoint=tmp_path / "ck1", on_step=nothing)
    seen: list[int] = []
    two = chosen("cuda", "cpu", 2).train_dpo(
        *args,
        to=new(tmp_path / "two"),
        checkpoint=tmp_path / "ck2",
        on_step=lambda step, *_: seen.append(step),
        quantise=False,
    )
    assert seen == [1, 2, 3]
    assert [loss for _, loss in two.losses] == pytest.approx([loss for _, loss in one.losses], abs=1e-4)
    ours, theirs = (load_file(tmp_path / name / torch_adapter.ADAPTER) for name in ("one", "two"))
    for name, each in ours.items():
        np.testing.assert_allclose(theirs[name], each, atol=1e-4, err_msg=name)
    assert not (tmp_path / "ck2").exists()
