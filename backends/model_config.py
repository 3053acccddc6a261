"""What a model's config.json says, written so that mlx-lm and transformers read the same. Plain dicts, no library.

transformers 5 keeps the rotary settings in `rope_parameters`, by layer type where they differ. Most of mlx-lm's models
read the older keys beside it, and take a default without a word where one is missing.
"""

from collections.abc import Mapping
from typing import Any

Config = dict[str, Any]

GLOBAL, LOCAL = "full_attention", "sliding_attention"
"""Types of layers, as `layer_types` and `rope_parameters` name them."""

_THETA = ("rope_theta", "rotary_emb_base")
_LOCAL_THETA = ("rope_local_base_freq", "rope_local_theta", "swa_rope_theta", "local_rope_theta")
_SHARE = ("partial_rotary_factor", "rotary_pct")


def text_of(config: Mapping[str, Any]) -> Config:
    """Return the part about the text model, which a multimodal model keeps in `text_config`."""
    inner = config.get("text_config")
    return dict(inner) if isinstance(inner, dict) else dict(config)


def older_keys(config: Mapping[str, Any]) -> Config:
    """Return every older key that says what `rope_parameters` and `layer_types` say.

    Where a config has both and they differ, it means what transformers 5 takes: a top-level `rope_scaling` before
    `rope_parameters`, and a theta inside either before the top-level one.
    """
    whole, local = _rotary(config)
    theta = whole.get("rope_theta", config.get("rope_theta"))
    kind = whole.get("rope_type") or whole.get("type") or "default"
    found: Config = {} if theta is None else dict.fromkeys(_THETA, theta)
    if "partial_rotary_factor" in whole:
        found |= dict.fromkeys(_SHARE, whole["partial_rotary_factor"])
    if "original_max_position_embeddings" in whole:
        # Phi 3 has its own beside the scaling, which then counts.
        named = "original_max_position_embeddings"
        found[named] = config.get(named) or whole[named]
    if "rope_theta" in local:
        found |= dict.fromkeys(_LOCAL_THETA, local["rope_theta"])
    plain = {key: value for key, value in whole.items() if key not in ("rope_theta", "partial_rotary_factor")}
    found["rope_scaling"] = None if kind == "default" else {"rope_type": kind, "type": kind, **plain}
    return found | _layer_keys(config)


def local_rotary(config: Mapping[str, Any]) -> Config:
    """Return the rotary settings of sliding layers if these have their own and differ from the other layers'."""
    whole, local = _rotary(config)
    return local if local and local != whole else {}


def for_short_texts(config: Mapping[str, Any]) -> Config:
    """Return a config with LongRoPE's factors for texts within the original window, which mlx-lm always takes as long.

    transformers takes the long ones only for a longer text. No guard's prompt is one.
    """
    scaling = config.get("rope_scaling")
    if not isinstance(scaling, dict) or scaling.get("type") not in ("longrope", "su"):
        return dict(config)
    return {**config, "rope_scaling": {**scaling, "long_factor": scaling.get("short_factor")}}


def for_both(config: Mapping[str, Any]) -> Config:
    """Return the config with the older keys that every version of transformers knows, in the text part too."""
    found = dict(config)
    older = older_keys(config)
    for key in ("rope_theta", "rope_scaling", "partial_rotary_factor", "rope_local_base_freq"):
        if older.get(key) is not None:
            found[key] = older[key]
    if isinstance(config.get("text_config"), dict):
        found["text_config"] = for_both(config["text_config"])
    return found


def with_dtype(config: Mapping[str, Any], dtype: str) -> Config:
    """Return the config of weights in a number format, such as "float32"; `torch_dtype` is the key's older name."""
    found = {**config, "dtype": dtype}
    if "torch_dtype" in config:
        found["torch_dtype"] = dtype
    if isinstance(config.get("text_config"), dict):
        found["text_config"] = with_dtype(config["text_config"], dtype)
    return found


def end_tokens(*configs: Mapping[str, Any]) -> frozenset[int]:
    """Return the ids that end a text by config.json, its text part, or generation_config.json: Llama 3 has three."""
    parts = [part for config in configs for part in (config, text_of(config))]
    named = [part.get("eos_token_id") for part in parts]
    lists = [each if isinstance(each, list) else [each] for each in named if each is not None]
    return frozenset(int(each) for one in lists for each in one)


def _rotary(config: Mapping[str, Any]) -> tuple[Config, Config]:
    """Return the rotary settings of layers that attend to the whole text, and of sliding layers with their own."""
    said = config.get("rope_parameters")
    said = said if isinstance(said, dict) else {}
    scaling = config.get("rope_scaling")
    scaling = scaling if isinstance(scaling, dict) else {}
    by_layer = {key: dict(value) for key, value in said.items() if isinstance(value, dict)}
    if by_layer:
        return by_layer.get(GLOBAL, {}) | scaling, by_layer.get(LOCAL, {})
    return dict(scaling or said), {}


def _layer_keys(config: Mapping[str, Any]) -> Config:
    """Return `sliding_window_pattern` where every n-th layer attends to the whole text: n, and as letters."""
    types = config.get("layer_types")
    if not isinstance(types, list) or not set(types) <= {GLOBAL, LOCAL} or not types:
        return {}
    every = types.index(GLOBAL) + 1 if GLOBAL in types else len(types) + 1
    if types != [GLOBAL if (at + 1) % every == 0 else LOCAL for at in range(len(types))]:
        return {}
    return {"sliding_window_pattern": every}
