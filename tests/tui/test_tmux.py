"""A real terminal program around the real command: it begins, is reviewed, exported, left."""

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from wizloop.loop.controller import lock
from wizloop.store import reviews
from wizloop.store.db import Store

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
RECIPE = """
name = "mini"
source = "demo"
seed = 7
rounds = 1
[data_demo]
pool = 40
seed = 40
dev = 24
test = 12
[guard]
instruction = "none"
[guard.tiny]
vocab = 1000
width = 32
mlp = 64
layers = 1
epochs = 0
[members]
count = 0
[train]
epochs = 1
least_steps = 0
[dpo]
enabled = false
[gate]
max_over_refusal_rise = 1.0
max_unparsable = 1.0
margin = 1.0
[export]
formats = ["adapter"]
parity_n = 0
"""


class Tmux:
    """A terminal of 80 by 24 of a tmux server of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.socket, self.n = folder, folder / "tmux", 0

    def call(self, *words: str) -> str:
        done = subprocess.run(["tmux", "-S", str(self.socket), *words], capture_output=True, text=True, check=False)
        return done.stdout

    def begin(self, *words: str) -> None:
        """Run wizloop with these words in a new terminal, of a server that no other one is just leaving."""
        self.n += 1
        self.socket = self.folder / f"tmux{self.n}"
        command = [sys.executable, "-P", "-m", "wizloop.loop.cli", *words]
        new = [
            "new-session",
            "-d",
            "-x",
            "80",
            "-y",
            "24",
            "-e",
            "ANTHROPIC_API_KEY=canary-key",
            "-c",
            str(self.folder),
        ]
        self.call(*new, *command, ";", "set", "-g", "remain-on-exit", "on")

    def see(self, *parts: str, most_s: float = 60.0, above: int = 0) -> str:
        """The screen and so many lines above it, once it shows all of these."""
        until = time.monotonic() + most_s
        while not all(part in (screen := self.call("capture-pane", "-p", "-S", str(-above))) for part in parts):
            assert time.monotonic() < until, f"{parts} not on\n{screen}"
            time.sleep(0.1)
        return screen

    def gone(self, part: str, most_s: float = 60.0) -> None:
        """Wait until the screen does not show this any more."""
        until = time.monotonic() + most_s
        while part in (screen := self.call("capture-pane", "-p")):
            assert time.monotonic() < until, screen
            time.sleep(0.1)

    def press(self, *keys: str) -> None:
        self.call("send-keys", *keys)

    @property
    def pid(self) -> int:
        return int(self.call("display-message", "-p", "#{pane_pid}"))

    def end(self) -> None:
        self.call("kill-server")


@pytest.fixture
def tmux(tmp_path: Path) -> Iterator[Tmux]:
    terminal = Tmux(tmp_path)
    yield terminal
    terminal.end()
    stop = [sys.executable, "-P", "-m", "wizloop.loop.cli", "stop", "--now", "--workspace", str(tmp_path / "runs")]
    subprocess.run(stop, check=False)


def test_an_evening_and_a_morning(tmux: Tmux, tmp_path: Path) -> None:
    (tmp_path / "mini.toml").write_text(RECIPE)
    tmux.begin("start", "mini.toml", "--rounds", "0")
    tmux.see("[1 overview]", "mini: ", "round 0 (teaching the seed)")
    environment = Path(f"/proc/{tmux.pid}/environ")
    assert not environment.exists() or b"canary-key" not in environment.read_bytes()
    # The terminal goes away as a lost SSH connection takes it; the run goes on.
    tmux.end()
    assert lock.is_held(tmp_path / "runs")
    tmux.begin("watch")
    tmux.see("[1 overview]", "2 review 1", most_s=120)
    tmux.press("2")
    tmux.see("trace", "waits:")
    tmux.press("a")
    tmux.see("no traces to review")
    tmux.press("u")
    tmux.see("waits:", "trace")
    tmux.press("1")
    tmux.see("mini: done: round 0 is done", most_s=120)
    tmux.press("4")
    tmux.see("[4 rounds]", "Round 0: passed")
    tmux.press("x")
    tmux.see("as what?")
    tmux.press("a")
    tmux.see("new folder")
    tmux.see("guard-r00-adapter")
    tmux.press("C-u")
    tmux.gone("guard-r00-adapter")
    tmux.press("taken")
    tmux.see("▊  taken")
    tmux.press("Enter")
    tmux.see("exported round 0 as adapter", most_s=120)
    assert (tmp_path / "taken" / "adapter_model.safetensors").is_file()
    tmux.press("q")
    tmux.gone("[4 rounds]")
    # tmux moves a line up out of the screen to say that the program has ended.
    tmux.see("mini: done: round 0 is done", above=2)
    tmux.end()
    tmux.begin("watch", "--read-only")
    tmux.see("[1 overview]", "2 review 1")
    with Store.open(tmp_path / "runs", readonly=True) as store, store.read() as db:
        waits = reviews.waiting(db, 9)
        assert [row.decision for row in reviews.log(db, waits[0].trace.id)] == ["wait", "approve", "undo"]
