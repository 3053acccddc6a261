"""What is exported answers like what was trained, in mlx-lm and in transformers."""

from pathlib import Path

import numpy as np
import pytest

from wizloop.backends.guard_types import Choice, Encoded, LoraShape, Part, Prompt, SftExample, TrainJob, TrainSettings
from wizloop.backends.mlx import export as mlx_export
from wizloop.backends.mlx import guard as mlx_guard
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


def test_four_bits_load_and_stay_near(tiny_base: Path, adapter: Path, tmp_path: Path) -> None:
    mlx_export.export_mlx_4bit(str(tiny_base), adapter, tmp_path)
    sizes = [sum(file.stat().st_size for file in folder.glob("*.safetensors")) for folder in (tmp_path, tiny_base)]
    assert sizes[0] < 0.4 * sizes[1]
    assert np.abs(scores(tmp_path) - scores(tiny_base, adapter)).max() < 0.25


def test_an_exported_adapter_loads_over_its_base(tiny_base: Path, adapter: Path, tmp_path: Path) -> None:
    mlx_export.export_adapter(str(tiny_base), adapter, tmp_path)
    np.testing.assert_allclose(scores(tiny_base, tmp_path), scores(tiny_base, adapter), atol=1e-6)
