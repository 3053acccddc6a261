"""The architectures whose GGUF files can be read: their configuration and the names of their weights.

llama.cpp's converter renames weights, reorders the rows of Llama's queries and keys, and adds one to Gemma's norms;
transformers' names and values are restored here. A file says less than a config.json, so what an architecture fixes is
written down here, from llama.cpp's own models.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from gguf.constants import MODEL_ARCH, MODEL_ARCH_NAMES
from gguf.tensor_mapping import get_tensor_name_map
from numpy.typing import NDArray

from wizloop.backends.gguf.header import Header

Array = NDArray[np.float32]

_MODULES = ("model.embed_tokens", "model.norm", "lm_head")
_LAYER_MODULES = (
    "input_layernorm",
    "post_attention_layernorm",
    "pre_feedforward_layernorm",
    "post_feedforward_layernorm",
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "self_attn.q_norm",
    "self_attn.k_norm",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
)
"""The names of transformers' dense decoders; gguf's map knows which of them an architecture has."""
ROPE_FACTORS = "rope_freqs.weight"
"""Llama 3's scaling of its rotary frequencies, which is a rule in a config.json. It is no weight."""
_MOST_LAYERS = 512


@dataclass(frozen=True, slots=True)
class Architecture:
    """How transformers names and configures an architecture of llama.cpp."""

    model_type: str
    model_class: str
    permuted: bool = False
    """Whether the rows of queries and keys are reordered for llama.cpp's interleaved rotation."""
    norm_offset: float = 0.0
    """Added to every norm's weight in the file."""
    more: Callable[[Header, dict[str, Any]], dict[str, Any]] = lambda header, config: {}
    """The configuration beyond that of every decoder."""


def _llama(header: Header, config: dict[str, Any]) -> dict[str, Any]:
    biased = "blk.0.attn_q.bias" in header.tensors
    return {"hidden_act": "silu", "attention_bias": biased, "mlp_bias": False}


def _qwen(header: Header, config: dict[str, Any]) -> dict[str, Any]:
    return {"hidden_act": "silu", "attention_bias": False, "use_sliding_window": False}


def _gemma(header: Header, config: dict[str, Any], largest: int) -> dict[str, Any]:
    """Return what Gemma 2 and 3 share. Their files leave out the scale of the queries, which the 27B's layers tell."""
    wide = config["hidden_size"] // config["num_attention_heads"]
    return {
        "hidden_activation": "gelu_pytorch_tanh",
        "hidden_act": "gelu_pytorch_tanh",
        "query_pre_attn_scalar": wide if config["num_hidden_layers"] == largest else config["head_dim"],
        "sliding_window": _count(header, "attention.sliding_window"),
        "attention_bias": False,
    }


def _gemma2(header: Header, config: dict[str, Any]) -> dict[str, Any]:
    caps = {key: header.get(key) or default for key, default in (_ATTENTION_CAP, _FINAL_CAP)}
    return _gemma(header, config, 46) | {
        "attn_logit_softcapping": caps[_ATTENTION_CAP[0]],
        "final_logit_softcapping": caps[_FINAL_CAP[0]],
    }


_ATTENTION_CAP, _FINAL_CAP = ("attn_logit_softcapping", 50.0), ("final_logit_softcapping", 30.0)


def _gemma3(header: Header, config: dict[str, Any]) -> dict[str, Any]:
    """Return Gemma 3's: every sixth layer attends to the whole text, the others to a window, with their own rotation.

    transformers 5 reads `rope_local_base_freq` and `layer_types`, mlx-lm the former and `sliding_window_pattern`.
    """
    layers = range(1, config["num_hidden_layers"] + 1)
    return _gemma(header, config, 62) | {
        "rope_local_base_freq": float(header.get("rope.freq_base_swa") or 10_000.0),
        "sliding_window_pattern": 6,
        "layer_types": ["sliding_attention" if layer % 6 else "full_attention" for layer in layers],
    }


ARCHITECTURES = {
    "llama": Architecture("llama", "LlamaForCausalLM", permuted=True, more=_llama),
    "qwen2": Architecture("qwen2", "Qwen2ForCausalLM", more=_qwen),
    "qwen3": Architecture("qwen3", "Qwen3ForCausalLM", more=_qwen),
    "gemma2": Architecture("gemma2", "Gemma2ForCausalLM", norm_offset=1.0, more=_gemma2),
    "gemma3": Architecture("gemma3_text", "Gemma3ForCausalLM", norm_offset=1.0, more=_gemma3),
}


def of(header: Header) -> Architecture:
    """Return the file's architecture. Raises BadArtifact, in a sentence, for one that cannot be read."""
    name = header.architecture
    if (header.metadata.get("split.count") or 0) > 1:
        raise header.refusal(
            "is one of several parts of a model; join them (llama-gguf-split --merge) and name the whole file"
        )
    if name not in ARCHITECTURES:
        raise header.refusal(
            f"a GGUF file of architecture {name or 'unknown'!r} cannot be read, only {', '.join(ARCHITECTURES)}; "
            "set guard.base to the model's hub name or its safetensors folder"
        )
    if header.get("expert_count"):
        raise header.refusal(
            "a mixture of experts cannot be read from GGUF; set guard.base to its hub name or its safetensors folder"
        )
    return ARCHITECTURES[name]


def config(header: Header) -> dict[str, Any]:
    """Return the config.json of the file's model, without the token ids. Raises BadArtifact."""
    architecture = of(header)
    heads, width = _count(header, "attention.head_count"), _count(header, "embedding_length")
    embedding = header.tensors.get("token_embd.weight")
    if embedding is None or len(embedding.shape) != 2:
        raise header.refusal("has no embedding of tokens; download it again")
    found: dict[str, Any] = {
        "architectures": [architecture.model_class],
        "model_type": architecture.model_type,
        "hidden_size": width,
        "intermediate_size": _count(header, "feed_forward_length"),
        "num_hidden_layers": layers(header),
        "num_attention_heads": heads,
        "num_key_value_heads": _count(header, "attention.head_count_kv", heads),
        "head_dim": _count(header, "attention.key_length", _count(header, "rope.dimension_count", width // heads)),
        "max_position_embeddings": _count(header, "context_length"),
        "rms_norm_eps": float(header.get("attention.layer_norm_rms_epsilon") or 1e-6),
        "vocab_size": embedding.shape[0],
        "tie_word_embeddings": "output.weight" not in header.tensors,
        "rope_theta": float(header.get("rope.freq_base") or 10_000.0),
    }
    return found | architecture.more(header, found)


def layers(header: Header) -> int:
    """Return the number of layers. Raises BadArtifact."""
    count = _count(header, "block_count")
    if count > _MOST_LAYERS:
        raise header.refusal(f"claims {count:,} layers")
    return count


def names(header: Header) -> dict[str, str]:
    """Return transformers' name of every weight in the file. Raises BadArtifact if one is unknown or missing."""
    count = layers(header)
    (key,) = (key for key, name in MODEL_ARCH_NAMES.items() if name == header.architecture)
    known = _known(key, count)
    weights = set(header.tensors) - {ROPE_FACTORS}
    if unknown := sorted(name for name in weights if name.rpartition(".")[0] not in known):
        raise header.refusal(
            f"{len(unknown)} of its weights are not {header.architecture}'s, the first is {unknown[0]}"
        )
    first = {name.removeprefix("blk.0.") for name in weights if name.startswith("blk.0.")}
    expected = {f"blk.{layer}.{leaf}" for layer in range(count) for leaf in first}
    if not first or expected != {name for name in weights if name.startswith("blk.")}:
        raise header.refusal(f"its {count} layers do not hold the same weights; download it again")
    return {name: f"{known[name.rpartition('.')[0]]}.{name.rpartition('.')[2]}" for name in weights}


def _known(key: MODEL_ARCH, count: int) -> dict[str, str]:
    """Return transformers' module by the name of its tensor in a file of `count` layers."""
    ours = [*_MODULES, *(f"model.layers.{layer}.{leaf}" for layer in range(count) for leaf in _LAYER_MODULES)]
    theirs = get_tensor_name_map(key, count)
    return {name: module for module in ours if (name := theirs.get_name(module)) is not None}


def restored(architecture: Architecture, config: dict[str, Any], name: str, values: Array) -> Array:
    """Return a weight as transformers holds it, from the file's values. `name` is transformers'."""
    if architecture.permuted and ".self_attn." in name:
        heads = {"q_proj": "num_attention_heads", "k_proj": "num_key_value_heads"}.get(name.split(".")[-2])
        return values if heads is None else _unpermuted(values, config[heads])
    if architecture.norm_offset and name.endswith("norm.weight"):
        return values - np.float32(architecture.norm_offset)
    return values


def _unpermuted(values: Array, heads: int) -> Array:
    """Undo llama.cpp's order of rows: the two halves of a head, interleaved. Raises ValueError for another shape."""
    pairs = values.reshape(heads, values.shape[0] // heads // 2, 2, *values.shape[1:])
    return pairs.swapaxes(1, 2).reshape(values.shape)


def scaling(header: Header, config: dict[str, Any], factors: Array | None) -> dict[str, Any] | None:
    """Return `rope_scaling` as both mlx-lm and transformers read it, or None.

    `factors` are those of ROPE_FACTORS. Raises BadArtifact for a rule that is not known.
    """
    if factors is not None:
        return _llama3(header, config, factors)
    kind = header.get("rope.scaling.type")
    if kind in (None, "none"):
        return None
    factor = float(header.get("rope.scaling.factor") or 0)
    if kind == "linear" and factor:
        return {"type": "linear", "rope_type": "linear", "factor": factor}
    raise header.refusal(
        f"its rotary scaling {kind!r} cannot be read; set guard.base to the model's safetensors folder"
    )


def _llama3(header: Header, config: dict[str, Any], factors: Array) -> dict[str, Any]:
    """Return the rule by which llama.cpp's converter made these factors. Raises BadArtifact if it is not Llama 3's."""
    rule = {"factor": round(float(factors.max()), 3), "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    length, width = 8192, config["head_dim"]
    waves = 2 * math.pi * config["rope_theta"] ** (np.arange(0, width, 2) / width)
    smooth = np.clip((length / waves - 1.0) / 3.0, 0.0, 1.0)
    expected = 1.0 / ((1.0 - smooth) / rule["factor"] + smooth)
    if factors.shape != expected.shape or not np.allclose(factors, expected, rtol=1e-3):
        raise header.refusal("its rotary factors are not Llama 3's; set guard.base to the model's safetensors folder")
    return {"type": "llama3", "rope_type": "llama3", **rule, "original_max_position_embeddings": length}


def _count(header: Header, key: str, default: int | None = None) -> int:
    """Return a positive number of the architecture. Raises BadArtifact."""
    value = header.get(key)
    value = default if value is None else value
    if not isinstance(value, int) or not 0 < value < 1 << 31:
        raise header.refusal(f"its {header.architecture}.{key} is {str(value)[:40]}; it cannot be read")
    return value
