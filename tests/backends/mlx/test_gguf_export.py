"""A GGUF file of a tiny random model: transformers reads the same weights and tokens, and what cannot be is refused."""

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from wizloop.backends import gguf_names
from wizloop.backends.gguf import folder as gguf_folder
from wizloop.backends.guard_types import BackendError
from wizloop.backends.mlx import gguf_export

SHAPE: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "head_dim": 8,
    "bos_token_id": 259,
    "eos_token_id": 260,
    "pad_token_id": 260,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
QWEN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
MODELS = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE, rope_theta=100_000.0)),
    "llama, tied": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE, tie_word_embeddings=True)),
    "mistral": lambda: MistralForCausalLM(MistralConfig(**SHAPE, sliding_window=None)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SHAPE)),
    # transformers reads no other width of a head for it.
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SHAPE | {"head_dim": 128})),
}


def tokenizer(before: pre_tokenizers.PreTokenizer | None = None, bos: bool = True) -> PreTrainedTokenizerFast:
    """Return a byte-level one of 256 bytes, two special tokens, one that is none, and three merges."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("a", "b"), ("ab", "c"), ("Ġ", "a")]
    words = {letter: at for at, letter in enumerate(letters)} | {"ab": 256, "abc": 257, "Ġa": 258}
    raw = Tokenizer(models.BPE(vocab=words, merges=merges))
    bytes_only = pre_tokenizers.ByteLevel(
        add_prefix_space=False, use_regex=not isinstance(before, pre_tokenizers.Split)
    )
    raw.pre_tokenizer = bytes_only if before is None else pre_tokenizers.Sequence([before, bytes_only])
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens([AddedToken("<s>", special=True), AddedToken("</s>", special=True)])
    raw.add_tokens([AddedToken("<think>", special=False)])
    if bos:
        raw.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 259)])
    return PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>", pad_token="</s>")


def saved(folder: Path, kind: str, **changes: Any) -> Path:
    torch.manual_seed(1)
    MODELS[kind]().save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder


def written(folder: Path) -> gguf.GGUFReader:
    gguf_export.export(folder, folder)
    return gguf.GGUFReader(folder / "model.gguf")


def field(reader: gguf.GGUFReader, name: str) -> Any:
    found = reader.get_field(name)
    assert found is not None, name
    return found.contents()


@pytest.mark.parametrize("kind", MODELS)
def test_transformers_reads_the_same_weights_and_answers(tmp_path: Path, kind: str) -> None:
    folder = saved(tmp_path / "model", kind)
    written(folder)
    ours = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    theirs = AutoModelForCausalLM.from_pretrained(folder, gguf_file="model.gguf", dtype=torch.float32)
    expected = {
        name: (tensor.half() if tensor.ndim > 1 else tensor).float() for name, tensor in ours.state_dict().items()
    }
    found = theirs.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    ids = torch.arange(40)[None] * 7 % 256
    with torch.no_grad():
        p, q = (model(ids).logits.softmax(-1) for model in (ours, theirs))
    torch.testing.assert_close(p, q, atol=1e-3, rtol=0)


def test_llamas_queries_and_keys_are_in_pairs_with_their_biases(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    saved(folder, "llama")
    model = LlamaForCausalLM(LlamaConfig(**SHAPE, attention_bias=True))
    queries = model.model.layers[0].self_attn.q_proj
    queries.weight.data[:, 0] = queries.bias.data = torch.arange(32.0)
    model.save_pretrained(folder)
    found = {tensor.name: tensor.data for tensor in written(folder).tensors}
    assert found["blk.0.attn_q.bias"][:10].tolist() == [0, 4, 1, 5, 2, 6, 3, 7, 8, 12]
    assert found["blk.0.attn_q.weight"][:, 0].tolist() == found["blk.0.attn_q.bias"].tolist()


def test_the_tokens_keep_their_numbers_kinds_and_bos(tmp_path: Path) -> None:
    reader = written(saved(tmp_path / "model", "llama"))
    tokens, kinds = field(reader, "tokenizer.ggml.tokens"), field(reader, "tokenizer.ggml.token_type")
    assert tokens[256:263] == ["ab", "abc", "Ġa", "<s>", "</s>", "<think>", "[PAD262]"]
    assert [gguf.TokenType(kind).name for kind in kinds[258:263]] == [
        "NORMAL",
        "CONTROL",
        "CONTROL",
        "USER_DEFINED",
        "UNUSED",
    ]
    assert field(reader, "tokenizer.ggml.merges") == ["a b", "ab c", "Ġ a"]
    assert (field(reader, "tokenizer.ggml.bos_token_id"), field(reader, "tokenizer.ggml.eos_token_id")) == (259, 260)
    assert field(reader, "tokenizer.ggml.add_bos_token")
    read = AutoTokenizer.from_pretrained(tmp_path / "model", gguf_file="model.gguf")
    assert read("abc a</s>", add_special_tokens=False)["input_ids"] == [257, 258, 260]
    assert (gguf_names.bos_of(tmp_path / "model"), gguf_names.stops_of(tmp_path / "model")) == ("<s>", ["</s>"])


def test_a_tokenizer_without_a_bos_says_so(tmp_path: Path) -> None:
    folder = saved(tmp_path / "model", "llama")
    tokenizer(bos=False).save_pretrained(folder)
    assert not field(written(folder), "tokenizer.ggml.add_bos_token")
    assert gguf_names.bos_of(folder) == ""


def test_rotation_and_sizes_are_the_models(tmp_path: Path) -> None:
    reader = written(saved(tmp_path / "model", "llama"))
    found = {name: field(reader, f"llama.{name}") for name in ("context_length", "block_count", "embedding_length")}
    assert found == {"context_length": 128, "block_count": 2, "embedding_length": 32}
    assert field(reader, "llama.rope.freq_base") == 100_000.0
    assert (field(reader, "llama.attention.head_count"), field(reader, "llama.attention.head_count_kv")) == (4, 2)


def test_llama_3s_frequencies_are_divided_as_transformers_divides_them(tmp_path: Path) -> None:
    folder = saved(tmp_path / "model", "llama", rope_parameters=LLAMA3)
    reader = written(folder)
    (factors,) = [tensor.data for tensor in reader.tensors if tensor.name == "rope_freqs.weight"]
    plain = 500_000.0 ** -(np.arange(0, 8, 2) / 8)
    model = AutoModelForCausalLM.from_pretrained(folder).model
    np.testing.assert_allclose(plain / factors, model.rotary_emb.inv_freq.numpy(), rtol=1e-5)
    assert len(set(factors.tolist())) > 1


@pytest.mark.parametrize(
    ("before", "name"),
    [
        (None, "gpt-2"),
        (pre_tokenizers.Digits(individual_digits=True), "smollm"),
        (pre_tokenizers.Digits(individual_digits=False), None),
        (pre_tokenizers.Split(pattern=Regex(QWEN), behavior="isolated"), "qwen2"),
        (pre_tokenizers.Split(pattern=Regex(r"\w+"), behavior="isolated"), None),
    ],
)
def test_a_tokenizer_has_llama_cpps_name_or_is_refused(before: Any, name: str | None) -> None:
    raw = json.loads(tokenizer(before).backend_tokenizer.to_str())
    assert gguf_names.pre_tokenizer_of(raw) == name


@pytest.mark.parametrize(
    ("kind", "changes", "said"),
    [
        ("llama", {"model_type": "gemma3_text"}, "a model of type gemma3_text is not written as GGUF, only llama"),
        ("llama", {"rope_parameters": LLAMA3 | {"rope_type": "yarn"}}, "rotary embeddings of type yarn"),
        ("mistral", {"sliding_window": 64}, "a mistral with a sliding window is not written as GGUF"),
    ],
)
def test_what_llama_cpp_would_compute_otherwise_is_refused(
    tmp_path: Path, kind: str, changes: dict[str, Any], said: str
) -> None:
    folder = saved(tmp_path / "model", kind, **changes)
    assert said in (gguf_names.fault(folder) or "")
    with pytest.raises(BackendError, match=said):
        gguf_export.export(folder, folder)
    assert not (folder / "model.gguf").exists()


def test_a_number_beyond_float16_is_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path / "model", "llama")
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.model.layers[0].mlp.up_proj.weight.data[0, 0] = 1e6
    model.save_pretrained(folder)
    with pytest.raises(BackendError, match=r"mlp\.up_proj\.weight has a number beyond float16"):
        gguf_export.export(folder, folder)


def test_8_bits_are_near_and_read_by_our_own_reader(tmp_path: Path) -> None:
    folder, eight, sixteen = saved(tmp_path / "model", "llama"), tmp_path / "eight", tmp_path / "sixteen"
    for to, q8 in ((eight, True), (sixteen, False)):
        to.mkdir()
        gguf_export.export(folder, to, q8=q8)
    kinds = {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(eight / "model.gguf").tensors}
    assert (kinds["blk.0.attn_q.weight"], kinds["blk.0.attn_norm.weight"]) == ("Q8_0", "F32")
    ours = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).state_dict()
    for to, near in ((eight, 1e-2), (sixteen, 1e-3)):
        read = to / "read"
        read.mkdir()
        gguf_folder.convert(to / "model.gguf", read)
        theirs = AutoModelForCausalLM.from_pretrained(read, dtype=torch.float32).state_dict()
        far = max(
            float((ours[name] - tensor).abs().max()) / float(ours[name].abs().max()) for name, tensor in theirs.items()
        )
        assert far < near


def test_a_file_that_reads_otherwise_is_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path / "model", "llama")
    written(folder)
    source = gguf_export.source_of(folder)
    with (folder / "model.gguf").open("r+b") as file:
        file.seek(-64, 2)
        file.write(b"\x11" * 8)
    with pytest.raises(BackendError, match="differs from the model's"):
        gguf_export.check(source, folder / "model.gguf")
