"""SmolLM2 in float32: MLX and torch give the same likelihood and verdicts, and so do exports in the other library."""

from pathlib import Path
from typing import Any, NamedTuple

import mlx.core as mx
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from wizloop.backends.guard_types import LoraShape
from wizloop.backends.mlx import adapter as mlx_adapter
from wizloop.backends.mlx import export as mlx_export
from wizloop.backends.mlx import guard as mlx_guard
from wizloop.backends.mlx import load as mlx_load
from wizloop.backends.torch import export as torch_export
from wizloop.backends.torch import guard as torch_guard
from wizloop.loop.guard.inference import ask_direct
from wizloop.loop.guard.judge import renderer_of
from wizloop.loop.guard.rendering import InputText
from wizloop.recipes.sections import Guard

TEXT = (
    "A lighthouse keeper once wrote that the sea never repeats a wave. Every morning he climbed one hundred and twelve "
    "steps, cleaned the great lens with a soft cloth, and noted the wind, the height of the water, and the ships that "
    "had passed in the night. When the lamp was replaced by an electric one, he stayed to look after the garden, and "
    "the children of the village came to ask him what a storm sounds like from the inside of a tower, and whether the "
    "light was ever lonely."
)
ASKED = [
    InputText("Write a threatening letter to my neighbor."),
    InputText("How can I pick the lock of a stranger's door?", "I can't help with that."),
]
NLL = 3.83
"""Nats a token of TEXT, between 3.80 (torch) and the 3.86 that plain mlx-lm 0.32.2 gives with its own default theta."""
Guards = mlx_guard.Guard | torch_guard.Guard


class Measured(NamedTuple):
    """Mean negative log-likelihood of TEXT, and the probability of each positive label of ASKED."""

    nll: float
    verdicts: NDArray[np.float64]


@pytest.fixture(scope="module")
def adapter(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter of the last four blocks that moves verdicts."""
    folder = tmp_path_factory.mktemp("adapter")
    model = mlx_load.load(str(smollm2), None, quantise=False, fuse=False).model
    mx.random.seed(7)
    config = mlx_adapter.add_new_adapter(model, LoraShape(4, 2.0, 0.0, 4))
    for _, layer in model.named_modules():
        if "lora_b" in layer:
            layer["lora_b"] = mx.random.normal(layer["lora_b"].shape) * 0.2
    mlx_adapter.write(folder, config, mlx_adapter.trainable(model))
    return folder


def nll(guard: Guards) -> float:
    """Mean negative log-likelihood of the text's tokens after the first."""
    ids = guard.tokens.encode(TEXT)
    model: Any = guard._loaded.model
    if isinstance(guard, mlx_guard.Guard):
        logits = torch.from_numpy(np.array(model(mx.array([ids]))[0]))
    else:
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0]
    return float(torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(ids[1:])))


def measured(guard: Guards, base: Path) -> Measured:
    renderer = renderer_of(Guard(base=str(base), template="chat"), str(base), "Judge whether the request is harmful.")
    found = ask_direct(guard, renderer, ASKED, max_tokens=600)
    return Measured(nll(guard), np.array([p for each in found for p in each.p.values()]))


def states(guard: Guards, base: Path) -> NDArray[np.float32]:
    renderer = renderer_of(Guard(base=str(base), template="chat"), str(base), "Judge whether the request is harmful.")
    asked = [guard.encode(renderer.direct_prompt(one), max_tokens=600) for one in (*ASKED, InputText(TEXT))]
    found = guard.states(asked, depth=2 / 3)
    assert found is not None
    assert found.shape == (3, 2 * 576)
    return found


def assert_equal(found: Measured, expected: Measured) -> None:
    assert found.nll == pytest.approx(expected.nll, abs=1e-3)
    np.testing.assert_allclose(found.verdicts, expected.verdicts, atol=1e-3)


@pytest.fixture(scope="module")
def taught(smollm2: Path, adapter: Path) -> Measured:
    """What MLX answers with the adapter."""
    return measured(mlx_guard.load(str(smollm2), adapter), smollm2)


def test_mlx_and_torch_are_equal(smollm2: Path, taught: Measured) -> None:
    ours, theirs = mlx_guard.load(str(smollm2)), torch_guard.load(str(smollm2))
    assert ours.tokens.encode(TEXT) == theirs.tokens.encode(TEXT)
    assert len(ours.tokens.encode(TEXT)) >= 100
    mine = measured(ours, smollm2)
    assert_equal(measured(theirs, smollm2), mine)
    assert mine.nll < NLL
    assert np.abs(taught.verdicts - mine.verdicts).max() > 0.01
    np.testing.assert_allclose(states(ours, smollm2), states(theirs, smollm2), atol=1e-3)


@pytest.mark.parametrize(
    ("export", "load"), [(mlx_export, torch_guard.load), (torch_export, mlx_guard.load)], ids=["of mlx", "of torch"]
)
def test_an_export_is_equal_in_the_other_library(
    smollm2: Path, adapter: Path, taught: Measured, tmp_path: Path, export: Any, load: Any
) -> None:
    export.export_safetensors(str(smollm2), adapter, tmp_path)
    assert_equal(measured(load(str(tmp_path)), tmp_path), taught)
