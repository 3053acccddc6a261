"""What only the torch backend must hold: other architectures, its own drawing, devices, what it refuses to load."""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from wizloop.backends import artifacts, devices
from wizloop.backends.guard_types import (
    BackendError,
    BadArtifact,
    Choice,
    Encoded,
    LoraShape,
    ModelMissing,
    Part,
    Prompt,
    Sampling,
)
from wizloop.backends.sampling import nucleus
from wizloop.backends.torch import adapter as torch_adapter
from wizloop.backends.torch import guard as torch_guard

HARM = Choice((" harmful", " unharmful"))
TEXTS = ["the baker asks about bread", "a nurse", "our teacher is afraid of harmful mushrooms " * 4, "how engines work"]
SHAPE = {
    "vocab_size": 700,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "eos_token_id": 0,
    "initializer_range": 0.3,
}
KINDS: dict[str, dict[str, Any]] = {
    "qwen3": {},
    "mistral": {"sliding_window": 8},
    "gemma2": {"sliding_window": 8, "final_logit_softcapping": 3.0},
    "granite": {"logits_scaling": 4.0},
    "cohere": {"logit_scale": 0.25},
}


def made(kind: str, folder: Path, tiny_base: Path, **more: Any) -> str:
    """A random model of this kind, with the tiny guard's tokenizer."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(1)
    config = AutoConfig.for_model(kind, **(SHAPE | KINDS.get(kind, {}) | more))
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(tiny_base / name, folder / name)
    return str(folder)


def asked(guard: torch_guard.Guard) -> list[Encoded]:
    prompts = [Prompt("Judge this.\n", (Part(text, data=True), Part("\n")), "Reasoning:\n") for text in TEXTS]
    return [guard.encode(each, max_tokens=60) for each in prompts]


def alone(guard: torch_guard.Guard, ids: list[int]) -> Any:
    """Logits of what comes next, by the plain model on the whole text."""
    with torch.no_grad():
        return guard._loaded.model(torch.tensor([ids]), use_cache=False).logits[0, -1].double()


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_other_architectures_answer_in_batches_as_alone(kind: str, tiny_base: Path, tmp_path: Path) -> None:
    guard = torch_guard.load(made(kind, tmp_path, tiny_base))
    prompts = asked(guard)
    _, deciding = guard.tokens.deciding(HARM)
    expected = [torch.softmax(alone(guard, [*one.shared, *one.body])[deciding], -1).numpy() for one in prompts]
    np.testing.assert_allclose(guard.score(prompts, HARM), expected, atol=1e-4)
    # Few rows, so that rows join and leave while others are being written.
    for one, [trace] in zip(prompts, guard.sample(prompts, Sampling(1, 1, 0.0, 1.0, 6, seed=1, rows=3)), strict=True):
        ids = [*one.shared, *one.body]
        for _ in range(trace.tokens):
            ids.append(int(alone(guard, ids).argmax()))
        assert trace.text == guard.tokens.decode(ids[-trace.tokens :])


def test_a_trace_is_the_same_whatever_it_is_drawn_beside(tiny_base: Path, tmp_path: Path) -> None:
    # Twenty ends, so that rows are renewed at different steps; the tiny guard's own traces are too short to differ.
    guard = torch_guard.load(made("qwen3", tmp_path, tiny_base, eos_token_id=[0, *range(20, 40)]))
    prompts = asked(guard)

    def texts(least: int, rows: int) -> list[list[str]]:
        drawn = guard.sample(prompts, Sampling(least, least, 1.0, 0.95, 70, seed=5, rows=rows))
        return [[trace.text for trace in traces] for traces in drawn]

    whole = texts(3, 128)
    assert texts(3, 2) == whole
    assert texts(1, 128) == [traces[:1] for traces in whole]
    assert len({text for traces in whole for text in traces}) == 12


def test_a_token_that_the_model_names_as_an_end_ends_a_trace(tiny_base: Path, tmp_path: Path) -> None:
    free = torch_guard.load(made("qwen3", tmp_path / "one", tiny_base))
    [[trace]] = free.sample(asked(free)[:1], Sampling(1, 1, 0.0, 1.0, 5, seed=1))
    first = int(alone(free, [*asked(free)[0].shared, *asked(free)[0].body]).argmax())
    two = torch_guard.load(made("qwen3", tmp_path / "two", tiny_base, eos_token_id=[0, first]))
    [[cut]] = two.sample(asked(two)[:1], Sampling(1, 1, 0.0, 1.0, 5, seed=1))
    assert (trace.stop, trace.tokens) == ("length", 5)
    assert (cut.stop, cut.tokens) == ("stop", 0)


@pytest.mark.parametrize(
    ("noise", "temperature", "top_p", "expected"),
    [
        # Of 0.5, 0.25, 0.15, 0.1: all of it, then the first two alone, then what a low temperature leaves of the rest.
        (0.49, 1.0, 1.0, 0),
        (0.51, 1.0, 1.0, 1),
        (0.76, 1.0, 1.0, 2),
        (0.91, 1.0, 1.0, 3),
        (0.66, 1.0, 0.7, 0),
        (0.67, 1.0, 0.7, 1),
        (0.99999, 1.0, 0.7, 1),
        (0.99999, 1.0, 0.4, 0),
        (0.99, 0.1, 1.0, 0),
    ],
)
def test_nucleus_takes_the_place_that_the_number_falls_into(
    noise: float, temperature: float, top_p: float, expected: int
) -> None:
    top = torch.tensor([[0.5, 0.25, 0.15, 0.1]]).log() + 3.0
    p = torch.softmax(top / temperature, dim=-1)
    assert nucleus(torch, p, torch.tensor([[noise]]), top_p).tolist() == [[expected]]


def test_a_device_is_chosen_and_the_reason_is_said() -> None:
    assert devices.choose_device("cpu") == ("cpu", "guard.device asks for the CPU")
    if torch.cuda.is_available():
        assert devices.choose_device("auto")[0] == "cuda"
    else:
        assert devices.choose_device("auto") == ("cpu", "torch sees no CUDA GPU")
        with pytest.raises(BackendError, match=r'guard\.device is "cuda", and '):
            devices.choose_device("cuda")


def test_mlx_is_taken_unless_torch_is_asked_for() -> None:
    assert devices.pick("mlx", "auto").backend == "mlx"
    assert devices.pick("auto", "cpu").sentence().startswith("the guard runs on MLX, on the CPU: ")
    assert devices.pick("cuda", "cpu").sentence().startswith("the guard runs on torch, on the CPU: ")


@pytest.mark.skipif(torch.cuda.is_available(), reason="torch sees a card")
def test_auto_takes_mlx_before_torch_without_a_card() -> None:
    assert devices.pick("auto", "auto").backend == "mlx"


def test_without_torch_one_line_says_how_to_install_it() -> None:
    script = "import sys; sys.modules['torch'] = None; from wizloop.backends import devices; "
    script += "print(devices.pick('auto', 'auto').backend); devices.pick('cuda', 'auto')"
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True)
    assert done.stdout == "mlx\n"
    last = done.stderr.splitlines()[-1]
    assert last.endswith("BackendError: the torch backend needs torch: pip install 'wizloop[cuda]'")


def test_what_torch_cannot_read_is_refused(tiny_base: Path, tmp_path: Path) -> None:
    quantized = Path(made("qwen3", tmp_path / "mlx", tiny_base, quantization={"bits": 4}))
    with pytest.raises(BadArtifact, match="quantized for MLX"):
        torch_guard.load(str(quantized))
    bare = Path(made("qwen3", tmp_path / "bare", tiny_base))
    (bare / "model.safetensors").rename(bare / "pytorch_model.bin")
    with pytest.raises(ModelMissing, match=r"no \.safetensors file"):
        torch_guard.load(str(bare))
    with pytest.raises(BackendError, match="of type mamba keeps a state in every layer"):
        torch_guard.load(made("mamba", tmp_path / "mamba", tiny_base, state_size=4))


def test_weights_that_are_missing_or_changed_are_found(tiny_base: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    with artifacts.writing(tmp_path / "whole", {}) as folder:
        made("qwen3", folder, tiny_base)
    file = tmp_path / "whole" / "model.safetensors"
    torch_guard.load(str(tmp_path / "whole"))
    weights = load_file(file)
    save_file({name: each for name, each in weights.items() if "down_proj" not in name}, file, {"format": "pt"})
    with pytest.raises(BadArtifact, match="differs from its manifest"):
        torch_guard.load(str(tmp_path / "whole"))
    (tmp_path / "whole" / artifacts.MANIFEST).unlink()
    with pytest.raises(BadArtifact, match="2 weights are missing"):
        torch_guard.load(str(tmp_path / "whole"))


def test_four_bits_without_bitsandbytes_are_refused_in_one_line(
    tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(BackendError, match=r"need bitsandbytes \(pip install 'wizloop\[cuda\]'"):
        torch_guard.load(str(tiny_base), quantise=True)


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")
def test_four_bits_stay_near_and_take_an_adapter(tiny_base: Path, tmp_path: Path) -> None:
    whole, small = torch_guard.load(str(tiny_base)), torch_guard.load(str(tiny_base), quantise=True)
    assert np.abs(small.score(asked(whole), HARM) - whole.score(asked(whole), HARM)).max() < 0.1
    model = torch_adapter.add_new_adapter(whole._loaded.model, LoraShape(4, 2.0, 0.0, -1), seed=1)
    for name, each in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.constant_(each, 0.2)
    torch_adapter.write_of(model, tmp_path)
    taught = torch_guard.load(str(tiny_base), tmp_path).score(asked(small), HARM)
    assert (
        np.abs(torch_guard.load(str(tiny_base), tmp_path, quantise=True).score(asked(small), HARM) - taught).max() < 0.1
    )
    assert np.abs(small.score(asked(small), HARM) - taught).max() > 0.1


@pytest.mark.parametrize("name", ["cache", "past_key_values"])
def test_the_caches_argument_is_named_as_this_models_forward_names_it(name: str) -> None:
    from wizloop.backends.torch.load import cache_argument

    namespace: dict[str, Any] = {}
    exec(f"def forward(self, input_ids=None, {name}=None): ...", namespace)
    assert cache_argument(type("Model", (), {"forward": namespace["forward"]})()) == name
