"""Open the files that a user or a recipe names: regular ones, of bounded size, within a moment.

Reading a pipe or a terminal waits for a writer, and a device such as /dev/zero has no end. It imports
nothing of wizloop.
"""

import errno
import io
import os
import stat
from pathlib import Path

MOST_BYTES = 64_000_000
"""Maximum size of a text file that is read whole; longer rows are read one at a time."""


def opened(path: Path, most: int | None = None) -> io.BufferedReader:
    """Open a regular file of at most `most` bytes for reading; None sets no maximum.

    Raises OSError, which names the file and says what it is instead.
    """
    try:
        _refuse(path, Path(path).stat(), most)
        # Between the two calls it may have become a pipe, which would block without O_NONBLOCK.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except ValueError:
        raise OSError(errno.EINVAL, "its name holds a null character", str(path)) from None
    try:
        _refuse(path, os.fstat(descriptor), most)
        return io.BufferedReader(io.FileIO(descriptor, "rb"))
    except BaseException:
        os.close(descriptor)
        raise


def read_bytes(path: Path, most: int = MOST_BYTES) -> bytes:
    """Return the content of a regular file of at most `most` bytes. Raises OSError."""
    with opened(path, most) as file:
        found = file.read(most + 1)
    if len(found) > most:
        raise _too_large(path, most)
    return found


def read_text(path: Path, most: int = MOST_BYTES, encoding: str = "utf-8") -> str:
    """Return the text of a regular file of at most `most` bytes. Raises OSError, and UnicodeDecodeError."""
    return io.TextIOWrapper(io.BytesIO(read_bytes(path, most)), encoding).read()


def _refuse(path: Path, found: os.stat_result, most: int | None) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise OSError(errno.EISDIR, "it is a folder; give a file in it", str(path))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file; write its content into one first", str(path))
    if most is not None and found.st_size > most:
        raise _too_large(path, most)


def _too_large(path: Path, most: int) -> OSError:
    return OSError(errno.EFBIG, f"it is larger than {most:,} bytes", str(path))
