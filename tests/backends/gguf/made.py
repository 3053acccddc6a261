"""Tiny GGUF files, written as llama.cpp's converter writes them, from transformers' own random models."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

ALPHABET = [chr(number) for number in range(ord("!"), ord("~") + 1)] + ["Ġ", "Ċ"]
MERGES = ["h e", "he l", "hel l", "hell o", "Ġ t", "Ġt h", "1 2"]
TOKENS = ["<end>", "<begin>", "<turn>", *ALPHABET, *("".join(merge.split()) for merge in MERGES)]
"""A byte-level vocabulary; the first three are special."""
TEMPLATE = "{% for message in messages %}<turn>{{ message.content }}{% endfor %}<begin>"
Keys = Mapping[str, Any]
SIZES = {"block_count": 2, "context_length": 128, "embedding_length": 64, "feed_forward_length": 96}
HEADS = {"attention.head_count": 4, "attention.head_count_kv": 2, "attention.layer_norm_rms_epsilon": 1e-5}


def write(
    path: Path,
    architecture: str,
    keys: Keys,
    weights: Mapping[str, NDArray[Any]],
    kind: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.F32,
    general: Keys | None = None,
) -> Path:
    """Write a GGUF file. `keys` are the architecture's, `general` any; matrices are written in `kind`."""
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in {f"{architecture}.{key}": value for key, value in keys.items()}.items():
        _add(writer, key, value)
    for key, value in (vocabulary() | dict(general or {})).items():
        if value is not None:
            _add(writer, key, value)
    for name, values in weights.items():
        as_kind = kind if values.ndim > 1 else gguf.GGMLQuantizationType.F32
        writer.add_tensor(name, gguf.quants.quantize(values, as_kind), raw_dtype=as_kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def vocabulary() -> dict[str, Any]:
    """Return the keys of a byte-level tokenizer with Llama 3's splits."""
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "llama-bpe",
        "tokenizer.ggml.tokens": TOKENS,
        "tokenizer.ggml.token_type": [3, 3, 3] + [1] * (len(TOKENS) - 3),
        "tokenizer.ggml.merges": MERGES,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 0,
        "tokenizer.ggml.eot_token_id": 2,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": TEMPLATE,
    }


def llama(path: Path, seed: int = 0, **changed: Any) -> Path:
    """Write a random Llama of two layers without transformers; `changed` goes to `write`."""
    rng = np.random.default_rng(seed)
    keys = SIZES | HEADS | {"rope.dimension_count": 16, "rope.freq_base": 10_000.0}
    shapes = {"attn_q": (64, 64), "attn_k": (32, 64), "attn_v": (32, 64), "attn_output": (64, 64), "attn_norm": (64,)}
    shapes |= {"ffn_gate": (96, 64), "ffn_up": (96, 64), "ffn_down": (64, 96), "ffn_norm": (64,)}
    named = {"token_embd.weight": (len(TOKENS), 64), "output_norm.weight": (64,)}
    named |= {f"blk.{layer}.{name}.weight": shape for layer in range(2) for name, shape in shapes.items()}
    weights = {name: rng.standard_normal(shape, np.float32) * np.float32(0.2) for name, shape in named.items()}
    return write(path, **({"architecture": "llama", "keys": keys, "weights": weights} | changed))


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    adders: dict[type, Callable[[str, Any], None]] = {
        bool: writer.add_bool,
        int: writer.add_uint32,
        float: writer.add_float32,
        str: writer.add_string,
        list: writer.add_array,
    }
    adders[type(value)](key, value)
