"""The log of a served guard: one JSON line per text, in the form that `wizloop import --follow` reads.

Lines are appended whole. If the file was renamed or removed, as logrotate does it, a new one is opened.
"""

import json
import os
import stat
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wizloop.loop.api import Verdict

_END = b"\n"


class AnswerLog:
    """A file that one thread appends to. Raises OSError where it cannot be opened."""

    def __init__(self, path: Path, model: Mapping[str, Any]) -> None:
        self.path, self._model = path, model
        self._broken = False
        self._file = self._opened()

    def add(self, texts: Sequence[str], verdicts: Sequence["Verdict"], now: datetime) -> None:
        """Append a line for each text. Raises OSError; a line that did not fit is ended by the next call."""
        if not self._is_there():
            file = self._opened()
            os.close(self._file)
            self._file = file
        time = now.isoformat(timespec="milliseconds")
        lines = [json.dumps(self._line(time, *row)).encode() + _END for row in zip(texts, verdicts, strict=True)]
        self._append((_END if self._broken else b"") + b"".join(lines))

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _line(self, time: str, text: str, one: "Verdict") -> dict[str, Any]:
        return {
            "time": time,
            "prompt": text,
            "verdict": one.verdict["request"],
            "probability": one.probability.get("request"),
            "model": self._model["name"],
            "sha256": self._model["sha256"],
            "calibration": self._model["calibration"],
        }

    def _append(self, text: bytes) -> None:
        self._broken = True
        while text:
            text = text[os.write(self._file, text) :]
        self._broken = False

    def _is_there(self) -> bool:
        try:
            return os.path.samestat(self.path.stat(), os.fstat(self._file))
        except FileNotFoundError:
            return False

    def _opened(self) -> int:
        """Open or create the file, for its owner only; a line that a killed server broke off is ended first."""
        file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            os.close(file)
            raise OSError(0, "not a regular file", str(self.path))
        self._broken = status.st_size > 0 and os.pread(file, 1, status.st_size - 1) != _END
        return file
