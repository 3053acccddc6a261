"""Write a GGUF file's weights as safetensors, one shard in memory at a time.

A weight in blocks is a scale times an integer plus an offset: that product needs more digits than 16 bits have, so it
is written as float32, which loses nothing. A file without blocks stays in its own half precision.
"""

import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from gguf.constants import GGML_QUANT_SIZES
from gguf.constants import GGMLQuantizationType as Kind
from gguf.quants import dequantize
from numpy.typing import NDArray

from wizloop.backends.gguf import architectures
from wizloop.backends.gguf.architectures import Architecture, Array
from wizloop.backends.gguf.header import Header, Tensor

SHARD_BYTES = 2 << 30
_HALF = {Kind.F16: "float16", Kind.BF16: "bfloat16"}


def values(header: Header, tensor: Tensor) -> Array:
    """Return a tensor's values as float32."""
    whole = np.memmap(header.path, dtype=np.uint8, mode="r", offset=tensor.start, shape=(tensor.size,))
    return dequantize(whole.reshape(*tensor.shape[:-1], -1), tensor.kind).reshape(tensor.shape)


def formats(header: Header) -> list[Kind]:
    """Return the formats of the file's weights. Raises BadArtifact for one that gguf cannot unpack."""
    kinds = sorted({each.kind for each in header.tensors.values()})
    for kind in kinds:
        try:
            dequantize(np.zeros((1, GGML_QUANT_SIZES[kind][1]), np.uint8), kind)
        except NotImplementedError as error:
            raise header.refusal(f"holds weights in {kind.name}, which cannot be unpacked") from error
    return kinds


def number_format(header: Header) -> str:
    """Return the narrowest format that holds every weight exactly: float16, bfloat16 or float32."""
    kinds = {each.kind for each in header.tensors.values()} - {Kind.F32}
    if len(kinds) != 1 or not kinds <= set(_HALF):
        return "float32"
    half = _HALF[kinds.pop()]
    vectors = (values(header, each) for each in header.tensors.values() if each.kind == Kind.F32)
    return half if all(_exact(each, half) for each in vectors) else "float32"


def size(header: Header) -> int:
    """Return the bytes of the weights in a folder, at most."""
    return sum(4 * math.prod(each.shape) for each in header.tensors.values())


def write(header: Header, config: dict[str, Any], to: Path) -> None:
    """Write the weights as transformers names and orders them. Raises BadArtifact."""
    architecture, names = architectures.of(header), architectures.names(header)
    shards = list(_shards(header, names))
    places: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        file = "model.safetensors" if len(shards) == 1 else f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        ready = dict(_converted(header, architecture, config, shard))
        specs = {name: _spec(found, config["dtype"]) for name, found in ready.items()}
        safetensors.serialize_file(specs, to / file, {"format": "pt"})
        places |= dict.fromkeys(ready, file)
    if len(shards) > 1:
        index = json.dumps({"metadata": {}, "weight_map": places}, indent=2)
        (to / "model.safetensors.index.json").write_text(index, encoding="utf-8")


def _shards(header: Header, names: dict[str, str]) -> Iterator[list[tuple[str, str]]]:
    """Yield pairs of names, the file's and transformers', that fill a shard in float32."""
    shard: list[tuple[str, str]] = []
    size = 0
    for theirs, ours in sorted(names.items(), key=lambda pair: pair[1]):
        shape = header.tensors[theirs].shape
        size += 4 * math.prod(shape)
        if shard and size > SHARD_BYTES:
            yield shard
            shard, size = [], 4 * math.prod(shape)
        shard.append((theirs, ours))
    yield shard


def _converted(
    header: Header, architecture: Architecture, config: dict[str, Any], shard: Iterable[tuple[str, str]]
) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield transformers' names and the weights, in the configured format. Raises BadArtifact."""
    for theirs, ours in shard:
        tensor = header.tensors[theirs]
        try:
            found = architectures.restored(architecture, config, ours, values(header, tensor))
        except ValueError as error:
            raise header.refusal(f"{theirs} is {tensor.shape}, which its number of heads does not divide") from error
        yield ours, _packed(np.ascontiguousarray(found), config["dtype"])


def _packed(found: Array, format: str) -> NDArray[Any]:
    """Return the values in a format that holds them exactly. NumPy has no bfloat16: its bits are the upper half's."""
    return (found.view(np.uint32) >> 16).astype(np.uint16) if format == "bfloat16" else found.astype(format, copy=False)


def _spec(found: NDArray[Any], format: str) -> Any:
    """Return what safetensors writes. `found` must outlive it."""
    return safetensors.TensorSpec(dtype=format, shape=found.shape, data_ptr=found.ctypes.data, data_len=found.nbytes)


def _exact(found: Array, half: str) -> bool:
    """Return whether half precision holds the values, which lie in the file and are not yet restored."""
    if half == "bfloat16":
        return not bool((np.ascontiguousarray(found).view(np.uint32) & 0xFFFF).any())
    return bool(np.array_equal(found.astype(np.float16).astype(np.float32), found))
