"""Write a model folder as one GGUF file for llama.cpp and Ollama, and read it back.

Only architectures and tokenizers that llama.cpp computes like transformers: others are refused with a sentence. The
metadata are those of llama.cpp's convert_hf_to_gguf.py.
"""

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import mlx.core as mx
import numpy as np
from gguf import GGMLQuantizationType as Kind
from numpy.typing import NDArray

from wizloop.backends.gguf_names import ARCHITECTURES, FILE, fault, pre_tokenizer_of, rope_of
from wizloop.backends.guard_types import BackendError
from wizloop.backends.tokens import Tokens, of_folder

_TYPES: dict[Kind, np.dtype[Any]] = {
    Kind.F32: np.dtype(np.float32),
    Kind.F16: np.dtype(np.float16),
    Kind.Q8_0: np.dtype(np.uint8),
}
_BLOCK = 32
_LARGEST = float(np.finfo(np.float16).max)
_PERMUTED = ("llama", "mistral")
"""Models whose queries and keys llama.cpp rotates by pairs of neighbors, transformers by halves."""


@dataclass(frozen=True)
class Source:
    """A model folder as it is read."""

    folder: Path
    config: dict[str, Any]
    tokenizer: dict[str, Any]
    q8: bool

    def __getitem__(self, key: str) -> Any:
        return self.config[key]


def export(folder: Path, to: Path, *, q8: bool = False) -> None:
    """Write the model in `folder` as `to`/model.gguf, and read it back.

    Vectors are float32, matrices float16 or, with `q8`, 8 bits in blocks of 32 (Q8_0). Raises BackendError for a model
    that cannot be written, and if a tensor differs when it is read.
    """
    if why := fault(folder):
        raise BackendError(why)
    source = source_of(folder, q8=q8)
    _write(source, to / FILE)
    check(source, to / FILE)


def source_of(folder: Path, *, q8: bool = False) -> Source:
    """Read the JSON files of a model folder."""
    return Source(folder, _json(folder / "config.json"), _json(folder / "tokenizer.json"), q8)


def _write(source: Source, to: Path) -> None:
    """Stream the tensors into the file, one in memory at a time."""
    with closing(gguf.GGUFWriter(to, ARCHITECTURES[source["model_type"]])) as writer:
        _metadata(writer, source)
        _tokenizer(writer, source)
        for name, _, shape, kind in _plan(source):
            packed = shape if kind != Kind.Q8_0 else gguf.quant_shape_to_byte_shape(shape, kind)
            size = math.prod(packed) * _TYPES[kind].itemsize
            writer.add_tensor_info(name, packed, _TYPES[kind], size, raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for _, tensor in _tensors(source):
            writer.write_tensor_data(tensor)


def check(source: Source, written: Path) -> None:
    """Read the file back and compare every tensor. Raises BackendError."""
    found = {tensor.name: tensor for tensor in gguf.GGUFReader(written).tensors}
    names = [name for name, *_ in _plan(source)]
    if sorted(found) != sorted(names):
        raise BackendError(f"{written}: holds other tensors than were written; export again")
    for name, tensor in _tensors(source):
        if not np.array_equal(found[name].data, tensor):
            raise BackendError(f"{written}: its tensor {name} differs from the model's; export again")


def _metadata(writer: Any, source: Source) -> None:
    config, rope = source.config, rope_of(source.config)
    heads, width = config["num_attention_heads"], config["hidden_size"]
    head = config.get("head_dim") or width // heads
    writer.add_type("model")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0 if source.q8 else gguf.LlamaFileType.MOSTLY_F16)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.get("num_key_value_heads") or heads)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_dimension_count(head)
    writer.add_rope_freq_base(float(rope.get("rope_theta", 10_000.0)))
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    if rope.get("rope_type") == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(float(rope["factor"]))


def _tokenizer(writer: Any, source: Source) -> None:
    """Write a byte-level BPE with its special tokens and chat template."""
    loaded = of_folder(source.folder)
    model, known = source.tokenizer["model"], {one["id"]: one for one in source.tokenizer["added_tokens"]}
    by_id = {number: text for text, number in model["vocab"].items()} | {n: one["content"] for n, one in known.items()}
    size = source["vocab_size"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre_tokenizer_of(source.tokenizer))
    writer.add_token_list([by_id.get(number, f"[PAD{number}]") for number in range(size)])
    writer.add_token_types([_kind(number, by_id, known) for number in range(size)])
    writer.add_token_merges([one if isinstance(one, str) else " ".join(one) for one in model["merges"]])
    for add, name in (
        (writer.add_bos_token_id, "bos"),
        (writer.add_eos_token_id, "eos"),
        (writer.add_unk_token_id, "unk"),
        (writer.add_pad_token_id, "pad"),
    ):
        if (number := getattr(loaded, f"{name}_token_id")) is not None:
            add(number)
    writer.add_add_bos_token(bool(Tokens(loaded).bos))
    writer.add_add_space_prefix(False)
    if isinstance(loaded.chat_template, str):
        writer.add_chat_template(loaded.chat_template)


def _kind(number: int, by_id: Mapping[int, str], known: Mapping[int, Mapping[str, Any]]) -> int:
    if number not in by_id:
        return int(gguf.TokenType.UNUSED)
    if number not in known:
        return int(gguf.TokenType.NORMAL)
    return int(gguf.TokenType.CONTROL if known[number]["special"] else gguf.TokenType.USER_DEFINED)


def _plan(source: Source) -> Iterator[tuple[str, str, tuple[int, ...], Kind]]:
    """Yield GGUF's name, ours, shape and number format of each tensor, in the order of the file."""
    arch = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == ARCHITECTURES[source["model_type"]])
    names = gguf.get_tensor_name_map(arch, source["num_hidden_layers"])
    for name, tensor in sorted(_weights(source).items()):
        if name == "lm_head.weight" and source.config.get("tie_word_embeddings"):
            continue
        found = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if found is None:
            raise BackendError(f"{source.folder}: GGUF has no name for the weight {name}: export safetensors")
        yield found, name, tuple(tensor.shape), _format(source, tensor)
    if rope_of(source.config).get("rope_type") == "llama3":
        yield "rope_freqs.weight", "", _llama3_factors(source).shape, Kind.F32


def _format(source: Source, tensor: Any) -> Kind:
    if tensor.ndim == 1:
        return Kind.F32
    return Kind.Q8_0 if source.q8 and tensor.shape[-1] % _BLOCK == 0 else Kind.F16


def _tensors(source: Source) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield name and numbers of each tensor, in the order of `_plan`.

    Raises BackendError for a number beyond float16.
    """
    weights = _weights(source)
    for name, ours, _, kind in _plan(source):
        if not ours:
            yield name, _llama3_factors(source)
            continue
        tensor = _permuted(source, ours, np.array(weights[ours].astype(mx.float32)))
        # A block of Q8_0 has its scale in float16 too.
        if not (np.abs(tensor) <= _LARGEST).all():
            raise BackendError(f"{source.folder}: {ours} has a number beyond float16's largest: export safetensors")
        yield name, gguf.quantize(tensor, kind) if kind == Kind.Q8_0 else tensor.astype(_TYPES[kind])


def _permuted(source: Source, name: str, tensor: NDArray[Any]) -> NDArray[Any]:
    """Reorder the rows of queries and keys from halves to pairs, as llama.cpp's converter does for Llama."""
    layer = name.split(".")[-2]
    if source["model_type"] not in _PERMUTED or layer not in ("q_proj", "k_proj"):
        return tensor
    heads = source["num_attention_heads"]
    if layer == "k_proj":
        heads = source.config.get("num_key_value_heads") or heads
    return tensor.reshape(heads, 2, len(tensor) // heads // 2, *tensor.shape[1:]).swapaxes(1, 2).reshape(tensor.shape)


def _llama3_factors(source: Source) -> NDArray[np.float32]:
    """Return Llama 3.1's division of each rotary frequency, (head_dim / 2,)."""
    rope = rope_of(source.config)
    head = source.config.get("head_dim") or source["hidden_size"] // source["num_attention_heads"]
    factor, low, high = (float(rope[key]) for key in ("factor", "low_freq_factor", "high_freq_factor"))
    length = float(rope["original_max_position_embeddings"])
    waves = 2 * np.pi * rope["rope_theta"] ** (np.arange(0, head, 2, dtype=np.float64) / head)
    smooth = np.clip((length / waves - low) / (high - low), 0, 1)
    return (1 / ((1 - smooth) / factor + smooth)).astype(np.float32)


def _weights(source: Source) -> dict[str, Any]:
    """Return the folder's tensors by transformers' name; MLX reads one when it is computed with."""
    found: dict[str, Any] = {}
    for file in sorted(source.folder.glob("*.safetensors")):
        found |= mx.load(str(file))  # type: ignore[arg-type]
    return found


def _json(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found
