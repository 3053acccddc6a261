"""A disk that fills up while a model is written is one error, whatever the library says; with room it is written."""

import errno
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch

from tests import byte_tokenizer, disks
from wizloop.backends import artifacts
from wizloop.backends.guard_types import BadArtifact

VALUES = np.arange(400_000, dtype=np.float32)
"""1.6 MB."""
Write = Callable[[Path], object]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MB, of which one is left."""
    with disks.small(tmp_path / "disk", 4) as folder:
        (folder / "ballast").write_bytes(bytes(3 << 20))
        yield folder


WRITERS: dict[str, Write] = {
    "MLX": lambda to: mx.save_safetensors(str(to / "a.safetensors"), {"a": mx.array(VALUES)}),
    "torch": lambda to: safetensors.torch.save_file({"a": torch.from_numpy(VALUES)}, to / "a.safetensors"),
    "NumPy": lambda to: safetensors.numpy.save_file({"a": VALUES}, to / "a.safetensors"),
    "a file": lambda to: VALUES.tofile(to / "a.txt"),
    "Python": lambda to: (to / "a.txt").write_bytes(VALUES.tobytes()),
    "tokenizers": lambda to: byte_tokenizer.save(to, "a" * 1_600_000),
}


def write(final: Path, writer: Write) -> None:
    with artifacts.writing(final, {}) as folder:
        writer(folder)


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_one_error_and_leaves_nothing(disk: Path, name: str) -> None:
    with pytest.raises(OSError, match=r"full|No space left") as full:
        write(disk / "models" / "r01", WRITERS[name])
    assert full.value.errno == errno.ENOSPC
    assert list((disk / "models").iterdir()) == []
    (disk / "ballast").unlink()
    write(disk / "models" / "r01", WRITERS[name])
    artifacts.verify(disk / "models" / "r01")


@pytest.mark.parametrize("error", [BadArtifact("another model"), KeyboardInterrupt()])
def test_what_is_no_librarys_error_stays_what_it_is(disk: Path, error: Any) -> None:
    def fill(to: Path) -> None:
        with (to / "a.txt").open("wb", buffering=0) as file:
            file.write(bytes(2 << 20))
        raise error

    with pytest.raises(type(error)):
        write(disk / "models" / "r01", fill)
