"""A GGUF file that is damaged, or lies, is refused with a sentence, and never with another error."""

import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.backends.gguf import made
from wizloop.backends.gguf import folder, header
from wizloop.backends.guard_types import BadArtifact

STRING, ARRAY, UINT8, UINT32 = 8, 9, 0, 4
HUGE = (1 << 63) - 1


def file(*, keys: int = 1, tensors: int = 0, body: bytes = b"", version: int = 3) -> bytes:
    """Return a GGUF file that claims these counts."""
    return b"GGUF" + struct.pack("<IQQ", version, tensors, keys) + body


def text(value: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(value) if length is None else length) + value


def pair(key: bytes, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def tensor(name: bytes, shape: tuple[int, ...], kind: int = 0, offset: int = 0) -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


LIES = {
    "nothing": b"",
    "another file": b"PK\x03\x04" + bytes(100),
    "a version of the future": file(version=9),
    "big-endian": b"GGUF" + struct.pack(">IQQ", 3, 0, 0),
    "more keys than bytes": file(keys=HUGE),
    "more tensors than bytes": file(keys=0, tensors=HUGE),
    "keys that are not there": file(keys=2, body=pair(b"a", UINT8, b"\1")),
    "a text longer than the file": file(body=text(b"a", HUGE)),
    "a text that is not UTF-8": file(body=pair(b"a", STRING, text(b"\xff\xfe"))),
    "an unknown type": file(body=pair(b"a", 77, b"\0" * 8)),
    "an endless array": file(body=pair(b"a", ARRAY, struct.pack("<IQ", UINT8, HUGE))),
    "an endless array of texts": file(body=pair(b"a", ARRAY, struct.pack("<IQ", STRING, HUGE))),
    "a large array that is not there": file(body=pair(b"a", ARRAY, struct.pack("<IQ", UINT32, 2_000_000))),
    "an array of arrays": file(body=pair(b"a", ARRAY, struct.pack("<IQ", ARRAY, 1) + b"\0" * 20)),
    "a key twice": file(keys=2, body=pair(b"a", UINT8, b"\1") * 2),
    "an alignment of zero": file(body=pair(b"general.alignment", UINT32, struct.pack("<I", 0))),
    "an alignment that is no power of two": file(body=pair(b"general.alignment", UINT32, struct.pack("<I", 24))),
    "an alignment that is a text": file(body=pair(b"general.alignment", STRING, text(b"32"))),
    "a tensor named as a path": file(keys=0, tensors=1, body=tensor(b"../../x", (4,)) + bytes(99)),
    "a tensor without a name": file(keys=0, tensors=1, body=tensor(b"", (4,)) + bytes(99)),
    "a tensor without dimensions": file(keys=0, tensors=1, body=tensor(b"a", ()) + bytes(99)),
    "a tensor of nine dimensions": file(keys=0, tensors=1, body=tensor(b"a", (1,) * 9) + bytes(99)),
    "an empty tensor": file(keys=0, tensors=1, body=tensor(b"a", (0, 4)) + bytes(99)),
    "a tensor of no format": file(keys=0, tensors=1, body=tensor(b"a", (4,), kind=250) + bytes(99)),
    "a row that ends in a block": file(keys=0, tensors=1, body=tensor(b"a", (33,), kind=2) + bytes(99)),
    "a tensor beyond the end": file(keys=0, tensors=1, body=tensor(b"a", (4,), offset=HUGE) + bytes(99)),
    "a tensor larger than memory": file(keys=0, tensors=1, body=tensor(b"a", (1 << 40, 1 << 20)) + bytes(99)),
    "a size that overflows": file(keys=0, tensors=1, body=tensor(b"a", (1 << 32, 1 << 32)) + bytes(99)),
    "a tensor twice": file(keys=0, tensors=2, body=tensor(b"a", (4,)) * 2 + bytes(99)),
    "the same bytes a thousand times": file(
        keys=0, tensors=1000, body=b"".join(tensor(b"a%d" % n, (1024,)) for n in range(1000)) + bytes(8192)
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_file_that_lies_is_refused(lie: str, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(LIES[lie])
    with pytest.raises(BadArtifact, match=r"model\.gguf: is not a whole GGUF file"):
        header.read(path)


def test_a_header_says_what_the_file_holds(tmp_path: Path) -> None:
    found = header.read(made.llama(tmp_path / "model.gguf"))
    assert (found.architecture, found.get("block_count")) == ("llama", 2)
    assert found.metadata["tokenizer.ggml.tokens"] == made.TOKENS
    assert found.tensors["blk.1.ffn_down.weight"].shape == (64, 96)


@pytest.mark.parametrize("share", [0.2, 0.9, 0.999])
def test_a_download_that_broke_off_is_refused(tmp_path: Path, share: float) -> None:
    path = made.llama(tmp_path / "model.gguf")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(BadArtifact, match=r"is not a whole GGUF file .*download it again"):
        folder.check(path)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.dictionaries(st.integers(0, 6000), st.integers(0, 255), min_size=1, max_size=4))
def test_a_damaged_header_is_read_or_refused(changes: dict[int, int], one: Callable[[], Path]) -> None:
    path = one()
    damaged = bytearray(path.read_bytes())
    for at, value in changes.items():
        damaged[at] = value
    other = path.with_name("damaged.gguf")
    other.write_bytes(damaged)
    try:
        described, _ = folder.check(other)
    except BadArtifact as error:
        described = str(error)
    assert described


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    path = made.llama(tmp_path_factory.mktemp("one") / "model.gguf")
    return lambda: path
