"""Fixtures of the tests on a real pretrained model, SmolLM2-135M-Instruct."""

from pathlib import Path

import pytest

from wizloop.backends.mlx import blas

# Before any test imports mlx: without it MLX multiplies 16 to 35 times slower here.
blas.preload()

MADE = Path(__file__).resolve().parents[2] / "build" / "real"


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """Return the folder of SmolLM2-135M-Instruct: float32 safetensors, config and tokenizer."""
    folder = MADE / "smollm2"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    return folder
