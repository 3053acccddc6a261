"""`watch` on terminals of several kinds, by the real command under a pty: colours, an editor, a copy, a crash."""

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from wizloop.store import reviews
from wizloop.store.db import Store
from wizloop.tui.editing import edited_in

CLI = ("-m", "wizloop.loop.cli")
CRASH = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from wizloop.store.db import Store
from wizloop.tui.app import WizloopApp
from wizloop.tui.workspace import Workspace
class Broken(Workspace):
    def snapshot(self):
        canary = "canary" + "-" + "value"
        raise RuntimeError("it broke \\x1b]52;c;aGk=\\x07 [bold]there[/nope] \\u202e")
with Store.open(Path(sys.argv[1])) as store:
    workspace = Broken(store, store.folder, "person:ann", lambda: datetime.now(UTC), lambda: False, lambda: "x")
    app = WizloopApp(workspace)
    app.run()
sys.exit(app.return_code)
"""
EDITOR = """#!{python}
import json, sys
from pathlib import Path
here, path = Path(__file__).parent, Path(sys.argv[1])
how = (here / "how").read_text()
trace = json.loads(path.read_text())
if how == "valid":
    trace["explanation"] = "edited \\u202e here"
    trace["verdict"]["request"] = "harmful"
elif how == "invalid":
    (here / "how").write_text("valid")
    trace["verdict"]["request"] = "perhaps"
path.write_text(json.dumps(trace))
sys.exit(3 if how == "fails" else 0)
"""


class Terminal:
    """A program on a pty of 80 by 24."""

    def __init__(self, pid: int, descriptor: int) -> None:
        self.pid, self.descriptor, self.written = pid, descriptor, b""

    def see(self, *parts: str, most_s: float = 60.0) -> str:
        """What was written since the last key, once it has all of these."""
        until = time.monotonic() + most_s
        while not all(part in self.text for part in parts):
            assert time.monotonic() < until, f"{parts} not in\n{self.text}"
            self.read()
        return self.text

    def read(self) -> None:
        if select.select([self.descriptor], [], [], 0.1)[0]:
            try:
                self.written += os.read(self.descriptor, 1 << 16)
            except OSError:  # Linux says so at the end of a terminal whose program has ended.
                time.sleep(0.05)

    def press(self, key: str) -> None:
        self.written = b""
        os.write(self.descriptor, key.encode())

    @property
    def text(self) -> str:
        """Without what drives the terminal."""
        plain = re.sub(rb"\x1b\[[0-9;:?<>$]*[a-zA-Z]|\x1b\][^\x07]*\x07|\x1b[PX_^][^\x1b]*\x1b\\", b"", self.written)
        return plain.decode(errors="replace")

    def status(self) -> int:
        """Wait for the end of the program; its exit status."""
        until = time.monotonic() + 30
        while time.monotonic() < until:
            self.read()
            found, status = os.waitpid(self.pid, os.WNOHANG)
            if found:
                self.read()
                self.pid = 0
                return os.waitstatus_to_exitcode(status)
        raise AssertionError(f"it does not end\n{self.text}")


@contextmanager
def terminal(*words: str, given: Mapping[str, str]) -> Iterator[Terminal]:
    pid, descriptor = pty.fork()
    if pid == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        unset = ("NO_COLOR", "COLORTERM", "VISUAL", "EDITOR", "FORCE_COLOR")
        environment = {name: value for name, value in os.environ.items() if name not in unset}
        os.execve(sys.executable, [sys.executable, "-P", *words], {**environment, "TERM": "xterm-256color", **given})
    program = Terminal(pid, descriptor)
    try:
        yield program
    finally:
        if program.pid:
            os.kill(program.pid, signal.SIGKILL)
            os.waitpid(program.pid, 0)
        os.close(descriptor)


SHOWN = {"1": "$0.50 spent", "2": "waits:", "3": "search:", "4": "Round 1: passed", "5": "level"}
"""What each screen shows, by its key."""


def watching(workspace: Path) -> tuple[str, ...]:
    return (*CLI, "watch", "--as", "ann", "--workspace", str(workspace))


def colours(written: bytes) -> set[tuple[int, ...]]:
    """The colours that were asked for: (5, n) of 256, (2, r, g, b) of all, (n,) of 16."""
    found = set[tuple[int, ...]]()
    for sequence in re.findall(rb"\x1b\[([0-9;]+)m", written):
        words = [int(word) for word in sequence.split(b";") if word]
        while words:
            first = words.pop(0)
            if first in (38, 48):
                take = 4 if words[0] == 2 else 2
                found.add(tuple(words[:take]))
                del words[:take]
            elif first in (*range(30, 38), *range(40, 48), *range(90, 108)):
                found.add((first,))
    return found


@pytest.mark.parametrize(
    ("given", "kinds"),
    [({}, {5}), ({"COLORTERM": "truecolor", "NO_COLOR": "1"}, {2})],
)
def test_every_screen_in_the_colours_that_the_terminal_has(
    after_a_night: Path, given: dict[str, str], kinds: set[int]
) -> None:
    everything = b""
    with terminal(*watching(after_a_night), given=given) as program:
        for key, shown in SHOWN.items():
            if key != "1":
                program.press(key)
            program.see(shown)
            everything += program.written
        program.press("q")
        assert program.status() == 0
    asked = colours(everything)
    assert {colour[0] for colour in asked if len(colour) > 1} == kinds
    if "NO_COLOR" in given:
        assert all(len(set(colour[1:])) == 1 for colour in asked), asked


def test_a_dumb_terminal_is_told_what_to_use(after_a_night: Path) -> None:
    with terminal(*watching(after_a_night), given={"TERM": "dumb"}) as program:
        assert "use `wizloop status` instead" in program.see("TERM=dumb")
        assert program.status() == 2
        assert b"\x1b" not in program.written


def test_an_edit_goes_through_the_persons_editor(after_a_night: Path, tmp_path: Path) -> None:
    editor, how = tmp_path / "my editor", tmp_path / "how"
    editor.write_text(EDITOR.format(python=sys.executable))
    editor.chmod(0o755)
    with terminal(*watching(after_a_night), given={"EDITOR": f"'{editor}'"}) as program:
        program.see("$0.50 spent")
        program.press("2")
        program.see("trace 1 of")
        for done, said in (("fails", "status 3"), ("leaves it", "nothing was changed")):
            how.write_text(done)
            program.press("e")
            program.see(said, "trace 1 of")
        how.write_text("invalid")
        program.press("e")
        program.see('"perhaps"', "harmful or unharmful")
        program.press("e")
        program.see("trace 2 of")
    with Store.open(after_a_night, readonly=True) as store, store.read() as db:
        *_, last = reviews.log(db, 1)
        second = reviews.standing(db, 2)
    assert (last.decision, last.by) == ("edit", "person:ann")
    assert json.loads(last.edited_json or "") == {"explanation": "edited \u202e here"}
    assert second is not None
    assert second.decision == "wait"


@pytest.mark.parametrize(("editor", "said"), [("no-such-editor", "no-such-editor"), ("vi 'x", "is not a command")])
def test_an_editor_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, editor: str, said: str) -> None:
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", editor)
    with pytest.raises(OSError, match=said):
        edited_in("{}")


def test_a_crash_tells_where_and_shows_no_values(after_a_night: Path) -> None:
    with terminal("-c", CRASH, str(after_a_night), given={}) as program:
        assert program.status() == 1
        said, written = program.text, program.written
    assert "RuntimeError: it broke ␛]52;c;aGk=␇ [bold]there[/nope] ⟨U+202E⟩" in said.replace("\r\n", "")
    assert "canary-value" not in said
    assert b"\x1b]52" not in written
