"""Tiny random-weight models of every architecture that the guard is tested on, in both layouts of config.json.

`build` writes a folder as transformers 5 writes it, or as mlx-lm's converter does (mlx-community): weights by mlx-lm's
names and rotary settings at the top of the config.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

# Small enough that a text of a test is longer: a window that is ignored is seen.
WINDOW = 16
_COMMON = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 512,
    "initializer_range": 0.15,
    "tie_word_embeddings": True,
}
_SLIDING = ["sliding_attention", "full_attention"] * 2
_STATES = ["linear_attention", "linear_attention", "linear_attention", "full_attention"]
_DELTA = {
    "layer_types": _STATES,
    "full_attention_interval": 4,
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "linear_conv_kernel_dim": 4,
}
_EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 32}
_MAMBA = {"mamba_n_heads": 4, "mamba_d_head": 32, "mamba_d_state": 16, "mamba_n_groups": 1, "mamba_expand": 2}
_MAMBA["mamba_chunk_size"] = 32

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {"sliding_window": WINDOW},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None},
    "ministral3": {"sliding_window": None},
    "qwen2": {},
    "qwen3": {},
    "qwen3_moe": {"num_experts": 4, **_EXPERTS},
    "phi": {"partial_rotary_factor": 0.5, "tie_word_embeddings": False},
    "phi3": {"pad_token_id": 0},
    "smollm3": {"no_rope_layers": [1, 1, 1, 0], "pad_token_id": 0},
    "olmo2": {},
    "granite": {"logits_scaling": 2.0},
    "glm4": {"pad_token_id": 0, "tie_word_embeddings": False},
    "ernie4_5": {},
    "exaone4": {"sliding_window": None, "layer_types": ["full_attention"] * 4},
    "hunyuan_v1_dense": {},
    "gemma2": {"sliding_window": 512, "query_pre_attn_scalar": 16},
    "gpt_oss": {
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "sliding_window": WINDOW,
        "layer_types": _SLIDING,
        "tie_word_embeddings": False,
        "rope_parameters": {"rope_type": "default", "rope_theta": 150000.0},
    },
    "gemma3_text": {"sliding_window": WINDOW, "layer_types": _SLIDING, "query_pre_attn_scalar": 16},
    "gemma4_text": {
        "sliding_window": WINDOW,
        "layer_types": _SLIDING,
        "num_kv_shared_layers": 2,
        "hidden_size_per_layer_input": 8,
        "vocab_size_per_layer_input": 452,
        "global_head_dim": 32,
    },
    "olmo3": {"sliding_window": WINDOW, "layer_types": _SLIDING},
    "cohere2": {"sliding_window": WINDOW, "layer_types": _SLIDING, "sliding_window_pattern": 2, "logit_scale": 1.0},
    "qwen3_next": {
        **_DELTA,
        **_EXPERTS,
        "num_experts": 4,
        "shared_expert_intermediate_size": 32,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
    },
    "qwen3_5_text": dict(_DELTA),
    "lfm2": {
        "layer_types": ["conv", "conv", "full_attention", "conv"],
        "block_ff_dim": 96,
        "block_auto_adjust_ff_dim": False,
        "conv_L_cache": 3,
    },
    "granitemoehybrid": {
        **_MAMBA,
        "layer_types": ["mamba", "mamba", "attention", "mamba"],
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "shared_intermediate_size": 96,
        "position_embedding_type": "rope",
    },
    "nemotron_h": {
        "layers_block_type": ["mamba", "mlp", "attention", "mlp"],
        "mamba_num_heads": 4,
        "mamba_head_dim": 32,
        "ssm_state_size": 16,
        "n_groups": 1,
        "chunk_size": 32,
        "tie_word_embeddings": False,
    },
    "falcon_h1": {
        **_MAMBA,
        "mamba_d_ssm": 128,
        "tie_word_embeddings": False,
        "attention_in_multiplier": 0.8,
        "attention_out_multiplier": 0.9,
        "key_multiplier": 0.7,
        "mlp_multipliers": [0.9, 0.6],
        "ssm_in_multiplier": 1.25,
        "ssm_out_multiplier": 0.5,
        "embedding_multiplier": 2.0,
        "lm_head_multiplier": 0.5,
    },
}


KEPT = {
    "a window in some layers": ("gpt_oss", "gemma3_text", "gemma4_text", "olmo3", "cohere2"),
    "a state in some layers": ("qwen3_next", "qwen3_5_text", "lfm2", "granitemoehybrid", "nemotron_h"),
    "a state and keys in every layer": ("falcon_h1",),
    "a window in every layer": ("mistral",),
}
"""What layers keep beside keys and values of the whole text, by family."""

# Families whose weights mlx-lm renames, stacks or turns as it converts them: transformers refuses such a folder.
RENAMED = {
    "falcon_h1",
    "gpt_oss",
    "granitemoehybrid",
    "lfm2",
    "mixtral",
    "nemotron_h",
    "qwen3_5_text",
    "qwen3_moe",
    "qwen3_next",
}
# Merged exports that only the library of their backend reads, and why.
STAYS: dict[str, dict[str, str]] = {
    "mlx": {"falcon_h1": "mlx-lm multiplies its weights as it loads them"},
    "torch": {},
}
# Families that the backend's own library, without wizloop, computes otherwise than transformers.
OTHERWISE: dict[str, dict[str, str]] = {"mlx": {"mistral": "mlx-lm attends past the window"}, "torch": {}}

# What mlx-lm reads and transformers 5 does not write.
_FLAT: dict[str, dict[str, Any]] = {
    "qwen3_moe": {"num_experts": 4},
    "phi": {"partial_rotary_factor": 0.5},
    "glm4": {"partial_rotary_factor": 0.5},
    "exaone4": {"rope_scaling": None, "sliding_window_pattern": None},
    "gemma3_text": {"rope_local_base_freq": 10000.0, "sliding_window_pattern": 2},
    "gemma4_text": {"global_head_dim": 32},
    "qwen3_next": {"partial_rotary_factor": 0.25},
    "lfm2": {"block_dim": 64, "block_ff_dim": 96},
    "granitemoehybrid": {"layer_types": ["mamba", "mamba", "attention", "mamba"], "time_step_limit": [0.0, 1e9]},
    "nemotron_h": {"time_step_limit": [0.0, 1e9]},
}


# mlx-lm's models of these types read `rope_parameters`.
_READ_BY_MLX = ("ministral3", "qwen3_5_text", "gemma4_text")


def _flat(name: str, config: dict[str, Any]) -> dict[str, Any]:
    rotary = config.get("rope_parameters") or {}
    rotary = rotary.get("full_attention", rotary)
    top = {"rope_theta": rotary["rope_theta"]} if "rope_theta" in rotary else {}
    return config | top | _FLAT.get(name, {})


def _to_mlx(folder: Path) -> None:
    """Rewrite a folder as mlx-lm's converter does."""
    from mlx_lm.utils import load_model, save_model

    from wizloop.backends.mlx.layouts import classes

    # gpt-oss is published in 4-bit blocks only, which mlx-lm reads; transformers writes it in another layout.
    model, config = load_model(folder, get_model_classes=classes)
    for file in folder.glob("*.safetensors*"):
        file.unlink()
    save_model(folder, model)
    old = (
        ("transformers_version",)
        if config["model_type"] in _READ_BY_MLX
        else ("transformers_version", "rope_parameters")
    )
    kept = {key: value for key, value in config.items() if key not in old}
    (folder / "config.json").write_text(json.dumps(kept), encoding="utf-8")


def build(name: str, tokenizer: Path, folder: Path, *, layout: str = "transformers") -> Path:
    """Write the tiny model `name` with the tokenizer of a guard's folder; `layout` is "transformers" or "mlx"."""
    from transformers import AutoConfig, AutoModelForCausalLM

    read = json.loads((tokenizer / "config.json").read_text(encoding="utf-8"))
    ends = {key: read[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id") if key in read}
    config = AutoConfig.for_model(name, **_COMMON | {"vocab_size": read["vocab_size"]} | ends | ARCHITECTURES[name])
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.save_pretrained(folder)
    if layout == "mlx":
        written = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        (folder / "config.json").write_text(json.dumps(_flat(name, written)), encoding="utf-8")
        _to_mlx(folder)
    for file in tokenizer.glob("*token*"):
        shutil.copy(file, folder)
    return folder


def table() -> str:
    """Return the table of docs/architectures.md: what the tests of these models hold."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield (
        "| `model_type` | layers keep | MLX | torch | torch reads mlx-lm's folder | merged by MLX, read by torch "
        "| merged by torch, read by MLX |"
    )
    yield "|---|---|---|---|---|---|---|"
    for name in sorted(ARCHITECTURES):
        kept = next((what for what, names in KEPT.items() if name in names), "keys and values")
        cells = [f"`{name}`", kept, "yes", "yes", "refused" if name in RENAMED else "yes"]
        cells += ["refused" if name in STAYS[backend] else "yes" for backend in ("mlx", "torch")]
        yield f"| {' | '.join(cells)} |"
