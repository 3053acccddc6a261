"""Fixtures of the tests on a real pretrained model, SmolLM2-135M-Instruct."""

from pathlib import Path

import pytest

MADE = Path(__file__).resolve().parents[2] / "build" / "real"


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """Return the folder of SmolLM2-135M-Instruct: float32 safetensors, config and tokenizer."""
    folder = MADE / "smollm2"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    return folder
