"""A tiny guard that has read a little, built once for all tests of this room."""

import itertools
import shutil
from pathlib import Path

import pytest

from wizloop.backends.mlx import blas

blas.preload()

SUBJECTS = ("the baker", "my neighbour", "a nurse", "the old sailor", "our teacher", "a small dog")
VERBS = ("asks about", "wants to read of", "sings of", "is afraid of", "writes letters about")
THINGS = (
    "bread at home",
    "the sea in winter",
    "harmful mushrooms",
    "unharmful spiders",
    "a long word",
    "how engines work",
)


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from wizloop.backends.tiny.build import Shape, build

    texts = [f"{a} {b} {c}." for a, b, c in itertools.product(SUBJECTS, VERBS, THINGS)]
    fixed = [
        f"Human user:\n{text}\n\nAI assistant:\nNone\n\nAnswers:\nRequest: {word}"
        for text in texts[:8]
        for word in ("harmful", "unharmful")
    ]
    folder = tmp_path_factory.mktemp("base")
    build(
        folder,
        texts,
        shape=Shape(vocab=700, width=64, mlp=128),
        epochs=1,
        seed=5,
        progress=lambda *_: None,
        fixed_texts=fixed,
    )
    return folder


@pytest.fixture(scope="session")
def dense_base(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same without an output whose weights are all zero, as pretrained guards are."""
    import numpy as np
    from safetensors.numpy import load_file, save_file

    folder = tmp_path_factory.mktemp("dense") / "base"
    shutil.copytree(tiny_base, folder)
    rng = np.random.default_rng(1)
    tensors = load_file(folder / "model.safetensors")
    noisy = {name: each + 0.01 * rng.standard_normal(each.shape, np.float32) for name, each in tensors.items()}
    save_file(noisy, folder / "model.safetensors", {"format": "mlx"})
    return folder
