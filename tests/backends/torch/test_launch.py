"""Training in two processes on the CPU gives the model of one process; what a process says that runs out of memory."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("trl", reason="training on torch needs the extra cuda")

import torch
from pydantic import TypeAdapter
from safetensors.numpy import load_file

from tests.backends.lessons import LORA, SETTINGS, new, nothing, pairs
from tests.loop.small_night import NOW, recipe
from wizloop.backends import devices, training_rows
from wizloop.backends.guard_types import BackendError, TrainJob
from wizloop.backends.tokens import Tokens
from wizloop.backends.torch import adapter as torch_adapter
from wizloop.backends.torch import launch as torch_launch
from wizloop.backends.torch import load as torch_load
from wizloop.backends.torch import train as torch_train
from wizloop.backends.torch.batches import Part, dpo_batches
from wizloop.backends.training_memory import most_tokens
from wizloop.backends.training_run import FIRST_STEP, LOADING, reference_of
from wizloop.loop.context import Context
from wizloop.loop.guard.backend import Backend, Mlx, choose_backend
from wizloop.store.db import Store


def test_rows_are_shared_without_rest_and_a_process_without_one_counts_nothing() -> None:
    assert [Part(rank, 2).of(5) for rank in (0, 1)] == [([0, 2, 4], 1.0), ([1, 3], 1.0)]
    assert [Part(rank, 2).of(1) for rank in (0, 1)] == [([0], 1.0), ([0], 0.0)]


def test_parts_of_a_step_have_as_many_passes_whatever_their_rows(tiny_base: Path) -> None:
    tokens = Tokens(torch_load.load(str(tiny_base), None, quantise=False, device="cpu").tokenizer)
    rows, _ = training_rows.dpo_rows(pairs(tokens)[:5], tokens, 120)
    reference = np.zeros((5, 2), np.float32)
    alone = dpo_batches(rows, reference, most=1)
    parts = [dpo_batches(rows, reference, part=Part(rank, 2), most=1) for rank in (0, 1)]
    assert [len(each) for each in (alone, *parts)] == [5, 3, 3]
    shares = [[5 * float(batch["shares"].sum()) for batch in part] for part in parts]
    assert shares == [pytest.approx([1.0, 1.0, 1.0]), pytest.approx([1.0, 1.0, 0.0])]


def test_what_one_backend_alone_can_do_is_refused_on_the_other_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=r'train\.launch = "accelerate" needs torch'):
        choose_backend("mlx", "auto", 2)
    with pytest.raises(BackendError, match="the MLX backend does not write nf4"):
        Mlx().export("nf4", "base", tmp_path, tmp_path)


@pytest.fixture(scope="module")
def start(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter that says something."""
    folder = tmp_path_factory.mktemp("start")
    loaded = torch_load.load(str(tiny_base), None, quantise=False, device="cpu")
    model = torch_adapter.add_new_adapter(loaded.model, LORA, seed=2)
    for name, each in model.named_parameters():
        if "lora_B" in name:
            each.data = 0.05 * torch.randn(each.shape, generator=torch.Generator().manual_seed(8))
    torch_adapter.write_of(model, folder)
    return folder


def apart(some: dict[str, Any], others: dict[str, Any]) -> float:
    return float(np.sqrt(sum(np.square(each - others[name]).sum() for name, each in some.items())))


def by_recipe(folder: Path, **train: Any) -> Backend:
    """Return what a recipe trains with, on the CPU."""
    asked = recipe(guard={"backend": "cuda", "device": "cpu"}, train=train)
    with Store.create(folder) as store:
        return Context(store, folder, asked, 0, "train", lambda: NOW, lambda: False).backend


# The divided base goes through a step in several passes, of which the two processes need different numbers.
@pytest.mark.recipe_key("train.launch")
@pytest.mark.recipe_key("train.processes")
@pytest.mark.recipe_key("train.sharding")
@pytest.mark.parametrize(("sharding", "scale"), [("none", 1.0), pytest.param("fsdp", 0.04, marks=pytest.mark.long)])
def test_two_processes_share_the_pairs_of_hs_dpo_and_end_with_the_model_of_one(
    tiny_base: Path, start: Path, tmp_path: Path, sharding: str, scale: float
) -> None:
    tokens = Tokens(torch_load.load(str(tiny_base), None, quantise=False, device="cpu").tokenizer)
    # Steps of 5, 5 and 1 pairs: in one of them the second process has none of its own.
    rows, short = pairs(tokens)[:11], replace(SETTINGS, epochs=1, batch=5, lr=5e-4, scale=scale)
    job = TrainJob(str(tiny_base), start, short, LORA, new(tmp_path / "one"), tmp_path / "ck1")
    alone: list[str] = []
    one = by_recipe(tmp_path / "w1", launch="one").train_dpo(job, rows, nothing, alone.append)
    assert alone[0] == LOADING
    several = by_recipe(tmp_path / "w2", launch="accelerate", processes=2, sharding=sharding)
    seen: list[int] = []
    waits: list[str] = []
    other = replace(job, to=new(tmp_path / "two"), checkpoint=tmp_path / "ck2")
    two = several.train_dpo(other, rows, lambda step, *_: seen.append(step), waits.append)
    assert seen == [1, 2, 3]
    assert (waits[:2], waits[-1]) == ([LOADING, reference_of(0, 6)], FIRST_STEP)
    assert [loss for _, loss in two.losses] == pytest.approx([loss for _, loss in one.losses], abs=1e-5)
    begun, ours, theirs = (
        load_file(each / "adapter_model.safetensors") for each in (start, tmp_path / "one", tmp_path / "two")
    )
    # Adam may carry the sum's last bit into one number of thousands; equal weights for all pairs would cost 2 %.
    assert apart(theirs, ours) < 1e-3 * apart(ours, begun)
    assert not (tmp_path / "ck2").exists()


def test_a_base_is_divided_among_two_at_least() -> None:
    assert torch_launch.count(3, True) == 3
    assert torch_launch.count(1, False) == 1
    with pytest.raises(BackendError, match=r"set train\.processes to 2 or more"):
        torch_launch.count(1, True)


@pytest.mark.parametrize(
    ("error", "ran_out"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."), True),
        (torch.AcceleratorError("CUDA error: out of memory"), True),
        (RuntimeError("[metal::malloc] Unable to allocate 17179869184 bytes."), True),
        (RuntimeError("expected scalar type Float but found BFloat16"), False),
        (OSError("out of memory"), False),
    ],
)
def test_memory_that_ran_out_is_told_from_other_errors(error: BaseException, ran_out: bool) -> None:
    assert devices.out_of_memory(error) is ran_out


def test_the_hosts_memory_too() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60)
    assert devices.out_of_memory(caught.value)


def test_a_process_that_runs_out_of_memory_leaves_word_for_the_one_that_started_it(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")

    job = TrainJob("b", None, SETTINGS, LORA, tmp_path, tmp_path)
    path = tmp_path / "job.json"
    path.write_bytes(TypeAdapter(torch_launch.Order).dump_json(torch_launch.Order("sft", job, [], "cpu", False)))
    assert isinstance(torch_launch.failure(tmp_path, "it failed"), BackendError)
    monkeypatch.setattr(torch_train, "train_sft", full)
    with pytest.raises(torch.OutOfMemoryError):
        torch_launch.main(path)
    found = torch_launch.failure(tmp_path, "it failed")
    assert isinstance(found, MemoryError)
    assert str(found) == "it failed: CUDA out of memory. Tried to allocate 20.00 MiB."


def test_less_memory_makes_smaller_passes_and_no_other_training() -> None:
    assert [most_tokens("torch", gpu=False, scale=scale) for scale in (1.0, 0.25)] == [2048, 512]
    assert repr(replace(SETTINGS, scale=0.25)) == repr(SETTINGS)
