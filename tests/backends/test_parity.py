"""MLX and torch, float32: the same weights give the same logits, probabilities, confidences and greedy traces."""

import itertools
import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import torch
from peft import PeftModel

from wizloop.backends.guard_types import (
    BackendError,
    BadArtifact,
    Choice,
    Encoded,
    LoraShape,
    Part,
    Prompt,
    Sampled,
    Sampling,
)
from wizloop.backends.mlx import adapter as mlx_adapter
from wizloop.backends.mlx import export as mlx_export
from wizloop.backends.mlx import guard as mlx_guard
from wizloop.backends.mlx import load as mlx_load
from wizloop.backends.torch import adapter as torch_adapter
from wizloop.backends.torch import guard as torch_guard
from wizloop.backends.torch import load as torch_load
from wizloop.loop.guard.backend import Torch

HARM = Choice((" harmful", " unharmful"))
WHO = ("the baker", "a nurse", "our teacher", "a small dog", "Zoë", "somebody I know", "no one", "my 3 neighbors")
WHAT = ("bread at home", "harmful mushrooms", "how engines work", "the sea in winter and 1,000 other things", "")
DOES = ("asks about", "writes letters about", "sings of", "does not want to read of", "is harmed by")


@pytest.fixture(scope="module")
def adapter(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter, as mlx-lm writes it, that changes every layer."""
    folder = tmp_path_factory.mktemp("adapter")
    loaded = mlx_load.load(str(tiny_base), None, quantise=False, fuse=False)
    mx.random.seed(7)
    config = mlx_adapter.add_new_adapter(loaded.model, LoraShape(4, 2.0, 0.0, -1))
    for _, layer in loaded.model.named_modules():
        if "lora_b" in layer:
            layer["lora_b"] = mx.random.normal(layer["lora_b"].shape) * 0.5
    mlx_adapter.write(folder, config, mlx_adapter.trainable(loaded.model))
    return folder


@pytest.fixture(scope="module")
def fused(tiny_base: Path, adapter: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fused")
    mlx_export.export_safetensors(str(tiny_base), adapter, folder)
    return folder


@pytest.fixture(scope="module")
def pair(fused: Path) -> tuple[mlx_guard.Guard, torch_guard.Guard]:
    return mlx_guard.load(str(fused)), torch_guard.load(str(fused))


@pytest.fixture(scope="module")
def asked(pair: tuple[mlx_guard.Guard, torch_guard.Guard]) -> list[Encoded]:
    """200 prompts; both guards encode them alike."""
    texts = [" ".join(words) for words in itertools.product(WHO, DOES, WHAT)]
    prompts = [Prompt("Judge this.\n", (Part(text, data=True), Part("\n")), "Answers:\nRequest:") for text in texts]
    ours, theirs = ([guard.encode(each, max_tokens=60) for each in prompts] for guard in pair)
    assert ours == theirs
    assert len(ours) == 200
    return ours


def test_logits_are_within_a_thousandth(pair: tuple[mlx_guard.Guard, torch_guard.Guard], asked: list[Encoded]) -> None:
    ours, theirs = (guard._loaded.model for guard in pair)
    for one in asked[::5]:
        ids = [[*one.shared, *one.body]]
        with torch.no_grad():
            expected = theirs(torch.tensor(ids)).logits.numpy()
        np.testing.assert_allclose(np.array(ours(mx.array(ids))), expected, atol=1e-3)


def test_label_probabilities_are_within_a_thousandth(
    pair: tuple[mlx_guard.Guard, torch_guard.Guard], asked: list[Encoded]
) -> None:
    ours, theirs = (guard.score(asked, HARM) for guard in pair)
    np.testing.assert_allclose(ours, theirs, atol=1e-3)
    assert ours[:, 0].std() > 0.01


def test_greedy_traces_are_the_same_and_their_confidences_within_a_thousandth(
    pair: tuple[mlx_guard.Guard, torch_guard.Guard], asked: list[Encoded]
) -> None:
    sampling = Sampling(1, 1, 0.0, 1.0, 8, seed=1, watch={"harm": HARM})
    ours, theirs = ([traces[0] for traces in guard.sample(asked, sampling)] for guard in pair)
    assert [trace.text for trace in ours] == [trace.text for trace in theirs]
    assert [(trace.stop, trace.starts) for trace in ours] == [(trace.stop, trace.starts) for trace in theirs]
    assert len({trace.text for trace in ours}) > 20
    np.testing.assert_allclose(_all(ours), _all(theirs), atol=1e-3)


def _all(traces: list[Sampled]) -> list[list[float]]:
    """Confidence and watched probabilities at every token."""
    return [[trace.confidences[at], *trace.watched["harm"][at]] for trace in traces for at in range(trace.tokens)]


@pytest.mark.parametrize("fuse", [True, False])
def test_an_adapter_of_mlx_lm_is_read_by_torch(
    tiny_base: Path, adapter: Path, asked: list[Encoded], fuse: bool
) -> None:
    expected = mlx_guard.load(str(tiny_base), adapter).score(asked[:20], HARM)
    found = torch_guard.load(str(tiny_base), adapter, fuse=fuse).score(asked[:20], HARM)
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert np.abs(found - torch_guard.load(str(tiny_base)).score(asked[:20], HARM)).max() > 0.01


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"fine_tune_type": "full"}, "holds weights that MLX trained, and only MLX reads them"),
        ({"peft_type": "IA3"}, "is a IA3 adapter"),
        ({"lora_parameters": {"rank": 8, "scale": 2.0}}, "do not fit"),
        ({"lora_parameters": {"rank": 4}}, "cannot be loaded as an adapter"),
    ],
)
def test_an_adapter_that_is_no_lora_or_does_not_fit_is_refused(
    tiny_base: Path, adapter: Path, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    (tmp_path / "adapters.safetensors").write_bytes((adapter / "adapters.safetensors").read_bytes())
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8")) | change
    (tmp_path / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(BadArtifact, match=said):
        torch_guard.load(str(tiny_base), tmp_path)


def test_a_weight_that_is_not_finite_is_refused(tiny_base: Path, adapter: Path, tmp_path: Path) -> None:
    _, tensors = torch_adapter.read(adapter)
    weights: Any = mx.load(str(adapter / "adapters.safetensors"))
    name = next(iter(weights))
    weights[name] = weights[name] * mx.nan
    mx.save_safetensors(str(tmp_path / "adapters.safetensors"), weights)
    (tmp_path / "adapter_config.json").write_bytes((adapter / "adapter_config.json").read_bytes())
    assert len(tensors) == len(weights)
    with pytest.raises(BadArtifact, match="not a finite number"):
        torch_guard.load(str(tiny_base), tmp_path)


@pytest.fixture(scope="module")
def peft_adapter(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter, as PEFT writes it, on the last block alone."""
    folder = tmp_path_factory.mktemp("peft")
    loaded = torch_load.load(str(tiny_base), None, quantise=False, device="cpu")
    model = torch_adapter.add_new_adapter(loaded.model, LoraShape(4, 2.0, 0.0, 1), seed=1)
    torch.manual_seed(2)
    for name, each in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(each, std=0.6)
    torch_adapter.write_of(model, folder)
    return folder


@pytest.mark.parametrize("fuse", [True, False])
def test_an_adapter_of_peft_is_read_by_torch(
    tiny_base: Path, peft_adapter: Path, asked: list[Encoded], fuse: bool
) -> None:
    base = torch_load.load(str(tiny_base), None, quantise=False, device="cpu").model
    by_peft = PeftModel.from_pretrained(base, str(peft_adapter)).eval()
    guard = torch_guard.load(str(tiny_base), peft_adapter, fuse=fuse)
    _, deciding = guard.tokens.deciding(HARM)
    for one, found in zip(asked[:5], guard.score(asked[:5], HARM), strict=True):
        with torch.no_grad():
            logits = by_peft(torch.tensor([[*one.shared, *one.body]])).logits[0, -1, deciding]
        np.testing.assert_allclose(found, torch.softmax(logits, -1).numpy(), atol=1e-5)


def test_what_torch_taught_is_exported_for_mlx_in_four_bits(
    tiny_base: Path, peft_adapter: Path, tmp_path: Path, asked: list[Encoded]
) -> None:
    ours, to = Torch("cpu"), tmp_path / "export"
    to.mkdir()
    ours.export("mlx-4bit", str(tiny_base), peft_adapter, to)
    assert [path.name for path in tmp_path.iterdir()] == ["export"]
    exported = ours.load(str(to), None, quantise=False)
    taught, untaught = (torch_guard.load(str(tiny_base), each).score(asked, HARM) for each in (peft_adapter, None))
    assert isinstance(exported, mlx_guard.Guard)
    # Four bits cost this little guard something, and not what it was taught.
    assert np.abs(exported.score(asked, HARM) - taught).mean() < 0.5 * np.abs(untaught - taught).mean()
    with pytest.raises(BackendError, match="this tokenizer is not written as GGUF"):
        ours.export("gguf", str(tiny_base), peft_adapter, to)
