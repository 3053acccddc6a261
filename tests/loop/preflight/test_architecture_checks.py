"""An architecture that the backend cannot run is refused in the dry run, by its config alone."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from wizloop.loop.cli import app
from wizloop.loop.preflight import Check

RECIPE = """
name = "mine"
source = "demo"
[guard]
base = "{base}"
backend = "{backend}"
device = "cpu"
max_prompt_tokens = {tokens}
"""
SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 99,
}
SIZES |= {"intermediate_size": 64, "head_dim": 16, "max_position_embeddings": 512, "rms_norm_eps": 1e-6}
MAMBA = {"state_size": 4, "expand": 2, "conv_kernel": 2, "use_bias": False, "use_conv_bias": True, "time_step_rank": 4}


def check(folder: Path, backend: str, tokens: int = 512, **config: Any) -> Check:
    (folder / "base").mkdir()
    (folder / "base" / "config.json").write_text(json.dumps(SIZES | config), encoding="utf-8")
    recipe = folder / "mine.toml"
    recipe.write_text(RECIPE.format(base=folder / "base", backend=backend, tokens=tokens), encoding="utf-8")
    asked = ["start", "--dry-run", "--json", str(recipe), "-w", str(folder / "runs")]
    found = json.loads(CliRunner().invoke(app, asked).stdout)
    [one] = [Check(**one) for one in found["checks"] if one["name"] == "model"]
    assert found["ok"] <= one.ok
    return one


@pytest.mark.parametrize("backend", ["mlx", "cuda"])
def test_an_architecture_that_runs_is_no_reason(tmp_path: Path, backend: str) -> None:
    found = check(tmp_path, backend, model_type="qwen3", rope_theta=1e6, tie_word_embeddings=True)
    assert found == Check("model", True, f"the folder {tmp_path / 'base'}")


@pytest.mark.parametrize(
    ("backend", "config", "says"),
    [
        ("mlx", {"model_type": "walrus"}, "mlx-lm has no model of type walrus"),
        ("cuda", {"model_type": "walrus"}, "transformers cannot read it (ValueError"),
        ("cuda", {"model_type": "mamba", **MAMBA}, "keeps a state in every layer"),
        ("mlx", {"model_type": "gemma2", "sliding_window": 256}, "a window of 256 tokens, which mlx-lm's gemma2"),
    ],
)
def test_an_architecture_that_cannot_run_is_refused(
    tmp_path: Path, backend: str, config: dict[str, Any], says: str
) -> None:
    found = check(tmp_path, backend, **config)
    assert not found.ok
    assert says in found.found


def test_a_window_in_every_layer_is_kept_and_one_that_no_text_exceeds_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert check(tmp_path / "a", "mlx", model_type="mistral", sliding_window=256, rope_theta=1e4).ok
    assert check(tmp_path / "b", "mlx", 100, model_type="gemma2", sliding_window=256).ok
