"""The first blocks of a base as one file beside another model, and a folder of them that any backend loads.

Merged weights give other hidden states than the base that a linear head was fitted on. Its export therefore holds the
base's own tensors up to the block whose states are read. They are copied byte by byte.
"""

import json
import re
import shutil
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

from wizloop import regular_file
from wizloop.backends import model_folder
from wizloop.backends.guard_base import block_at
from wizloop.backends.guard_types import BadArtifact

FILE = "linear-base.safetensors"
_BLOCK = re.compile(r"(?:^|\.)(?:layers|h|blocks|block)\.(\d+)\.")
_COUNTS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_MOST_HEADER = 100_000_000
"""Maximum bytes of a safetensors header, as its library has it."""
_PIECE = 1 << 24


@dataclass(frozen=True)
class _Tensor:
    """A tensor in a safetensors file: its header entry without the offsets, and where its bytes are."""

    file: Path
    name: str
    about: dict[str, Any]
    start: int
    length: int


def can_be_taken(base: str) -> bool:
    """Return whether a base is a folder of safetensors that are not packed: an export's configuration must fit them."""
    folder = model_folder.find(base)
    packed = {"quantization", "quantization_config"} & model_folder.config_of(folder).keys()
    return not packed and any(folder.glob("*.safetensors"))


def write(base: str, to: Path, depth: float) -> None:
    """Write the tensors of a base up to the block at `depth` (0..1) into `to`. Raises BackendError, OSError."""
    folder = model_folder.find(base)
    blocks, kept = _blocks(model_folder.config_of(folder), depth)
    tensors = [
        one
        for file in sorted(folder.glob("*.safetensors"))
        for one in _tensors(file)
        if kept == blocks or (at := _BLOCK.search(one.name)) is None or int(at[1]) < kept
    ]
    with (to / FILE).open("wb") as file:
        _write(file, tensors)


@contextmanager
def folder_of(export: Path, depth: float) -> Iterator[Path]:
    """Yield a temporary folder with an export's configuration and tokenizer, and the base's first blocks as its model.

    Raises BadArtifact for an export without them.
    """
    if not (export / FILE).is_file():
        raise BadArtifact(f"{export / FILE}: not found; export the guard again")
    config = model_folder.config_of(export)
    blocks, kept = _blocks(config, depth)
    with TemporaryDirectory(prefix="wizloop-") as place:
        made = Path(place)
        for path in export.iterdir():
            if path.suffix in (".json", ".jinja", ".txt", ".model") and "index" not in path.name:
                shutil.copyfile(path, made / path.name)
        for name in ("manifest.json", "guard.json"):
            (made / name).unlink(missing_ok=True)
        (made / "config.json").write_text(json.dumps(_cut(config, blocks, kept)), encoding="utf-8")
        (made / "model.safetensors").symlink_to((export / FILE).resolve())
        yield made


def _blocks(config: dict[str, Any], depth: float) -> tuple[int, int]:
    """Return how many blocks a model has, and how many of them are kept: all, if the config does not tell."""
    inner = config.get("text_config")
    told = [each.get(name) for each in (config, inner if isinstance(inner, dict) else {}) for name in _COUNTS]
    counts = {one for one in told if isinstance(one, int) and one > 0}
    if len(counts) != 1 or "vision_config" in config:
        return 1, 1
    blocks = counts.pop()
    return blocks, block_at(depth, blocks)


def _cut(config: dict[str, Any], blocks: int, kept: int) -> dict[str, Any]:
    """Return a config of fewer blocks: of every list with one entry a block too."""

    def short(name: str, value: Any) -> Any:
        if name in _COUNTS and value == blocks:
            return kept
        if isinstance(value, list) and len(value) == blocks:
            return value[:kept]
        return _cut(value, blocks, kept) if name == "text_config" and isinstance(value, dict) else value

    return config if blocks == kept else {name: short(name, value) for name, value in config.items()}


def _tensors(path: Path) -> Iterator[_Tensor]:
    """Yield the tensors of a file, by its header. Raises BadArtifact."""
    try:
        with regular_file.opened(path) as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > _MOST_HEADER:
                raise ValueError("its header is too long")
            header: dict[str, dict[str, Any]] = json.loads(file.read(length))
        for name, about in header.items():
            if name != "__metadata__":
                start, end = about.pop("data_offsets")
                yield _Tensor(path, name, about, 8 + length + start, end - start)
    except (struct.error, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadArtifact(f"{path}: is not safetensors ({error})") from error


def _write(to: BinaryIO, tensors: list[_Tensor]) -> None:
    """Write tensors one after the other behind a header."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for one in tensors:
        header[one.name] = {**one.about, "data_offsets": [at, at + one.length]}
        at += one.length
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    to.write(struct.pack("<Q", len(text)) + text)
    for one in tensors:
        with regular_file.opened(one.file) as file:
            file.seek(one.start)
            left = one.length
            while left:
                piece = file.read(min(_PIECE, left))
                if not piece:
                    raise BadArtifact(f"{one.file}: ends before its last tensor")
                to.write(piece)
                left -= len(piece)
