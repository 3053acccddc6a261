"""A model's config.json as mlx-lm reads it, with what its model asks for filled in; checked without the weights.

transformers' own class of a config says what it means, so that both libraries build the same model.
"""

import dataclasses
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from mlx_lm.utils import load_config, save_config
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from wizloop.backends import model_config, model_folder
from wizloop.backends.attention_window import window_of
from wizloop.backends.guard_types import BadArtifact
from wizloop.backends.mlx.layouts import classes
from wizloop.backends.model_config import GLOBAL, LOCAL, Config

UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, IndexError, AssertionError, StrictDataclassError)
"""What the two libraries raise for a config that they cannot read."""

# mlx-lm reads these types' layers by the names that they had before transformers 5.13.
_OLD_LAYERS = {"granitemoehybrid", "jamba"}
_OLD_NAMES = {"linear_attention": "mamba", GLOBAL: "attention"}


@dataclasses.dataclass(frozen=True, slots=True)
class _Asked:
    """The arguments of mlx-lm's model of a type: their class, None if there is none, and its fields by name."""

    args: Any
    fields: Mapping[str, Any]

    def needs(self, name: str) -> bool:
        """Return whether the field has no default."""
        field = self.fields[name]
        return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING

    def reads(self, *names: str) -> bool:
        """Return whether it reads one of these keys."""
        return any(name in self.fields for name in names)


def read(folder: Path) -> Config:
    """Return a folder's config, complete for mlx-lm. Raises BadArtifact, which names the file and the key."""
    if why := fault_of(folder, tokens=0):
        raise BadArtifact(f"{folder / 'config.json'}: {why}")
    return complete(_written(folder))


def fault_of(folder: Path, tokens: int) -> str | None:
    """Return why mlx-lm cannot build a folder's model for texts of so many tokens, or None."""
    try:
        return fault(complete(_written(folder)), tokens)
    except ValueError as error:
        return f"is not JSON ({error})"


def rewrite(folder: Path) -> None:
    """Complete a folder's config.json, which transformers has written, in place."""
    save_config(complete(_written(folder)), folder / "config.json", keep_vision_config=True)


def complete(config: Mapping[str, Any]) -> Config:
    """Return a config with every key that mlx-lm's model reads and that follows from the others."""
    meant = _meant(config)
    found = dict(config) | _filled(config, _asked(config), meant)
    inner = config.get("text_config")
    if isinstance(inner, dict):
        told = getattr(meant, "text_config", None)
        known = {} if told is None else {key: value for key, value in told.to_dict().items() if value is not None}
        found["text_config"] = model_config.for_both(known | inner) | _global_layers(inner)
    return found


def fault(config: Mapping[str, Any], tokens: int = 0) -> str | None:
    """Return why mlx-lm cannot build the model of a complete config for texts of so many tokens, or None.

    Builds the model's arguments and nothing else.
    """
    kind, asked = config.get("model_type"), _asked(config)
    if asked.args is None:
        return f'mlx-lm has no model of type {kind}: set guard.backend to "cuda" (torch), or use another model'
    # A text model alone has no text_config; mlx-lm takes the whole for it, or says so below.
    missing = [name for name in asked.fields if asked.needs(name) and name not in (*config, "text_config")]
    if missing:
        return (
            f"has no {', '.join(missing)}, which mlx-lm needs for a model of type {kind} and no other key says: take "
            "the file from where the model is published"
        )
    if why := _lost(config, asked, tokens):
        return f'{why}: set guard.backend to "cuda" (torch), or use another model'
    try:
        asked.args.from_dict(deepcopy(dict(config)))
    except UNREADABLE as error:
        return f"mlx-lm cannot read it for a model of type {kind} ({type(error).__name__}: {error})"
    return None


def _written(folder: Path) -> Config:
    """Return a folder's config with the end tokens of both its files: mlx-lm drops those of config.json."""
    config: Config = load_config(folder)
    ends = sorted(model_config.end_tokens(model_folder.config_of(folder), config))
    return {**config, "eos_token_id": ends if len(ends) > 1 else ends[0]} if ends else config


def _asked(config: Mapping[str, Any]) -> _Asked:
    try:
        _, args = classes(dict(config))
    except (KeyError, ValueError, SystemExit):
        # SystemExit: mlx-lm's olmo ends the process where its own library is missing.
        return _Asked(None, {})
    return _Asked(args, {field.name: field for field in dataclasses.fields(args)})


def _meant(config: Mapping[str, Any]) -> Any:
    """Return the config as transformers' class of that type reads it, or None for a type that it does not know."""
    kind = config.get("model_type")
    if kind not in CONFIG_MAPPING:
        return None
    try:
        return CONFIG_MAPPING[kind].from_dict(deepcopy(dict(config)))
    except UNREADABLE:
        return None


def _filled(config: Mapping[str, Any], asked: _Asked, meant: Any) -> Config:
    """Return the keys to add or to correct: older ones, and those that transformers knows by another name."""
    whole = ({} if meant is None else meant.to_dict()) | dict(config)
    found: Config = {}
    for name in asked.fields:
        # A list may be written in another way there: it is taken only where nothing else can be.
        plain = (bool, int, float, str, list, dict) if asked.needs(name) else (bool, int, float, str)
        if name not in config and isinstance(value := getattr(meant, name, None), plain):
            found[name] = value
    older = model_config.older_keys(whole)
    found |= {name: value for name, value in older.items() if name in asked.fields}
    if "rope_scaling" in found and found["rope_scaling"] is None and not asked.needs("rope_scaling"):
        del found["rope_scaling"]
    if asked.reads("sliding_window_pattern") and "sliding_window_pattern" in found:
        found["sliding_window_pattern"] = _pattern(found["sliding_window_pattern"], asked)
    if "head_dim" in asked.fields and asked.needs("head_dim") and whole.get("head_dim") is None:
        found["head_dim"] = whole["hidden_size"] // whole["num_attention_heads"]
    if asked.reads("block_dim") and "block_dim" not in config:
        found["block_dim"] = whole["hidden_size"]
    found |= _global_layers(config)
    if config.get("model_type") in _OLD_LAYERS and isinstance(config.get("layer_types"), list):
        found["layer_types"] = [_OLD_NAMES.get(each, each) for each in config["layer_types"]]
    return found


def _global_layers(config: Mapping[str, Any]) -> Config:
    """Return how wide Gemma 4's layers are that attend to the whole text, which transformers 5 writes by layer."""
    apart, types = config.get("per_layer_config"), config.get("layer_types") or []
    if not isinstance(apart, dict) or GLOBAL not in types:
        return {}
    told = apart.get(str(types.index(GLOBAL)), {})
    found = {"global_head_dim": told.get("head_dim", config.get("head_dim"))}
    if "num_key_value_heads" in told:
        found["num_global_key_value_heads"] = told["num_key_value_heads"]
    return found


def _pattern(every: Any, asked: _Asked) -> Any:
    """Return how often a layer attends to the whole text, as a number or as EXAONE's letters."""
    if "str" not in str(asked.fields["sliding_window_pattern"].type) or isinstance(every, str):
        return every
    return "L" * (every - 1) + "G" if every > 1 else None


def _lost(config: Mapping[str, Any], asked: _Asked, tokens: int) -> str | None:
    """Return what the config says that mlx-lm's model has no word for, or None."""
    kind, types = config.get("model_type"), set(config.get("layer_types") or ())
    older, local = model_config.older_keys(config), model_config.local_rotary(config)
    if not asked.reads("rope_parameters") and asked.reads("rope_theta"):
        if older["rope_scaling"] is not None and not asked.reads("rope_scaling"):
            return f"its rotary scaling is {older['rope_scaling']['rope_type']}, and mlx-lm's {kind} scales nothing"
        share = older.get("partial_rotary_factor", 1)
        if share != 1 and not asked.reads("partial_rotary_factor", "rotary_dim", "partial_rotary_factors"):
            return f"its partial_rotary_factor is {share}, and mlx-lm's {kind} rotates each head as a whole"
        apart = local.get("rope_theta", older.get("rope_theta")) != older.get("rope_theta")
        if LOCAL in types and apart and not asked.reads("rope_local_base_freq", "rope_local_theta", "swa_rope_theta"):
            return f"its sliding layers have their own rope_theta, for which mlx-lm's {kind} has no key"
    by_pattern = asked.reads("sliding_window_pattern") and not asked.reads("layer_types")
    if by_pattern and types == {LOCAL, GLOBAL} and "sliding_window_pattern" not in older:
        return f"its layer_types do not repeat, and mlx-lm's {kind} knows a sliding_window_pattern only"
    window = _ignored_window(config, asked)
    if window is not None and tokens > window:
        return f"its layers were trained with a window of {window} tokens, which mlx-lm's {kind} does not keep"
    return None


def _ignored_window(config: Mapping[str, Any], asked: _Asked) -> int | None:
    """Return the sliding window that mlx-lm's model ignores, in tokens: it attends to the whole text instead."""
    window, types = window_of(config), config.get("layer_types")
    # Where every layer has it, the masks of caches.py keep it.
    if window is None or window.everywhere:
        return None
    kept = (types and asked.reads("layer_types")) or asked.reads("sliding_window_pattern", "hybrid_layer_pattern")
    return None if kept else window.size
