"""An export in a process of its own, the command's: its progress and result. Draws nothing.

The process writes to unnamed files, not to a pipe, so that it continues when the app exits.
"""

import os
import re
import subprocess
import tempfile
from collections.abc import Sequence

from wizloop.tui.workspace import command

_PART = re.compile(r"(\d+) % (.+)")
_TAIL = 1 << 16
"""Bytes read from the end of the output."""


class ExportProcess:
    """A running export."""

    def __init__(self, words: Sequence[str]) -> None:
        """Start `wizloop` with these arguments. Raises OSError if no process or file can be created."""
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
            self._out, self._errors = os.dup(out.fileno()), os.dup(errors.fileno())
            self._process = subprocess.Popen(
                command(*words), stdin=subprocess.DEVNULL, stdout=out, stderr=errors, start_new_session=True
            )

    def progress(self) -> tuple[int, str]:
        """Return the progress in percent, and the current step."""
        found = [part for line in _lines(self._errors) if (part := _PART.fullmatch(line))]
        return (int(found[-1][1]), found[-1][2]) if found else (0, "loading")

    def result(self) -> tuple[bool, str] | None:
        """Return None while it runs, then once whether it succeeded, and the folder or the error."""
        status = self._process.poll()
        if status is None:
            return None
        lines = _lines(self._errors if status else self._out)
        os.close(self._out)
        os.close(self._errors)
        return status == 0, lines[-1] if lines else f"status {status}"


def _lines(descriptor: int) -> list[str]:
    """Return the last lines of a file, without moving its writer's position."""
    begin = max(os.fstat(descriptor).st_size - _TAIL, 0)
    text = os.pread(descriptor, _TAIL, begin).decode("utf-8", errors="replace")
    return [line.strip() for line in text.splitlines() if line.strip()]
