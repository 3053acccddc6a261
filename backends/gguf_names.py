"""Which models llama.cpp computes like transformers, from a folder's JSON files. Imports no model library."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FILE = "model.gguf"
"""The file of an export."""
ARCHITECTURES: Mapping[str, str] = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}
"""transformers' model_type to llama.cpp's architecture."""

_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_SPLITS: Mapping[str, tuple[str, bool]] = {
    _WORDS % "{1,3}": ("llama-bpe", True),
    _WORDS % "": ("qwen2", False),
}
"""Regular expression of a tokenizer to llama.cpp's name for it, and whether that ignores merges of whole words."""


def fault(folder: Path) -> str | None:
    """Return why the model in a folder cannot be written as GGUF, or None. Reads its JSON files only."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return f"{folder}: no GGUF without a readable config.json and tokenizer.json ({type(error).__name__})"
    kind = config.get("model_type")
    if kind not in ARCHITECTURES:
        return (
            f"a model of type {kind} is not written as GGUF, only {', '.join(ARCHITECTURES)}: export safetensors and "
            "convert it with llama.cpp's convert_hf_to_gguf.py"
        )
    if config.get("sliding_window") and config.get("use_sliding_window", True):
        return f"a {kind} with a sliding window is not written as GGUF: llama.cpp would attend to the whole text"
    if (rope := rope_of(config).get("rope_type", "default")) not in ("default", "linear", "llama3"):
        return f"a {kind} with rotary embeddings of type {rope} is not written as GGUF: export safetensors"
    if pre_tokenizer_of(tokenizer) is None:
        return (
            "this tokenizer is not written as GGUF: llama.cpp has no name for how it splits a text. Known are the "
            "byte-level ones of GPT-2, SmolLM, Llama 3 and Qwen; export safetensors"
        )
    return None


def bos_of(folder: Path) -> str:
    """Return the token that the tokenizer puts before every text, as text; empty without one."""
    from tokenizers import Tokenizer

    path = folder / "tokenizer_config.json"
    bos = json.loads(path.read_text(encoding="utf-8")).get("bos_token") if path.is_file() else None
    text = bos["content"] if isinstance(bos, dict) else bos
    first = Tokenizer.from_file(str(folder / "tokenizer.json")).encode("a").tokens[:1]
    return str(text) if text and first == [text] else ""


def stops_of(folder: Path) -> list[str]:
    """Return the tokens that end a text, as text: those of the generation settings, the model and the tokenizer."""
    added = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["added_tokens"]
    text = {one["id"]: one["content"] for one in added}
    found: list[str] = []
    for name in ("generation_config.json", "config.json"):
        path = folder / name
        ids = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id") if path.is_file() else None
        found += [text[each] for each in (ids if isinstance(ids, list) else [ids]) if each in text]
    path = folder / "tokenizer_config.json"
    end = json.loads(path.read_text(encoding="utf-8")).get("eos_token") if path.is_file() else None
    found += [end["content"] if isinstance(end, dict) else end] if end else []
    return list(dict.fromkeys(found))


def rope_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the rotary settings of either layout: transformers 5 nests all of them."""
    found = dict(config.get("rope_scaling") or {}) | dict(config.get("rope_parameters") or {})
    found.setdefault("rope_theta", config.get("rope_theta", 10_000.0))
    found.setdefault("rope_type", found.pop("type", "default"))
    return found


def pre_tokenizer_of(tokenizer: Mapping[str, Any]) -> str | None:
    """Return llama.cpp's name for how a byte-level BPE splits a text, or None."""
    model, whole = tokenizer.get("model") or {}, tokenizer.get("pre_tokenizer") or {}
    if model.get("type") != "BPE" or (tokenizer.get("normalizer") or {}).get("type", "NFC") != "NFC":
        return None
    steps = whole.get("pretokenizers", [whole])
    last = steps[-1]
    if last.get("type") != "ByteLevel" or last.get("add_prefix_space"):
        return None
    merges_words, before = not model.get("ignore_merges", False), steps[:-1]
    if last.get("use_regex", True):
        digits = [{"type": "Digits", "individual_digits": True}]
        return {"[]": "gpt-2", json.dumps(digits): "smollm"}.get(json.dumps(before)) if merges_words else None
    if len(before) != 1 or before[0].get("type") != "Split" or before[0].get("invert"):
        return None
    name, ignores = _SPLITS.get(before[0]["pattern"].get("Regex", ""), (None, False))
    return name if ignores != merges_words else None
