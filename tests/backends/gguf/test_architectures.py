"""Each architecture's GGUF file gives transformers' own weights and logits back, in both libraries."""

from pathlib import Path
from typing import Any

import gguf
import mlx.core as mx
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from tests.backends.gguf import made
from wizloop.backends.gguf import folder
from wizloop.backends.guard_types import BadArtifact
from wizloop.backends.mlx import load as mlx_load

SHAPE = {
    "vocab_size": len(made.TOKENS),
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 7,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "pad_token_id": 0,
}
KEYS: dict[str, Any] = {**made.SIZES, **made.HEADS, "block_count": 7, "rope.freq_base": 50_000.0}
WIDE = {"attention.key_length": 32, "attention.value_length": 32}
THETA = {"rope_parameters": {"rope_type": "default", "rope_theta": 50_000.0}}
WINDOW = 8
"""mlx-lm's Gemma 2 attends beyond it."""
SLIDING = {"attention.sliding_window": WINDOW}
GEMMA = {"head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": WINDOW}
LINEAR = {"rope_type": "linear", "factor": 8.0, "rope_theta": 50_000.0}
CASES = {
    "llama": ("llama", {"tie_word_embeddings": False, **THETA}, {"rope.dimension_count": 16}),
    "llama-tied-biased": (
        "llama",
        {"tie_word_embeddings": True, "attention_bias": True, **THETA},
        {"rope.dimension_count": 16},
    ),
    "llama-wide-heads": ("llama", {"head_dim": 32, **THETA}, {"rope.dimension_count": 32, **WIDE}),
    "llama-linear": (
        "llama",
        {"rope_parameters": LINEAR},
        {"rope.dimension_count": 16, "rope.scaling.type": "linear", "rope.scaling.factor": 8.0},
    ),
    "qwen2": ("qwen2", {"tie_word_embeddings": True, **THETA}, {}),
    "qwen3": ("qwen3", {"head_dim": 128, **THETA}, {"attention.key_length": 128, "attention.value_length": 128}),
    "qwen3-narrow-heads": ("qwen3", {"head_dim": 32, **THETA}, WIDE),
    "gemma2": (
        "gemma2",
        {**GEMMA, **THETA, "attn_logit_softcapping": 20.0, "final_logit_softcapping": 10.0},
        {**WIDE, **SLIDING, "attn_logit_softcapping": 20.0, "final_logit_softcapping": 10.0},
    ),
    "gemma3": (
        "gemma3_text",
        {
            **GEMMA,
            "rope_parameters": {
                "full_attention": {"rope_type": "default", "rope_theta": 50_000.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
            },
        },
        {**WIDE, **SLIDING},
    ),
    "gemma3-linear": (
        "gemma3_text",
        {
            **GEMMA,
            "rope_parameters": {
                "full_attention": LINEAR,
                "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
            },
        },
        {**WIDE, **SLIDING, "rope.scaling.type": "linear", "rope.scaling.factor": 8.0},
    ),
}
NOT_BY_TRANSFORMERS = {"llama-tied-biased", "qwen3-narrow-heads"}
"""Its loader of GGUF files knows of no biases, and takes every Qwen 3 head for 128 wide."""


@pytest.fixture
def case(name: str, tmp_path: Path) -> tuple[Any, Path]:
    """A random model of transformers, and its GGUF file."""
    model_type, changed, keys = CASES[name]
    torch.manual_seed(3)
    config = CONFIG_MAPPING[model_type](**SHAPE, **changed)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    for weight in model.parameters():
        # Norms that are all ones, or biases of zero, would hide a mistake.
        torch.nn.init.normal_(weight, std=0.2)
        # What training keeps in bfloat16 survives Gemma's `+ 1` in float32.
        weight.data = (weight.data * 256).round() / 256
    architecture = name.split("-")[0]
    path = made.write(tmp_path / "model.gguf", architecture, KEYS | keys, _as_llama_cpp(model, architecture))
    return model, path


@pytest.mark.parametrize("name", CASES)
def test_the_folder_holds_the_weights_and_answers_as_the_model(
    name: str, case: tuple[Any, Path], tmp_path: Path
) -> None:
    model, path = case
    to = tmp_path / "folder"
    to.mkdir()
    folder.convert(path, to)
    again, report = AutoModelForCausalLM.from_pretrained(to, dtype=torch.float32, output_loading_info=True)
    assert (list(report["missing_keys"]), list(report["unexpected_keys"])) == ([], [])
    ours, theirs = again.state_dict(), model.state_dict()
    assert {name: torch.equal(values, ours[name]) for name, values in theirs.items()} == dict.fromkeys(theirs, True)
    ids = torch.arange(3, 43).reshape(1, -1)
    with torch.no_grad():
        expected = model(ids).logits
        assert torch.allclose(again(ids).logits, expected, atol=1e-5)
    assert expected.std() > 0.05
    mlx = mlx_load.load(str(to), None, quantise=False, fuse=False)
    seen = WINDOW if name == "gemma2" else ids.shape[1]
    logits = np.array(mlx.model(mx.array(ids.numpy())))
    assert np.allclose(logits[:, :seen], expected.numpy()[:, :seen], atol=2e-3)


@pytest.mark.parametrize("name", sorted(CASES.keys() - NOT_BY_TRANSFORMERS))
def test_transformers_reads_the_same_weights_from_the_file(case: tuple[Any, Path]) -> None:
    """The reference is transformers' own loader of GGUF files, which needs torch."""
    model, path = case
    theirs = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32).state_dict()
    assert {name: torch.equal(values, theirs[name]) for name, values in model.state_dict().items()} == dict.fromkeys(
        theirs, True
    )


def test_llama_3_scales_its_rotation_as_it_was_trained(tmp_path: Path) -> None:
    scaled = {
        "rope_type": "llama3",
        "rope_theta": 50_000.0,
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    config = CONFIG_MAPPING["llama"](**SHAPE, head_dim=64, rope_parameters=scaled)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    plain = 50_000.0 ** (-np.arange(0, 64, 2) / 64)
    factors = (plain / model.model.rotary_emb.inv_freq.numpy()).astype(np.float32)
    weights = _as_llama_cpp(model, "llama") | {"rope_freqs.weight": factors}
    keys = KEYS | {"rope.dimension_count": 64, "attention.key_length": 64}
    to = tmp_path / "folder"
    to.mkdir()
    folder.convert(made.write(tmp_path / "model.gguf", "llama", keys, weights), to)
    ids = torch.arange(3, 43).reshape(1, -1)
    with torch.no_grad():
        expected = model(ids).logits
        again = AutoModelForCausalLM.from_pretrained(to, dtype=torch.float32)
        assert torch.equal(again.model.rotary_emb.inv_freq, model.model.rotary_emb.inv_freq)
        assert torch.allclose(again(ids).logits, expected, atol=1e-5)
    mlx = mlx_load.load(str(to), None, quantise=False, fuse=False)
    assert np.allclose(np.array(mlx.model(mx.array(ids.numpy()))), expected.numpy(), atol=1e-3)
    other = made.write(tmp_path / "other.gguf", "llama", keys, weights | {"rope_freqs.weight": factors * 1.5})
    (tmp_path / "other").mkdir()
    with pytest.raises(BadArtifact, match="rotary factors are not Llama 3's"):
        folder.convert(other, tmp_path / "other")


def _as_llama_cpp(model: Any, architecture: str) -> dict[str, Any]:
    """Return a model's weights as llama.cpp's convert_hf_to_gguf.py names and changes them."""
    key = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    names = gguf.get_tensor_name_map(key, model.config.num_hidden_layers)
    heads = {"q_proj": model.config.num_attention_heads, "k_proj": model.config.num_key_value_heads}
    found = {}
    for name, weight in model.state_dict().items():
        values = weight.numpy()
        module, leaf = name.rsplit(".", 1)
        count = heads.get(module.rsplit(".", 1)[-1])
        if name == "lm_head.weight" and model.config.tie_word_embeddings:
            continue
        if architecture == "llama" and count is not None:
            pairs = values.reshape(count, 2, values.shape[0] // count // 2, *values.shape[1:])
            values = pairs.swapaxes(1, 2).reshape(values.shape)
        if architecture.startswith("gemma") and name.endswith("norm.weight"):
            values = values + 1
        found[f"{names.get_name(module)}.{leaf}"] = values
    return found
