"""What is exported answers like what was trained, in mlx-lm and in transformers."""

import json
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm import load

from wizloop.backends.guard_types import (
    BadArtifact,
    Choice,
    Encoded,
    LoraShape,
    Part,
    Prompt,
    SftExample,
    TrainJob,
    TrainSettings,
)
from wizloop.backends.mlx import adapter as mlx_adapter
from wizloop.backends.mlx import export as mlx_export
from wizloop.backends.mlx import guard as mlx_guard
from wizloop.backends.mlx import load as mlx_load
from wizloop.backends.mlx import train as mlx_train

HARM = Choice((" harmful", " unharmful"))


def asked(guard: mlx_guard.Guard) -> list[Encoded]:
    texts = [
        "the baker asks about bread",
        "a nurse sings of the sea in winter",
        "our teacher is afraid of harmful mushrooms",
    ]
    return [
        guard.encode(Prompt("", (Part(text, data=True), Part("\n")), "Answers:\nRequest:"), max_tokens=60)
        for text in texts
    ]


@pytest.fixture(scope="module")
def adapter(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapter")
    guard = mlx_guard.load(str(tiny_base))
    examples = [SftExample(i, each, [" harmful", " unharmful"][i % 3 // 2]) for i, each in enumerate(asked(guard) * 6)]
    settings = TrainSettings(epochs=4, batch=6, lr=3e-3, seed=1, checkpoint_every=100, max_tokens=90)
    job = TrainJob(str(tiny_base), None, settings, LoraShape(4, 2.0, 0.0, -1), folder, folder.parent / "ck")
    mlx_train.train_sft(job, examples, lambda *_: None)
    return folder


def scores(
    base: Path, adapter: Path | None = None, *, fuse: bool = True
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    guard = mlx_guard.load(str(base), adapter, fuse=fuse)
    return guard.score(asked(guard), HARM)


def test_merged_weights_answer_like_the_adapter(tiny_base: Path, adapter: Path, tmp_path: Path) -> None:
    mlx_export.export_safetensors(str(tiny_base), adapter, tmp_path)
    trained = scores(tiny_base, adapter, fuse=False)
    np.testing.assert_allclose(scores(tmp_path), trained, atol=1e-5)
    assert np.abs(trained - scores(tiny_base)).max() > 0.1


def test_transformers_loads_the_merged_weights_and_agrees(tiny_base: Path, adapter: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="transformers needs torch to run the export")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    mlx_export.export_safetensors(str(tiny_base), adapter, tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    guard = mlx_guard.load(str(tiny_base), adapter)
    _, deciding = guard.tokens.deciding(HARM)
    for one, expected in zip(asked(guard), scores(tiny_base, adapter), strict=True):
        assert tokenizer.decode(list(one.body)) == guard.tokens.decode(one.body)
        with torch.no_grad():
            logits = model(torch.tensor([list(one.body)])).logits[0, -1, deciding]
        np.testing.assert_allclose(torch.softmax(logits, dim=-1).numpy(), expected, atol=1e-4)


@pytest.mark.parametrize(("bits", "share", "near"), [(4, 0.4, 0.25), (8, 0.6, 0.03)])
def test_rounded_weights_load_and_stay_near(
    tiny_base: Path, adapter: Path, tmp_path: Path, bits: int, share: float, near: float
) -> None:
    mlx_export.export_quantized(str(tiny_base), adapter, tmp_path, bits=bits)
    sizes = [sum(file.stat().st_size for file in folder.glob("*.safetensors")) for folder in (tmp_path, tiny_base)]
    assert sizes[0] < share * sizes[1]
    assert np.abs(scores(tmp_path) - scores(tiny_base, adapter)).max() < near


def test_rounded_weights_are_read_on_a_cpu_as_the_numbers_that_they_are(
    tiny_base: Path, adapter: Path, tmp_path: Path
) -> None:
    mlx_export.export_quantized(str(tiny_base), adapter, tmp_path, bits=4)
    ours = mlx_load.load(str(tmp_path), None, quantise=False, fuse=True)
    assert "quantization" not in ours.config
    theirs = load(str(tmp_path))[0]
    tokens = mx.arange(40)[None]
    np.testing.assert_allclose(np.array(ours.model(tokens)), np.array(theirs(tokens)), atol=1e-4)


@pytest.mark.parametrize("write", [mlx_export.export_adapter, mlx_export.export_adapter_mlx])
def test_an_exported_adapter_loads_over_its_base(
    tiny_base: Path, adapter: Path, tmp_path: Path, write: Callable[[str, Path, Path], None]
) -> None:
    write(str(tiny_base), adapter, tmp_path)
    np.testing.assert_allclose(scores(tiny_base, tmp_path), scores(tiny_base, adapter), atol=1e-6)


def test_mlx_lm_loads_its_own_layout(tiny_base: Path, adapter: Path, tmp_path: Path) -> None:
    mlx_export.export_adapter_mlx(str(tiny_base), adapter, tmp_path)
    model = load(str(tiny_base), adapter_path=str(tmp_path))[0]
    _, deciding = mlx_guard.load(str(tiny_base)).tokens.deciding(HARM)
    for one, expected in zip(asked(mlx_guard.load(str(tiny_base))), scores(tiny_base, adapter), strict=True):
        logits = model(mx.array([[*one.shared, *one.body]]))[0, -1][mx.array(deciding)]
        np.testing.assert_allclose(np.array(mx.softmax(logits)), expected, atol=1e-3)


def test_peft_is_told_where_the_hub_has_the_base(adapter: Path, tmp_path: Path) -> None:
    mlx_export.export_adapter("owner/guard", adapter, tmp_path)
    named = json.loads((tmp_path / "adapter_config.json").read_text())["base_model_name_or_path"]
    assert named == json.loads((tmp_path / "base.json").read_text())["base"] == "owner/guard"


def test_weights_that_peft_has_no_name_for_are_refused(tmp_path: Path) -> None:
    experts = {"model.layers.0.mlp.switch_mlp.up_proj.lora_a": mx.zeros((4, 2, 8))}
    with pytest.raises(BadArtifact, match="has no name in PEFT's layout: export adapter-mlx"):
        mlx_adapter.write_peft(tmp_path, {"lora_parameters": {"rank": 2, "scale": 1.0}}, experts)
