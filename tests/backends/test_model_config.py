"""A config of any layout means the same in mlx-lm, transformers, and here: tiny random models of many types."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import safetensors.torch
import torch
from mlx_lm.utils import load_model
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from wizloop.backends import model_config
from wizloop.backends.guard_types import BadArtifact
from wizloop.backends.mlx import config as mlx_config
from wizloop.backends.mlx import export as mlx_export
from wizloop.backends.mlx import load as mlx_load
from wizloop.backends.torch import export as torch_export
from wizloop.backends.torch import load as torch_load
from wizloop.loop.guard.backend import Mlx, Torch, base_fault

IDS = [[5, 301, 17, 44, 44, 650, 9, 88, 123, 7, 250, 31, 6, 92, 415, 77, 2, 19, 640, 13, 58, 3, 210, 99]]
SHAPE: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 700,
    "max_position_embeddings": 512,
}
PLAIN = {"rope_type": "default", "rope_theta": 1e5}
HALF = PLAIN | {"partial_rotary_factor": 0.5}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 5e4,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {"rope_type": "yarn", "rope_theta": 1e5, "factor": 4.0, "original_max_position_embeddings": 64}
LINEAR = {"rope_type": "linear", "rope_theta": 1e5, "factor": 4.0}
LONG = {
    "rope_type": "longrope",
    "rope_theta": 1e5,
    "short_factor": [1 + at / 10 for at in range(8)],
    "long_factor": [2.0 + at for at in range(8)],
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
STATES = {
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "shared_expert_intermediate_size": 32,
}
MAMBA = {
    "layer_types": ["mamba", "attention", "mamba", "attention"],
    "mamba_n_heads": 4,
    "mamba_d_head": 32,
    "mamba_d_state": 16,
    "mamba_n_groups": 1,
    "shared_intermediate_size": 32,
    "position_embedding_type": "rope",
    "num_local_experts": 4,
}
WINDOW = {"sliding_window": 8}


@dataclass(frozen=True)
class Kind:
    """A model type with its rotary settings, as transformers 5 takes them, and what else its config says."""

    type: str
    rotary: dict[str, Any]
    more: dict[str, Any]


def by_layer(whole: dict[str, Any], local: dict[str, Any]) -> dict[str, Any]:
    return {"full_attention": whole, "sliding_attention": local}


KINDS = {
    "llama": Kind("llama", PLAIN, {}),
    "llama of 3.1": Kind("llama", LLAMA3, {"tie_word_embeddings": True}),
    "llama with linear scaling": Kind("llama", LINEAR, {}),
    "mistral": Kind("mistral", PLAIN, {"sliding_window": None, "head_dim": 16}),
    "qwen2": Kind("qwen2", PLAIN, {}),
    "qwen3 with yarn": Kind("qwen3", YARN, {"head_dim": 16}),
    "qwen3_moe": Kind("qwen3_moe", PLAIN, EXPERTS),
    "qwen3_next": Kind("qwen3_next", HALF, {"head_dim": 16} | EXPERTS | STATES),
    "granite": Kind("granite", PLAIN, {"logits_scaling": 2.0, "embedding_multiplier": 3.0}),
    "granitemoehybrid": Kind("granitemoehybrid", PLAIN, MAMBA),
    "glm4": Kind("glm4", HALF, {"head_dim": 16, "pad_token_id": 0}),
    "phi3": Kind("phi3", PLAIN, {"pad_token_id": 0}),
    "phi3 with longrope": Kind("phi3", LONG, {"original_max_position_embeddings": 64, "pad_token_id": 0}),
    "ernie4_5": Kind("ernie4_5", PLAIN, {}),
    "exaone4": Kind("exaone4", PLAIN, WINDOW),
    "olmo3": Kind("olmo3", by_layer(YARN, PLAIN), WINDOW | {"pad_token_id": 0}),
    "gemma3_text": Kind(
        "gemma3_text", by_layer(LINEAR, {**PLAIN, "rope_theta": 1e3}), WINDOW | {"head_dim": 16, "num_hidden_layers": 6}
    ),
    "cohere2": Kind("cohere2", PLAIN, WINDOW),
    "smollm3": Kind("smollm3", PLAIN, {"pad_token_id": 0}),
}


@pytest.fixture(scope="module")
def make(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Kind], Path]:
    """Write a random model as transformers 5 does, with the tiny guard's tokenizer."""

    def written(kind: Kind, dtype: torch.dtype = torch.float32) -> Path:
        config = CONFIG_MAPPING[kind.type](
            **json.loads(json.dumps({**SHAPE, **kind.more, "rope_parameters": kind.rotary}))
        )
        torch.manual_seed(3)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        for weights in (each for each in model.parameters() if each.ndim > 1):
            # Spread out, so that a wrong rotation moves the logits.
            weights.data.normal_(0, 0.15)
        folder = tmp_path_factory.mktemp("model")
        model.to(dtype).save_pretrained(folder)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(tiny_base / name, folder)
        return folder

    return written


def in_transformers(folder: Path) -> NDArray[np.float32]:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        return np.asarray(model(torch.tensor(IDS)).logits.numpy())


def in_mlx_lm(folder: Path) -> NDArray[np.float32]:
    """Plain mlx-lm, which reads an export without our help."""
    model, _ = load_model(folder)
    model.set_dtype(mx.float32)
    return np.array(model(mx.array(IDS)))


def here(folder: Path) -> NDArray[np.float32]:
    return np.array(mlx_load.load(str(folder), None, quantise=False, fuse=False).model(mx.array(IDS)))


@pytest.mark.parametrize("name", KINDS)
def test_a_folder_of_transformers_5_means_the_same_here(make: Callable[[Kind], Path], name: str) -> None:
    folder = make(KINDS[name])
    expected = in_transformers(folder)
    assert expected.std() > 0.05
    np.testing.assert_allclose(here(folder), expected, atol=1e-3)


EXPORTED = ["llama of 3.1", "qwen3_moe", "granitemoehybrid", "qwen3_next", "glm4", "exaone4", "gemma3_text"]


@pytest.mark.parametrize("export", [mlx_export, torch_export], ids=["mlx", "torch"])
@pytest.mark.parametrize("name", EXPORTED)
def test_an_export_means_the_same_in_both_libraries(
    make: Callable[[Kind], Path], tmp_path: Path, export: Any, name: str
) -> None:
    folder = make(KINDS[name])
    expected = in_transformers(folder)
    export.export_safetensors(str(folder), None, tmp_path)
    np.testing.assert_allclose(in_transformers(tmp_path), expected, atol=1e-3)
    np.testing.assert_allclose(in_mlx_lm(tmp_path), expected, atol=1e-3)


@pytest.mark.parametrize(
    ("load", "said"),
    [(mlx_load.load, "logits are not finite"), (torch_load.load, "logits are not finite")],
    ids=["mlx", "torch"],
)
def test_a_base_without_finite_logits_is_refused(
    make: Callable[[Kind], Path], tmp_path: Path, load: Callable[..., Any], said: str
) -> None:
    shutil.copytree(make(KINDS["llama"]), tmp_path, dirs_exist_ok=True)
    weights = safetensors.torch.load_file(tmp_path / "model.safetensors")
    weights["model.layers.2.mlp.up_proj.weight"][3, 4] = torch.nan
    safetensors.torch.save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    options = {"device": "cpu"} if load is torch_load.load else {"fuse": True}
    with pytest.raises(BadArtifact, match=said):
        load(str(tmp_path), None, quantise=False, **options)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a type that mlx-lm has not": ({"model_type": "nonesuch"}, "mlx-lm has no model of type nonesuch"),
    "a type whose code mlx-lm lacks": ({"model_type": "olmo"}, "mlx-lm has no model of type olmo"),
    "keys that nothing says": ({"model_type": "apertus"}, "has no mlp_bias, post_norm, qk_norm, which mlx-lm needs"),
    "scaling that is not read": (
        {"model_type": "starcoder2", "rope_parameters": LLAMA3},
        "its rotary scaling is llama3, and mlx-lm's starcoder2 scales nothing",
    ),
    "half a rotation that is not read": (
        {"model_type": "glm", "rope_parameters": HALF},
        "its partial_rotary_factor is 0.5, and mlx-lm's glm rotates each head as a whole",
    ),
    "layers in no order": (
        {
            "model_type": "cohere2",
            "layer_types": ["full_attention", "sliding_attention", "full_attention"] + 2 * ["full_attention"],
        },
        "its layer_types do not repeat",
    ),
    "a window that the texts leave": (
        {"model_type": "gemma2", "sliding_window": 64},
        "its layers were trained with a window of 64 tokens, which mlx-lm's gemma2 does not keep",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_mlx_lm_would_compute_otherwise_is_refused_by_its_name(tmp_path: Path, case: str) -> None:
    config, said = REFUSED[case]
    (tmp_path / "config.json").write_text(json.dumps(SHAPE | config))
    assert said in (base_fault(Mlx, str(tmp_path), 2000) or "")


def test_a_window_that_no_text_leaves_is_no_reason(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(SHAPE | {"model_type": "gemma2", "sliding_window": 2000}))
    assert base_fault(Mlx, str(tmp_path), 2000) is None
    assert base_fault(Torch, str(tmp_path), 4000) is None


def test_loading_names_the_key_that_the_dry_run_names(make: Callable[[Kind], Path], tmp_path: Path) -> None:
    shutil.copytree(make(KINDS["llama"]), tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": "apertus"}))
    with pytest.raises(BadArtifact, match=r"config\.json: has no post_norm, qk_norm, which mlx-lm needs"):
        mlx_load.load(str(tmp_path), None, quantise=False, fuse=False)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"model_type": "nonesuch"}, "transformers cannot read it (ValueError: "),
        ({"model_type": "clip_text_model"}, "transformers has no causal language model of type clip_text_model"),
    ],
)
def test_what_transformers_cannot_read_is_refused(tmp_path: Path, config: dict[str, Any], said: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert said in (base_fault(Torch, str(tmp_path), 2000) or "")


@pytest.mark.parametrize("export", [mlx_export, torch_export], ids=["mlx", "torch"])
def test_a_base_in_bfloat16_is_exported_in_the_format_that_its_config_says(
    make: Callable[..., Path], tmp_path: Path, export: Any
) -> None:
    folder = make(KINDS["llama of 3.1"], torch.bfloat16)
    assert json.loads((folder / "config.json").read_text())["dtype"] == "bfloat16"
    export.export_safetensors(str(folder), None, tmp_path)
    weights = safetensors.torch.load_file(tmp_path / "model.safetensors")
    # On a CPU both compute in float32, and an adapter merged in float32 is not rounded.
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "float32"
    assert {each.dtype for each in weights.values()} == {torch.float32}
    # Tied embeddings stay one tensor.
    assert "lm_head.weight" not in weights
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert model.dtype == torch.float32
    np.testing.assert_allclose(in_transformers(tmp_path), in_transformers(folder), atol=1e-3)


def test_older_keys_follow_transformers_where_two_places_differ() -> None:
    both = {"rope_theta": 1e4, "rope_parameters": PLAIN}
    assert model_config.older_keys(both)["rope_theta"] == 1e5
    scaled = {"rope_theta": 1e4, "rope_parameters": PLAIN, "rope_scaling": {"type": "linear", "factor": 2.0}}
    found = model_config.older_keys(scaled)
    assert found["rope_theta"] == 1e4
    assert found["rope_scaling"] == {"rope_type": "linear", "type": "linear", "factor": 2.0}


def test_a_text_part_is_completed_too() -> None:
    text = {**SHAPE, "model_type": "gemma3_text", "rope_parameters": by_layer(LINEAR, {**PLAIN, "rope_theta": 1e3})}
    found = mlx_config.complete({"model_type": "gemma3", "text_config": text})["text_config"]
    assert (found["rope_theta"], found["rope_local_base_freq"], found["rope_scaling"]["factor"]) == (1e5, 1e3, 4.0)
    assert model_config.text_of({"text_config": found})["vocab_size"] == 700


@pytest.mark.parametrize("name", ["llama of 3.1", "gemma3_text", "glm4", "qwen3_moe"])
def test_the_older_layout_means_the_same(make: Callable[[Kind], Path], tmp_path: Path, name: str) -> None:
    folder = make(KINDS[name])
    expected = in_transformers(folder)
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_text())
    older = model_config.for_both(config)
    del older["rope_parameters"]
    (tmp_path / "config.json").write_text(json.dumps(older))
    np.testing.assert_allclose(in_transformers(tmp_path), expected, atol=1e-3)
    np.testing.assert_allclose(here(tmp_path), expected, atol=1e-3)


def test_an_export_keeps_the_long_factors_that_transformers_takes_for_long_texts(
    make: Callable[[Kind], Path], tmp_path: Path
) -> None:
    folder = make(KINDS["phi3 with longrope"])
    mlx_export.export_safetensors(str(folder), None, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["rope_scaling"]["long_factor"] == LONG["long_factor"]
    np.testing.assert_allclose(in_transformers(tmp_path), in_transformers(folder), atol=1e-3)
