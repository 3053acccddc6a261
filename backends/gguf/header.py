"""Read the metadata and the table of tensors of a GGUF file, which may lie. It reads no weights.

The gguf package's own reader trusts every count and builds an array object for each value: 4 s for a vocabulary of
49,152 tokens. Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

import math
import mmap
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gguf.constants import GGML_QUANT_SIZES, GGUF_DEFAULT_ALIGNMENT, GGUF_MAGIC, GGMLQuantizationType, GGUFValueType

from wizloop.backends.guard_types import BadArtifact

VERSIONS = (2, 3)
_MOST_KEYS, _MOST_TENSORS, _MOST_ITEMS, _LONGEST = 4096, 100_000, 2_000_000, 1 << 22
"""No model comes near these: keys, tensors, items of an array, and bytes of a text."""
_NAME = re.compile(r"[a-z0-9_.]{1,128}\Z")
_SCALARS = {
    GGUFValueType.UINT8: "B",
    GGUFValueType.INT8: "b",
    GGUFValueType.UINT16: "H",
    GGUFValueType.INT16: "h",
    GGUFValueType.UINT32: "I",
    GGUFValueType.INT32: "i",
    GGUFValueType.UINT64: "Q",
    GGUFValueType.INT64: "q",
    GGUFValueType.FLOAT32: "f",
    GGUFValueType.FLOAT64: "d",
    GGUFValueType.BOOL: "?",
}


@dataclass(frozen=True, slots=True)
class Tensor:
    """Where a tensor lies in the file."""

    shape: tuple[int, ...]
    """Slowest dimension first, as NumPy counts."""
    kind: GGMLQuantizationType
    start: int
    """Byte offset in the file."""
    size: int
    """Bytes."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a GGUF file says about itself."""

    path: Path
    metadata: Mapping[str, Any]
    tensors: Mapping[str, Tensor]

    @property
    def architecture(self) -> str:
        """The family of models that llama.cpp runs it as; empty if the file does not say."""
        return str(self.metadata.get("general.architecture", ""))

    def get(self, key: str) -> Any:
        """Return the value of `key` of the file's architecture, or None."""
        return self.metadata.get(f"{self.architecture}.{key}")

    def refusal(self, why: str) -> BadArtifact:
        """Return the error for a file that says `why` it cannot be read."""
        return BadArtifact(f"{self.path}: {why}")


def read(path: Path) -> Header:
    """Read a file's header. Raises BadArtifact if it is no whole GGUF file, or says what cannot be."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _Cursor(data, path).header()
    except (OSError, ValueError, struct.error, OverflowError) as error:
        raise BadArtifact(f"{path}: is not a whole GGUF file ({error}); download it again") from error


class _Cursor:
    """A position in the file's bytes. Reading past the end raises struct.error."""

    def __init__(self, data: mmap.mmap, path: Path) -> None:
        self._data, self._path, self._at = data, path, 0

    def header(self) -> Header:
        """Read the header from the start."""
        magic, version, tensors, keys = self._take("IIQQ")
        if magic != GGUF_MAGIC or version not in VERSIONS:
            raise ValueError("its first bytes are not those of GGUF 2 or 3, little-endian")
        metadata = dict(self._pair() for _ in range(_bounded(keys, _MOST_KEYS, "keys")))
        infos = [self._info() for _ in range(_bounded(tensors, _MOST_TENSORS, "tensors"))]
        if len(metadata) != keys or len({name for name, *_ in infos}) != tensors:
            raise ValueError("it names a key or a tensor twice")
        alignment = metadata.get("general.alignment", GGUF_DEFAULT_ALIGNMENT)
        if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
            raise ValueError(f"its alignment is {alignment}")
        return Header(self._path, metadata, self._placed(infos, -(-self._at // alignment) * alignment))

    def _placed(self, infos: list[tuple[str, tuple[int, ...], int, int]], start: int) -> dict[str, Tensor]:
        """Return the tensors by name, each inside the file and together not larger than it."""
        tensors = {}
        for name, shape, kind, offset in infos:
            format = GGMLQuantizationType(kind)
            block, size = GGML_QUANT_SIZES[format]
            if shape[-1] % block:
                raise ValueError(f"a row of {name} has {shape[-1]} values, not a multiple of {block}")
            tensors[name] = Tensor(shape, format, start + offset, math.prod(shape) // block * size)
        whole = len(self._data)
        if any(each.start + each.size > whole for each in tensors.values()):
            raise ValueError("it ends before its weights do")
        if sum(each.size for each in tensors.values()) > whole:
            raise ValueError("its weights are larger than it is")
        return tensors

    def _info(self) -> tuple[str, tuple[int, ...], int, int]:
        """Read a tensor's name, shape, format and offset."""
        name = self._text()
        if not _NAME.match(name):
            raise ValueError(f"{name[:80]!r} is no name of a tensor")
        (count,) = self._take("I")
        if not 1 <= count <= 4:
            raise ValueError(f"{name} has {count} dimensions")
        shape = self._take(f"{count}Q")
        if min(shape) < 1:
            raise ValueError(f"{name} is empty")
        return name, tuple(reversed(shape)), *self._take("IQ")

    def _pair(self) -> tuple[str, Any]:
        key = self._text()
        (kind,) = self._take("I")
        return key, self._value(GGUFValueType(kind))

    def _value(self, kind: GGUFValueType) -> Any:
        if kind == GGUFValueType.STRING:
            return self._text()
        if kind != GGUFValueType.ARRAY:
            return self._take(_SCALARS[kind])[0]
        item, count = self._take("IQ")
        _bounded(count, _MOST_ITEMS, "items of an array")
        if item == GGUFValueType.STRING:
            return [self._text() for _ in range(count)]
        if item not in _SCALARS:
            raise ValueError(f"it has an array of type {item}")
        return list(self._take(f"{count}{_SCALARS[GGUFValueType(item)]}"))

    def _text(self) -> str:
        (length,) = self._take("Q")
        _bounded(length, _LONGEST, "bytes of a text")
        return bytes(self._take(f"{length}s")[0]).decode("utf-8")

    def _take(self, format: str) -> tuple[Any, ...]:
        values = struct.unpack_from(f"<{format}", self._data, self._at)
        self._at += struct.calcsize(f"<{format}")
        return values


def _bounded(count: int, most: int, what: str) -> int:
    if count > most:
        raise ValueError(f"it claims {count:,} {what}")
    return count
