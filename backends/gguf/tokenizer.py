"""Build a tokenizer from a GGUF file's metadata, with transformers' conversion, and refuse what it would guess."""

from collections.abc import Mapping
from typing import Any

from tokenizers import pre_tokenizers
from transformers import PreTrainedTokenizerFast
from transformers.integrations.gguf.gguf_tokenizer_mapping import (
    GGUF_PRE_TOKENIZER_SPLITS,
    GGUF_TOKENIZER_MAPPING,
    convert_gguf_tokenizer,
)

from wizloop.backends import unreadable
from wizloop.backends.gguf.header import Header

_SPECIAL = {
    "bos_token": "bos_token_id",
    "eos_token": "eos_token_id",
    "unk_token": "unknown_token_id",
    "pad_token": "padding_token_id",
}
_DIGITS = {"smollm"}
"""Vocabularies of GPT-2's splits with every digit apart, which transformers' table does not have."""
_PLAIN = {"gpt-2"}
"""Vocabularies of GPT-2's splits, to which transformers' conversion falls back."""


def build(header: Header) -> Any:
    """Return the file's tokenizer, with its chat template. Raises BadArtifact for one that cannot be rebuilt."""
    found = _described(header)
    with unreadable.reading(f"{header.path}: its tokenizer cannot be rebuilt"):
        return _built(header, found)


def _built(header: Header, found: dict[str, Any]) -> Any:
    backend, _ = convert_gguf_tokenizer(header.architecture, found)
    if found["pre_tokenizer_type"] in _DIGITS:
        digits = pre_tokenizers.Digits(individual_digits=True)
        backend.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    special = {name: found["tokens"][token] for name, token in special_ids(header).items()}
    begins = found["tokenizer_type"] == "llama"
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        add_bos_token=bool(header.metadata.get("tokenizer.ggml.add_bos_token", begins)),
        add_eos_token=bool(header.metadata.get("tokenizer.ggml.add_eos_token", False)),
        **special,
    )
    tokenizer.chat_template = header.metadata.get("tokenizer.chat_template")
    return tokenizer


def check(header: Header) -> None:
    """Check that the tokenizer can be rebuilt. Raises BadArtifact."""
    special_ids(header)
    _described(header)


def special_ids(header: Header) -> dict[str, int]:
    """Return the ids of the file's special tokens, by transformers' names. Raises BadArtifact for one out of range."""
    count = len(_texts(header, "tokenizer.ggml.tokens"))
    found = {name: header.metadata.get(f"tokenizer.ggml.{key}") for name, key in _SPECIAL.items()}
    ids = {name: token for name, token in found.items() if token is not None}
    for name, token in ids.items():
        if not isinstance(token, int) or not 0 <= token < count:
            raise header.refusal(f"its {name} is {str(token)[:40]}, and it has {count:,} tokens")
    return ids


def ends(header: Header) -> list[int]:
    """Return the ids that end a text: the file's end of text, and its end of turn where that is another."""
    count = len(_texts(header, "tokenizer.ggml.tokens"))
    found = (header.metadata.get(f"tokenizer.ggml.{key}") for key in ("eos_token_id", "eot_token_id"))
    return list(dict.fromkeys(each for each in found if isinstance(each, int) and 0 <= each < count))


def _described(header: Header) -> dict[str, Any]:
    """Return what transformers' conversion reads. Raises BadArtifact if it would guess, or the vocabulary is broken."""
    keys: Mapping[str, str] = GGUF_TOKENIZER_MAPPING["tokenizer"]
    found = {
        ours: header.metadata[key] for name, ours in keys.items() if (key := f"tokenizer.{name}") in header.metadata
    }
    found.setdefault("pre_tokenizer_type", None)
    tokens = _texts(header, "tokenizer.ggml.tokens")
    if len(set(tokens)) != len(tokens):
        raise header.refusal("names a token twice")
    kind, splits = found.get("tokenizer_type"), found["pre_tokenizer_type"]
    if kind not in ("gpt2", "llama"):
        raise header.refusal(f"its tokenizer {kind!r} cannot be rebuilt; set guard.base to the safetensors folder")
    if kind == "gpt2" and splits not in {*GGUF_PRE_TOKENIZER_SPLITS, *_DIGITS, *_PLAIN}:
        raise header.refusal(
            f"how its tokenizer splits a text ({splits!r}) is not known here; set guard.base to the safetensors folder"
        )
    _compare(header, kind, found, len(tokens))
    return found


def _compare(header: Header, kind: str, found: Mapping[str, Any], count: int) -> None:
    """Check the lists beside the vocabulary, which transformers reads unchecked. Raises BadArtifact."""
    embedding = header.tensors["token_embd.weight"].shape[0]
    if count > embedding:
        raise header.refusal(f"has {count:,} tokens and embeddings of {embedding:,}")
    types, scores = found.get("token_type", []), found.get("scores", [])
    if (kind == "llama" and len(scores) != count) or (types and len(types) != count):
        raise header.refusal("has other numbers of tokens than of their scores or types")
    known = set(found["tokens"])
    merges = _texts(header, "tokenizer.ggml.merges") if kind == "gpt2" or "merges" in found else []
    for merge in merges:
        left, _, right = merge.partition(" ")
        if left not in known or right not in known or left + right not in known:
            raise header.refusal(f"merges {merge[:40]!r}, which are not tokens")


def _texts(header: Header, key: str) -> list[str]:
    """Return a list of texts. Raises BadArtifact."""
    found = header.metadata.get(key)
    if not isinstance(found, list) or not found or not isinstance(found[0], str):
        raise header.refusal(f"has no {key}: it is no model with a tokenizer")
    return found
