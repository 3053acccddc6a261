"""An adapter of either layout, on either backend: asked, exported, and trained on from where it stands."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("trl", reason="training on torch needs the extra cuda")

import mlx.core as mx
import torch
from peft import PeftModel

from tests.backends.lessons import SETTINGS, examples, new, nothing, pairs, prompts
from wizloop.backends.guard_types import BadArtifact, Choice, Encoded, LoraShape, TrainJob
from wizloop.backends.mlx import adapter as mlx_adapter
from wizloop.backends.mlx import export as mlx_export
from wizloop.backends.mlx import guard as mlx_guard
from wizloop.backends.mlx import load as mlx_load
from wizloop.backends.mlx import train as mlx_train
from wizloop.backends.tokens import Tokens
from wizloop.backends.torch import adapter as torch_adapter
from wizloop.backends.torch import export as torch_export
from wizloop.backends.torch import guard as torch_guard
from wizloop.backends.torch import load as torch_load
from wizloop.backends.torch import train as torch_train
from wizloop.loop.guard.backend import Mlx, Torch

HARM = Choice((" harmful", " unharmful"))
LORA = LoraShape(rank=4, scale=1.5, dropout=0.0, layers=-1)
LAST, DORA = replace(LORA, layers=1), replace(LORA, method="dora")
# One step that moves nothing to speak of: what comes out is what training began with.
STILL = replace(SETTINGS, epochs=1, batch=24, lr=1e-9)
TORCH = Torch("cpu")
LAYOUTS = ("mlx", "peft", "mlx dora", "peft dora", "peft of the last block")


@pytest.fixture(scope="module")
def tokens(dense_base: Path) -> Tokens:
    return Tokens(torch_load.load(str(dense_base), None, quantise=False, device="cpu").tokenizer)


@pytest.fixture(scope="module")
def asked(tokens: Tokens) -> list[Encoded]:
    return prompts(tokens)[:6]


def by_mlx(base: Path, folder: Path, shape: LoraShape) -> Path:
    loaded = mlx_load.load(str(base), None, quantise=False, fuse=False)
    mx.random.seed(7)
    config = mlx_adapter.add_new_adapter(loaded.model, shape)
    for _, layer in loaded.model.named_modules():
        if "lora_b" in layer:
            layer["lora_b"] = mx.random.normal(layer["lora_b"].shape) * 0.5
        if "m" in layer:
            layer["m"] = layer["m"] * (1 + 0.2 * mx.random.normal(layer["m"].shape))
    mlx_adapter.write(folder, config, mlx_adapter.trainable(loaded.model))
    return folder


def by_torch(base: Path, folder: Path, shape: LoraShape) -> Path:
    loaded = torch_load.load(str(base), None, quantise=False, device="cpu")
    model = torch_adapter.add_new_adapter(loaded.model, shape, seed=1)
    draw = torch.Generator().manual_seed(2)
    for name, each in model.named_parameters():
        if "lora_B" in name:
            each.data = 0.3 * torch.randn(each.shape, generator=draw)
        if "magnitude" in name:
            each.data *= 1 + 0.2 * torch.randn(each.shape, generator=draw)
    torch_adapter.write_of(model, folder)
    return folder


@pytest.fixture(scope="module")
def adapters(dense_base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One in each layout."""
    new_folder = tmp_path_factory.mktemp
    return {
        "mlx": by_mlx(dense_base, new_folder("mlx"), LORA),
        "mlx dora": by_mlx(dense_base, new_folder("mlx_dora"), DORA),
        "peft dora": by_torch(dense_base, new_folder("peft_dora"), DORA),
        "peft": by_torch(dense_base, new_folder("peft"), LORA),
        "peft of the last block": by_torch(dense_base, new_folder("last"), LAST),
    }


def logits(base: Path, adapter: Path | None, asked: list[Encoded]) -> tuple[Any, Any]:
    """What comes next after each prompt, on MLX and on torch, [prompts, vocabulary] each."""
    ours = mlx_load.load(str(base), adapter, quantise=False, fuse=True).model
    theirs = torch_load.load(str(base), adapter, quantise=False, device="cpu").model
    rows = [[[*one.shared, *one.body]] for one in asked]
    with torch.no_grad():
        on_torch = [theirs(torch.tensor(row)).logits[0, -1].numpy() for row in rows]
    return np.array([np.array(ours(mx.array(row))[0, -1]) for row in rows]), np.array(on_torch)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_both_backends_give_the_same_logits(
    dense_base: Path, adapters: dict[str, Path], asked: list[Encoded], layout: str
) -> None:
    ours, theirs = logits(dense_base, adapters[layout], asked)
    np.testing.assert_allclose(ours, theirs, atol=1e-3)
    assert np.abs(ours - logits(dense_base, None, asked)[0]).max() > 1
    # How far the two words move depends on the base, which differs a little with the number of threads that built it.
    bare = mlx_guard.load(str(dense_base)).score(asked, HARM)
    assert np.abs(mlx_guard.load(str(dense_base), adapters[layout]).score(asked, HARM) - bare).max() > 0.003


def of_torch(base: Path, folder: Path, asked: list[Encoded]) -> Any:
    model = PeftModel.from_pretrained(
        torch_load.load(str(base), None, quantise=False, device="cpu").model, str(folder)
    ).eval()
    with torch.no_grad():
        rows = [torch.tensor([[*one.shared, *one.body]]) for one in asked]
        return np.array([model(row).logits[0, -1].numpy() for row in rows])


def of_mlx(base: Path, folder: Path, asked: list[Encoded]) -> Any:
    from mlx_lm.tuner.utils import load_adapters

    model = load_adapters(mlx_load.load(str(base), None, quantise=False, fuse=False).model, str(folder))
    model.eval()
    return np.array([np.array(model(mx.array([[*one.shared, *one.body]]))[0, -1]) for one in asked])


@pytest.mark.parametrize("layout", LAYOUTS[:4])
@pytest.mark.parametrize("export", [mlx_export, torch_export])
def test_what_is_merged_of_it_answers_alike(
    dense_base: Path, adapters: dict[str, Path], asked: list[Encoded], tmp_path: Path, export: Any, layout: str
) -> None:
    wanted = logits(dense_base, adapters[layout], asked)[0]
    whole = new(tmp_path / "whole")
    export.export_safetensors(str(dense_base), adapters[layout], whole)
    merged = torch_guard.load(str(whole))._loaded.model
    with torch.no_grad():
        found = [merged(torch.tensor([[*one.shared, *one.body]])).logits[0, -1].numpy() for one in asked]
    np.testing.assert_allclose(found, wanted, atol=1e-3)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("backend", "form"), [(Mlx(), "adapter"), (Mlx(), "adapter-mlx"), (TORCH, "adapter"), (TORCH, "adapter-mlx")]
)
def test_an_exported_adapter_loads_where_it_claims_to(
    dense_base: Path,
    adapters: dict[str, Path],
    asked: list[Encoded],
    tmp_path: Path,
    backend: Any,
    form: str,
    layout: str,
) -> None:
    wanted, to = logits(dense_base, adapters[layout], asked)[0], new(tmp_path / "alone")
    backend.export(form, str(dense_base), adapters[layout], to)
    read = of_torch if form == "adapter" else of_mlx
    np.testing.assert_allclose(read(dense_base, to, asked), wanted, atol=1e-3)


@pytest.mark.parametrize("kind", ["sft", "dpo"])
@pytest.mark.parametrize(
    ("train", "layout", "shape"),
    [
        (torch_train, "mlx", LORA),
        (mlx_train, "peft of the last block", LAST),
        (torch_train, "mlx dora", DORA),
        (mlx_train, "peft dora", DORA),
    ],
)
def test_training_goes_on_from_the_other_backends_adapter(
    dense_base: Path,
    adapters: dict[str, Path],
    tokens: Tokens,
    asked: list[Encoded],
    tmp_path: Path,
    train: Any,
    layout: str,
    shape: LoraShape,
    kind: str,
) -> None:
    job = TrainJob(str(dense_base), adapters[layout], STILL, shape, new(tmp_path / "to"), tmp_path / "ck")
    begin, lessons = (train.train_sft, examples(tokens)) if kind == "sft" else (train.train_dpo, pairs(tokens))
    result = begin(job, lessons, nothing)
    if kind == "dpo":
        # The start is the reference: beside the chosen completions' loss stands the preference of equals, log 2.
        assert result.losses[0][1] > 0.6931 * 0.9
    began = logits(dense_base, adapters[layout], asked)[0]
    for found in logits(dense_base, tmp_path / "to", asked):
        np.testing.assert_allclose(found, began, atol=1e-3)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"peft_type": "IA3"}, "is a IA3 adapter"),
        ({"rank_pattern": {"q_proj": 2}}, "mlx-lm has no rank_pattern"),
    ],
)
def test_an_adapter_of_peft_that_mlx_lm_has_no_word_for_is_refused(
    dense_base: Path, adapters: dict[str, Path], tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    folder = tmp_path / "changed"
    shutil.copytree(adapters["peft"], folder)
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | change), encoding="utf-8")
    with pytest.raises(BadArtifact, match=said):
        mlx_guard.load(str(dense_base), folder)
