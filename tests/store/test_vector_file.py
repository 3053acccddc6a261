"""A file of vectors: what was written is read, and whatever is damaged, torn or of another text is missing."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from wizloop.store.vector_file import PIECE, VectorFile

IDS, DIGESTS = [1, 2, 7, 40], ["aa", "bb", "cc", "dd"]
VECTORS = np.random.default_rng(1).normal(size=(4, 6)).astype(np.float16)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "vectors" / "0123.vectors"


@pytest.fixture
def file(path: Path) -> VectorFile:
    made = VectorFile.create(path, 6)
    made.write(IDS, DIGESTS, VECTORS)
    return made


def there(path: Path) -> list[bool]:
    found = VectorFile.find(path)
    assert found is not None
    vectors, known = found.read(IDS, DIGESTS)
    np.testing.assert_array_equal(vectors, VECTORS * known[:, None])
    return [bool(each) for each in known]


def test_vectors_are_read_in_any_order_and_those_never_written_are_missing(file: VectorFile, path: Path) -> None:
    assert there(path) == [True] * 4
    vectors, known = file.read([40, 3, 1, 10_000], ["dd", "aa", "aa", "aa"])
    assert known.tolist() == [True, False, True, False]
    np.testing.assert_array_equal(vectors, np.stack([VECTORS[3], 0 * VECTORS[0], VECTORS[0], 0 * VECTORS[0]]))


def test_more_rows_than_fit_in_a_piece_are_read(path: Path) -> None:
    ids = list(range(1, PIECE + 10))
    digests = [f"{id:x}" for id in ids]
    vectors = np.arange(len(ids) * 2).reshape(-1, 2).astype(np.float16)
    VectorFile.create(path, 2).write(ids, digests, vectors)
    found, known = VectorFile(path, 2).read(ids, digests)
    assert known.all()
    np.testing.assert_array_equal(found, vectors)


def test_a_vector_of_another_text_is_missing(file: VectorFile) -> None:
    """A restored database gives the same ids to other texts."""
    assert file.read(IDS, ["aa", "bb", "cc", "ee"])[1].tolist() == [True, True, True, False]


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x10
    path.write_bytes(data)


def cut(path: Path, size: int) -> None:
    os.truncate(path, size)


@pytest.mark.parametrize(
    ("damage", "left"),
    [
        (lambda path: flip(path, 64 + 2 * 16 + 7), [True, False, True, True]),
        (lambda path: flip(path, 64 + 7 * 16), [True, True, False, True]),
        (lambda path: cut(path, path.stat().st_size - 1), [True, True, True, False]),
        (lambda path: cut(path, 64 + 2 * 16), [True, False, False, False]),
        (lambda path: cut(path, 64), [False] * 4),
    ],
    ids=["a number", "a checksum", "torn", "cut", "empty"],
)
def test_a_damaged_row_is_missing_and_the_others_are_there(
    file: VectorFile, path: Path, damage: Callable[[Path], None], left: list[bool]
) -> None:
    damage(path)
    assert there(path) == left
    file.write(IDS, DIGESTS, VECTORS)
    assert there(path) == [True] * 4


@pytest.mark.parametrize(
    "damage",
    [lambda path: flip(path, 3), lambda path: flip(path, 16), lambda path: cut(path, 40), Path.unlink],
    ids=["magic", "width", "cut", "removed"],
)
def test_a_file_with_a_damaged_head_is_none_and_is_made_again(
    file: VectorFile, path: Path, damage: Callable[[Path], None]
) -> None:
    damage(path)
    assert VectorFile.find(path) is None
    VectorFile.create(path, 6).write(IDS, DIGESTS, VECTORS)
    assert there(path) == [True] * 4


def test_one_file_is_kept(file: VectorFile, path: Path) -> None:
    VectorFile.create(path.with_name("4567.vectors"), 6)
    assert [one.name for one in path.parent.iterdir()] == ["4567.vectors"]


def test_what_reading_took_adds_up(file: VectorFile, path: Path) -> None:
    file.write([3], ["ff"], VECTORS[:1], seconds=0.5)
    file.write([4, 5], ["ff", "ff"], VECTORS[:2], seconds=2.0)
    assert VectorFile.find(path) == VectorFile(path, 6, 3, 2.5)


WRITER = """
import sys
import numpy as np
from pathlib import Path
from wizloop.store.vector_file import VectorFile
file = VectorFile.create(Path(sys.argv[1]), 4096)
print("writing", flush=True)
for id in range(1, 10**6):
    file.write([id], [str(id)], np.full((1, 4096), id % 2000, np.float16), 0.001)
"""


def test_a_killed_writer_leaves_whole_rows_and_no_wrong_one(path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        while path.stat().st_size < 200_000:
            pass
        process.send_signal(signal.SIGKILL)
    ids = list(range(1, 20_000))
    found = VectorFile.find(path)
    assert found is not None
    vectors, known = found.read(ids, [str(id) for id in ids])
    count = int(known.sum())
    assert count >= 20
    assert known[:count].all()
    np.testing.assert_array_equal(vectors[:count, 0], [id % 2000 for id in ids[:count]])
