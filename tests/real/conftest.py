"""Fixtures of the tests on a real pretrained model, SmolLM2-135M-Instruct.

Its GGUF file is fetched once into build/real, by whichever process of the tests comes first, and kept there, as is the
folder that our own code makes of it.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.benchmarks.running import module
from wizloop.backends import model_folder
from wizloop.backends.mlx import blas

# Before any test imports mlx: without it MLX multiplies 16 to 35 times slower here.
blas.preload()


@pytest.fixture(scope="session")
def smollm2_gguf() -> Path:
    """Return the GGUF file of SmolLM2-135M-Instruct, in Q4_1."""
    real = module("real.py")
    try:
        file: Path = real.fetch()
    except real.Unavailable as why:
        pytest.skip(str(why))
    return file


@pytest.fixture(scope="session")
def smollm2(smollm2_gguf: Path) -> Iterator[Path]:
    """Return the folder of SmolLM2-135M-Instruct: float32 safetensors, config and tokenizer. No test may change it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("huggingface_hub.constants.HF_HOME", str(smollm2_gguf.parent))
        yield model_folder.find(str(smollm2_gguf))
