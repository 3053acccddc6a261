"""Refuse a model folder before any library reads it: one that names code, pipes as files, and sizes that cannot be.

A folder is untrusted. What a library would raise, run or wait for, is found here by its plain JSON. It loads no model.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from wizloop import regular_file
from wizloop.backends.guard_types import BadArtifact

_MOST_BYTES: Mapping[str, int | None] = {
    ".safetensors": None,
    ".json": 256_000_000,
    ".model": 64_000_000,
    ".tiktoken": 64_000_000,
    ".txt": 64_000_000,
    ".jinja": 1_000_000,
}
"""Maximum size of the files that a loader reads, by suffix: the longest tokenizer.json in use has 35 MB."""
_TEMPLATES = "additional_chat_templates"
"""The folder of further templates that transformers reads."""
_MOST_TEMPLATE = 1_000_000
"""Characters of a chat template; the longest in use has 30,000."""
_NO_SETTINGS = ("tokenizer.json", "vocab.json", "manifest.json", "guard.json")
"""JSON files that no library takes settings from."""
_CODE = ("auto_map", "custom_generate", "custom_pipelines")
_KERNEL = re.compile(r"_?(attn|experts)_implementation(_internal)?\Z")
_PLAIN = re.compile(r"[A-Za-z0-9_|]*\Z")
_TAKE = "take the file from where the model is published"

_COUNTS: Mapping[str, tuple[int, int]] = {
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers"), (1, 2_000)),
    **dict.fromkeys(("hidden_size", "n_embd", "d_model"), (1, 1 << 17)),
    **dict.fromkeys(("num_attention_heads", "num_key_value_heads", "n_head", "n_heads"), (1, 1 << 12)),
    **dict.fromkeys(("intermediate_size", "moe_intermediate_size", "n_inner", "ffn_dim"), (0, 1 << 21)),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "num_experts_per_tok"), (0, 1 << 16)),
    **dict.fromkeys(("max_position_embeddings", "n_positions"), (1, 1 << 24)),
    "vocab_size": (1, 1 << 23),
    "head_dim": (0, 1 << 14),
    "eos_token_id": (-1, 1 << 31),
    "bos_token_id": (-1, 1 << 31),
    "pad_token_id": (-1, 1 << 31),
}
"""Least and most of the whole numbers that libraries build from: more fills the machine, or never ends."""
_TEXTS = ("model_type",)


def refuse(folder: Path) -> None:
    """Raise BadArtifact, which names the file and the key, for a folder that no library may read."""
    if why := fault(folder):
        raise BadArtifact(why)


def fault(folder: Path) -> str | None:
    """Return why no library may read a folder, or None."""
    try:
        return next(_faults(folder), None)
    except OSError as error:
        return f"{error.filename or folder}: {error.strerror}"


def too_large(config: Mapping[str, Any], folder: Path) -> str | None:
    """Return what of a config cannot be in the folder's weights, or None: a model of it would be larger by far.

    No format takes less than an eighth of a byte for a weight. A folder without safetensors has nothing to compare.
    """
    weights = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    width, layers = _number(config, "hidden_size"), _number(config, "num_hidden_layers")
    if not weights or not width:
        return None
    for name, count in (
        *((name, _number(config, name)) for name in ("vocab_size", "intermediate_size")),
        ("num_hidden_layers", layers * width),
    ):
        if count * width // 8 > weights:
            found = config[name]
            return f"its {name} of {found:,} and hidden_size of {width:,} are not those of {weights:,} bytes of weights"
    return None


def _number(config: Mapping[str, Any], name: str) -> int:
    value = config.get(name)
    return value if isinstance(value, int) else 0


def _faults(folder: Path) -> Iterator[str]:
    paths = [Path(entry.path) for each in (folder, folder / _TEMPLATES) if each.is_dir() for entry in os.scandir(each)]
    for path in sorted(paths):
        if path.suffix in _MOST_BYTES:
            regular_file.opened(path, _MOST_BYTES[path.suffix]).close()
    if (folder / "custom_generate").exists():
        yield f"{folder / 'custom_generate'}: is code that comes with the model, and wizloop never runs any"
    if (folder / "adapter_config.json").exists() and (folder / "config.json").exists():
        yield f"{folder / 'adapter_config.json'}: names another model; a base is a folder without an adapter in it"
    for path in sorted(folder.glob("*.json")):
        if path.name not in _NO_SETTINGS and not path.name.endswith(".index.json"):
            yield from _settings_faults(path)


def _settings_faults(path: Path) -> Iterator[str]:
    """Yield what is wrong with a JSON file of settings."""
    try:
        found = json.loads(regular_file.read_bytes(path))
    except (ValueError, RecursionError) as error:
        yield f"{path}: is not JSON ({error}); {_TAKE}"
        return
    if not isinstance(found, dict):
        if path.name.endswith("config.json") or path.name == "special_tokens_map.json":
            yield f"{path}: holds a {type(found).__name__} instead of an object with settings; {_TAKE}"
        return
    yield from (f"{path}: {why}" for why in _code_in(found))
    if path.name in ("config.json", "generation_config.json"):
        yield from (f"{path}: {why}; {_TAKE}" for why in number_faults(found))
    if path.name == "config.json" and (why := too_large(found, path.parent) or too_large(_text(found), path.parent)):
        yield f"{path}: {why}; {_TAKE}"
    template = found.get("chat_template")
    if len(template if isinstance(template, str) else json.dumps(template)) > _MOST_TEMPLATE:
        yield f"{path}: its chat_template is longer than {_MOST_TEMPLATE:,} characters; {_TAKE}"


def _code_in(settings: Mapping[str, Any]) -> Iterator[str]:
    """Yield each key of settings, at any depth, that makes a library run code of the model's or of the hub's."""
    if settings.get("model_file") is not None:
        yield "has 'model_file', which runs code that comes with the model; wizloop never does"
    waiting: list[Any] = [settings]
    while waiting:
        each = waiting.pop()
        if not isinstance(each, dict):
            waiting += each if isinstance(each, list) else []
            continue
        for key, value in each.items():
            if key in _CODE and value is not None:
                yield f"has {key!r}, which runs code that comes with the model; wizloop never does"
            elif _KERNEL.match(key) and not all(map(_PLAIN.match, _words(value))):
                yield f"has {key!r} of another repository, whose code would run; wizloop never runs any"
            waiting.append(value)


def _words(value: Any) -> list[str]:
    return [str(each) for each in (value.values() if isinstance(value, dict) else [value]) if each is not None]


def number_faults(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield each number of a config, or of its part about the text, that no model has."""
    for part in (config, _text(config)):
        for name in _TEXTS:
            if not isinstance(part.get(name, ""), str):
                yield f"{name} is {_brief(part[name])}: it must be a text"
        for name, (least, most) in _COUNTS.items():
            value = part.get(name)
            for each in value if isinstance(value, list) else [value]:
                if each is not None and not (_is_whole(each) and least <= each <= most):
                    yield f"{name} is {_brief(each)}: it must be a whole number from {least:,} to {most:,}"


def _is_whole(value: Any) -> bool:
    return type(value) is int or (type(value) is float and value.is_integer())


def _text(config: Mapping[str, Any]) -> Mapping[str, Any]:
    inner = config.get("text_config")
    return inner if isinstance(inner, dict) else {}


def _brief(value: Any) -> str:
    return repr(value)[:60]
