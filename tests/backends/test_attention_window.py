"""The window that a config asks for: its size, and whether every layer has it."""

from typing import Any

import pytest

from wizloop.backends.attention_window import Window, window_of

MIXED = {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]}


@pytest.mark.parametrize(
    ("config", "window"),
    [
        ({"model_type": "llama"}, None),
        ({"model_type": "mistral", "sliding_window": 8}, Window(8, True)),
        ({"model_type": "mistral", "sliding_window": None}, None),
        ({"model_type": "mistral"}, Window(4096, True)),
        ({"model_type": "gemma2", **MIXED}, Window(8, False)),
        ({"model_type": "llama", "sliding_window": 8, "layer_types": ["sliding_attention"]}, Window(8, True)),
        ({"model_type": "llama", "sliding_window": 8, "layer_types": ["full_attention"]}, None),
        ({"model_type": "qwen2", "sliding_window": 8, "use_sliding_window": False}, None),
        ({"model_type": "qwen2", "sliding_window": 8, "use_sliding_window": True}, Window(8, False)),
        ({"model_type": "outer", "text_config": {"model_type": "inner", **MIXED}}, Window(8, False)),
    ],
)
def test_the_window_of_a_config(config: dict[str, Any], window: Window | None) -> None:
    assert window_of(config) == window
