"""The program under a pty, fed with 10,000 hostile strings on every screen: what reaches the terminal, byte by byte.

Every string carries a marker of its own, so that the test knows that each of them was drawn.
"""

import fcntl
import os
import pty
import random
import re
import select
import signal
import struct
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests import single_calls
from wizloop.store import control, evaluations, events, models, reviews, samples, selections, steps
from wizloop.store.db import Connection, Store

NOW = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)
ROWS, COLUMNS = 320, 120
SHARES = {"samples": 6000, "log": 3000, "review": 1000}
PER_TRACE = 50
PIECES = [
    *("\x1b]52;c;aGk=\x07", "\x1b]0;owned\x07", "\x1b[2J", "\x1b[5;6;9m", "\x1b[8;9;9t", "\x1bP+q5\x1b\\", "\x1bc"),
    *("\x9b2J", "\x9d52;c;aGk=\x9c", "\x90+q\x9c", "\x07", "\x08\x08", "\r", "\t", "\x00", "\x7f", "\x0e"),
    *("\x1b[?1049l",),
    *("\u202e", "\u2066", "\u2069", "\u200b\u200d\u2060", "\ufeff", "\u061c", "\ufe0f", "\U000e0041", "\u2028", "\x85"),
    *("[red]", "[/red]", "[/nope]", "[@click=app.quit]", "[@click=app.exit()]x[/]", "[link=https://a.b]x[/]", "\\["),
    *("a" + "\u0301" * 30, "\u0e33", "\U0001f468\u200d\U0001f469", "漢字", "[bold", "]", "${x}", "%s", "{self}"),
]
DRAWING = re.compile(
    rb"\x1b\[[0-9;:]*m|\x1b\[\d+;\d+H|\x1b\[\?(?:25|1000|1003|1004|1006|1015|1016|1049|2004|2026|2031|2048|7)[hl]"
    rb"|\x1b\[\?(?:2026|2048|2031)\$p|\x1b\[[<>]\d*u|\x1b\]22;[a-z]+\x07"
)
"""What Textual itself writes: colours, places, modes."""
UNSEEN = re.compile(
    "[\x00-\x09\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\U000e0000-\U000e0fff]"
)


def hostile(rng: random.Random) -> Iterator[str]:
    for n in range(sum(SHARES.values())):
        inside = " ".join(rng.choices([*PIECES, "how", "do", "I"], k=rng.randint(1, 4)))
        yield f"w{n:05d}{inside}"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All that a screen can show is hostile here."""
    folder = tmp_path_factory.mktemp("hostile") / "runs"
    strings = list(hostile(random.Random(5)))
    with Store.create(folder) as store, store.write() as db:
        begun = {"name": strings[0], "recipe_json": "{}", "recipe_hash": "ab", "seed": 1, "cap_micro": None}
        control.create_run(db, until=None, rounds_wanted=1, now=NOW, **begun)  # type: ignore[arg-type]
        there, logged = strings[: SHARES["samples"]], strings[SHARES["samples"] : -SHARES["review"]]
        samples.add(db, [samples.NewSample("pool", text, None, text, text, policy=text) for text in there], NOW)
        for text in logged:
            events.add(db, level="warn", message=text, now=NOW, phase=text[:30], round=1)
        taught = strings[-SHARES["review"] :]
        _teach(db, ["\n".join(taught[at : at + PER_TRACE]) for at in range(0, len(taught), PER_TRACE)])
        control.set_state(db, "stopped", strings[1], NOW)
    return folder


def _teach(db: Connection, texts: list[str]) -> None:
    steps.begin_round(db, 1, None, NOW)
    steps.begin_step(db, 1, "teach", NOW)
    steps.fail_step(db, 1, "teach", texts[0], NOW)
    samples.add(db, [samples.NewSample("seed", text, None, "made", "row") for text in texts], NOW)
    for n, sample_id in enumerate(samples.ids(db, "seed")):
        selections.add(db, [selections.Selection(1, sample_id, "random", 0.5, n, None, texts[n][:400])])
        call = single_calls.plan(
            db, key=f"{n:064x}", sample_id=sample_id, round=1, teacher=texts[n][:40], model="m", attempt=1,
            request_json="{}", now=NOW,
        )  # fmt: skip
        trace = single_calls.add_trace(
            db, call_id=call, verdict={"request": texts[n][:20]}, confidence_word="low",
            trace_json="{}", explanation=texts[n][:400], steps_json="{}", now=NOW,
        )  # fmt: skip
        reviews.review(
            db, trace_id=trace, decision="wait", by="rule:all", reason=texts[n][:200], now=NOW, decision_id=f"r{n}"
        )
    made = {"role": "challenger", "round": 1, "parent_id": None, "path": "m", "sha256": "ab", "meta_json": "{}"}
    model = models.add(db, name=texts[0][:100], now=NOW, **made)  # type: ignore[arg-type]
    measured = [evaluations.Evaluation(model, 1, texts[n][:60], "request", 9, 0, '{"f1": 0.5}') for n in range(3)]
    evaluations.add(db, measured)
    ended = {"champion_after": None, "challenger": model, "passed": False, "record_json": "{}"}
    steps.end_round(db, 1, gate_reason="\n".join(texts)[:3000], now=NOW, **ended)  # type: ignore[arg-type]


def markers(written: bytes | bytearray) -> set[str]:
    """Which of the strings were drawn."""
    return {found.decode() for found in re.findall(rb"w\d{5}", written)}


class Terminal:
    """The program on a pty, and all that it wrote."""

    def __init__(self, pid: int, descriptor: int) -> None:
        self.pid, self.descriptor = pid, descriptor
        # A terminal is read in thousands of small pieces: bytes would be copied whole for each.
        self.written = bytearray()

    def press(self, key: bytes, wanted: set[str] | None = None, enough: int = 1, most_s: float = 20.0) -> set[str]:
        """Which strings it draws on a key, once so many of the wanted are among them and it is quiet.

        Without any that are wanted, once anything was written; quiet for a second and a half ends it too.
        """
        begin, until, quiet = len(self.written), time.monotonic() + most_s, 0.0
        os.write(self.descriptor, key)
        while time.monotonic() < until and quiet < 1.5:
            if select.select([self.descriptor], [], [], 0.06)[0]:
                self.written += os.read(self.descriptor, 1 << 20)
                quiet = 0.0
                continue
            quiet += 0.06
            drawn = markers(self.written[begin:])
            if len(self.written) > begin if wanted is None else len(wanted & drawn) >= enough:
                break
        return markers(self.written[begin:])

    def all_of(self, begin: bytes, following: bytes, again: bytes, wanted: set[str], page: int) -> int:
        """How many of the wanted strings are not drawn on one key and then on another, pressed again and again.

        A page has so many strings, and the next key waits for them: pages that are asked for at once are drawn as one.
        """
        for start in (begin, again):
            drawn = self.press(start, wanted, min(page, len(wanted)))
            for _ in range(60):
                wanted = wanted - drawn
                if not wanted or not drawn:
                    break
                drawn = self.press(following, wanted, min(page, len(wanted)))
        return len(wanted)


@contextmanager
def watching(workspace: Path) -> Iterator[Terminal]:
    command = [sys.executable, "-P", "-m", "wizloop.loop.cli", "watch", "--workspace", str(workspace)]
    pid, descriptor = pty.fork()
    if pid == 0:
        os.execve(command[0], command, {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"})
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    terminal = Terminal(pid, descriptor)
    try:
        while b"overview" not in terminal.written:
            assert select.select([descriptor], [], [], 60)[0], terminal.written[-2000:]
            terminal.written += os.read(descriptor, 1 << 20)
        yield terminal
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(descriptor)


def test_ten_thousand_strings_are_drawn_and_do_nothing(workspace: Path) -> None:
    with watching(workspace) as terminal:
        terminal.press(b"?")
        terminal.press(b"?")
        lost = {
            screen: terminal.all_of(*keys, {f"w{n:05d}" for n in numbers}, page)
            for screen, keys, numbers, page in (
                ("samples", (b"3", b"\x1b[6~", b"\x1b[H"), range(6000), 300),
                ("log", (b"5", b"\x1b[5~", b"\x1b[F"), range(6000, 9000), 300),
                ("review", (b"2", b"n", b"n"), range(9000, 10_000), PER_TRACE),
            )
        }
        taught = {f"w{n:05d}" for n in range(9000, 10_000)}
        terminal.press(b"3")
        terminal.press(b"\x1b[F")
        others = {keys: terminal.press(keys, taught) & taught for keys in (b"\r", b"q4", b"o")}
        assert os.waitpid(terminal.pid, os.WNOHANG) == (0, 0), "the program died"
        written = terminal.written
    assert lost == {"samples": 0, "log": 0, "review": 0}
    assert all(others.values()), others
    assert b"\x1b[5;6;9m" not in written
    left = DRAWING.sub(b"", written).decode()
    assert sorted({left[one.start() : one.start() + 12] for one in UNSEEN.finditer(left)}) == []
