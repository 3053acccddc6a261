"""An export as a process of its own, the command line's: how far it is and how it ended. It draws nothing.

It writes into files without a name and not to us, so that it goes on when nobody looks any more.
"""

import os
import re
import subprocess
import tempfile
from collections.abc import Sequence

from wizloop.tui.workspace import command

_PART = re.compile(r"(\d+) % (.+)")
_READ = 1 << 16
"""Bytes of the end of what it wrote that are looked at."""


class Exporting:
    """An export under way."""

    def __init__(self, words: Sequence[str]) -> None:
        """Begin `wizloop` with these words. Raises OSError where no process or file is to be had."""
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
            self._out, self._errors = os.dup(out.fileno()), os.dup(errors.fileno())
            self._process = subprocess.Popen(
                command(*words), stdin=subprocess.DEVNULL, stdout=out, stderr=errors, start_new_session=True
            )

    def part(self) -> tuple[int, str]:
        """The share of it that is done, in per cent, and what it is at."""
        found = [part for line in _lines(self._errors) if (part := _PART.fullmatch(line))]
        return (int(found[-1][1]), found[-1][2]) if found else (0, "loading")

    def ended(self) -> tuple[bool, str] | None:
        """None while it goes on; then whether it ended well, and its folder or the reason. To be asked until then."""
        status = self._process.poll()
        if status is None:
            return None
        lines = _lines(self._errors if status else self._out)
        os.close(self._out)
        os.close(self._errors)
        return status == 0, lines[-1] if lines else f"status {status}"


def _lines(descriptor: int) -> list[str]:
    """The last lines of a file, wherever its writer is."""
    begin = max(os.fstat(descriptor).st_size - _READ, 0)
    text = os.pread(descriptor, _READ, begin).decode("utf-8", errors="replace")
    return [line.strip() for line in text.splitlines() if line.strip()]
