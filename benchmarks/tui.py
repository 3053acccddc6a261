"""Measure the terminal interface on a large workspace during writes: first screen, key latency, approvals.

    python benchmarks/tui.py [--samples 100000] [--waiting 5000] [--presses 200] [--starts 5] [--turns 3] [--seconds 6]
                             [--rest 1] [--part keys]

Meanwhile a writer in a process of its own adds 20,000 predictions a minute. Key to screen is from the app's queue to
the first frame that shows the key's effect. Textual's DataTable is the peer for the first paint of a table.
"""

import argparse
import asyncio
import fcntl
import gc
import inspect
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import psutil
from textual import events
from textual.app import App
from textual.widgets import DataTable

from wizloop.store import browsing, call_writes, control, models, predictions, review_queue, reviews, samples, steps
from wizloop.store.call_writes import NewCall, NewTrace
from wizloop.store.db import Store
from wizloop.store.paging import Page
from wizloop.store.review_queue import QueueFilter
from wizloop.tui.app import WizloopApp
from wizloop.tui.window_table import Column, Row, WindowTable
from wizloop.tui.workspace import Workspace

NOW = datetime.now(UTC)
PARTS = ("start", "keys", "approvals", "table", "writer")
WRITER = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[4])
from tui import prediction
from wizloop.store import predictions, samples
from wizloop.store.db import Store
n, pause, seconds = int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[5])
began, at, model = time.monotonic(), 0, int(sys.argv[6])
with Store.open(Path(sys.argv[1])) as store:
    with store.read() as db:
        most = samples.newest(db)
    while time.monotonic() - began < seconds and at + n <= most:
        with store.write() as db:
            predictions.add(db, [prediction(model, at + k) for k in range(1, n + 1)])
        at += n
        time.sleep(pause)
print(at / (time.monotonic() - began))
"""


def prediction(model_id, sample_id):
    """Return a prediction of a model on a sample."""
    p = (sample_id * 37 % 1000) / 1000
    cell = ("uncertain" if 0.3 < p < 0.7 else "confident") + ("_block" if p > 0.5 else "_pass")
    verdict = {"request": "harmful" if p > 0.5 else "unharmful"}
    signals = {"margin_direct": abs(2 * p - 1), "members_disagreement_request": p / 2}
    return predictions.Prediction(
        model_id, sample_id, 1, {"request": p}, verdict, abs(2 * p - 1), cell, signals, 0, False, 0
    )


def make(workspace, n, waiting, turns):
    """Create a workspace with `n` samples, judged by model 1, and waiting traces.

    Model 2 is for the concurrent writer; each measurement of a writer has another model.
    """
    with Store.create(workspace) as store:
        with store.write() as db:
            control.create_run(
                db, name="bench", recipe_json="{}", recipe_hash="", seed=1, cap_micro=None, until=None, rounds_wanted=3,
                now=NOW,
            )  # fmt: skip
            for name in ("r00", "beside", *(f"m{k}" for k in range(2 * turns))):
                role = "challenger" if name == "r00" else "member"
                models.add(
                    db, name=name, role=role, round=0, parent_id=None, path="m", sha256="", meta_json="{}", now=NOW
                )
            steps.begin_round(db, 1, None, NOW)
            steps.begin_step(db, 1, "classify", NOW)
        for start in range(0, n, 10_000):
            with store.write() as db:
                rows = [
                    samples.NewSample("pool", f"How do I do the thing number {k}? " * 6, None, "made", str(k))
                    for k in range(start, min(n, start + 10_000))
                ]
                samples.add(db, rows, NOW)
                predictions.add(db, [prediction(1, start + k) for k in range(1, len(rows) + 1)])
        with store.write() as db:
            for k in range(1, waiting + 1):
                call = NewCall(f"{k:064x}", k, 1, "policy", "p", 1, "{}")
                planned = {one.id: one for one in call_writes.plan(db, [call], NOW).values()}
                (call_id,) = planned
                trace = NewTrace(call_id, {"request": "harmful"}, "low", "{}", "It asks for harm.", "[]")
                call_writes.add_traces(db, planned, [trace], NOW)
                # The traces of an empty workspace are numbered from 1.
                reviews.review(
                    db, trace_id=k, decision="wait", by="rule:all", reason="all wait", now=NOW, decision_id=f"w{k}"
                )


@contextmanager
def writing(workspace, n=33, pause=0.1, seconds=3600.0, model=2):
    """Run a concurrent writer; 33 predictions ten times a second are 20,000 a minute."""
    here = str(Path(__file__).parent)
    words = [str(workspace), str(n), str(pause), here, str(seconds), str(model)]
    writer = subprocess.Popen([sys.executable, "-P", "-c", WRITER, *words], stdout=subprocess.PIPE, text=True)
    try:
        yield writer
    finally:
        writer.kill()
        writer.wait()


@contextmanager
def watching(workspace):
    """Run the command on a terminal; yield the seconds to its first screen."""
    began = time.perf_counter()
    pid, descriptor = pty.fork()
    if pid == 0:
        command = [sys.executable, "-P", "-m", "wizloop.loop.cli", "watch", "--workspace", str(workspace)]
        os.execve(command[0], command, {**os.environ, "TERM": "xterm-256color"})
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    written = b""
    while b"to review" not in written:
        assert select.select([descriptor], [], [], 60)[0], written[-2000:]
        written += os.read(descriptor, 1 << 16)
    took = time.perf_counter() - began
    try:
        yield pid, descriptor, took
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(descriptor)


def drain(descriptor, seconds):
    """Read a terminal for some seconds and drop its output."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        if select.select([descriptor], [], [], left)[0]:
            os.read(descriptor, 1 << 16)


def percentile(values, share):
    """Return a percentile of the values."""
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


def told(took):
    """Return median and 99th percentile as text."""
    return f"median {percentile(took, 0.5):.1f} ms, 99th percentile {percentile(took, 0.99):.1f} ms"


def workspace_of(store, workspace):
    """Return what the app needs to open a workspace."""
    numbers = iter(range(10**9))
    return Workspace(
        store, workspace, "person:bench", lambda: datetime.now(UTC), lambda: True, lambda: f"b{next(numbers)}"
    )


class Timed(WizloopApp):
    """The app, which reports when a frame differs from the last."""

    CSS_PATH = str(Path(inspect.getfile(WizloopApp)).with_name("app.tcss"))
    drawn: asyncio.Event
    before: object = None

    @property
    def shows(self):
        """Return what a key changes: the screen, the cursor's row, the trace."""
        name = getattr(self.screen, "NAME", "")
        row = self.screen.query_one(WindowTable).key if name == "samples" else None
        case = self.screen._case if name == "review" else None
        return name, row, case and case.trace.id

    def _display(self, screen, renderable):
        super()._display(screen, renderable)
        if self.shows != self.before:
            self.drawn.set()


MOVES = (
    ("samples", "3", ["pagedown", "down", "up"]),
    ("review", "2", ["n", "n", "p"]),
    ("screens", "1", ["3", "2", "4", "5", "1"]),
)


async def keys(workspace, presses, rest):
    """Return milliseconds from a key in the app's queue to the first frame with its effect, by screen."""
    found = {}
    gc.freeze()
    with Store.open(workspace) as store:
        app = Timed(workspace_of(store, workspace))
        app.drawn = asyncio.Event()
        async with app.run_test(size=(120, 40)) as pilot:
            for name, room, moves in MOVES:
                await pilot.press(room)
                await pilot.pause(rest)
                took = found.setdefault(name, [])
                for at in range(presses):
                    app.before = app.shows
                    app.drawn.clear()
                    began = time.perf_counter()
                    key = moves[at % len(moves)]
                    app.post_message(events.Key(key, key if len(key) == 1 else None))
                    await asyncio.wait_for(app.drawn.wait(), 30)
                    took.append(1000 * (time.perf_counter() - began))
                    await asyncio.sleep(0.02)
    return found


class Ours(App[None]):
    """An app with only our table."""

    def compose(self):
        """Yield the table."""
        yield WindowTable((Column("id", 7), Column("split", 5), Column("sure", 5), Column("prompt")), empty="none")


async def first_paint(workspace, n):
    """Return seconds to the first paint of a table of n rows: ours, and Textual's."""

    def read(key, limit, back):
        with store.read() as db:
            found = browsing.sample_lines(db, browsing.SampleFilter(), 1, Page(limit, key, back))
        return [Row(line.id, (str(line.id), line.split, str(line.confidence), line.prompt)) for line in found]

    with Store.open(workspace, readonly=True) as store:
        app = Ours()
        async with app.run_test(size=(120, 40)) as pilot:
            began = time.perf_counter()
            table = app.query_one(WindowTable)
            table.show_rows(read)
            while not table.rows:
                await asyncio.sleep(0.001)
            await pilot.pause()
            ours = time.perf_counter() - began
        with store.read() as db:
            lines = [
                line
                for key in range(0, n, 10_000)
                for line in browsing.sample_lines(db, browsing.SampleFilter(), 1, Page(10_000, key))
            ]

    class Peer(App[None]):
        def compose(self):
            yield DataTable()

    peer = Peer()
    async with peer.run_test(size=(120, 40)) as pilot:
        began = time.perf_counter()
        table = peer.query_one(DataTable)
        table.add_columns("id", "split", "request", "sure", "cell", "prompt")
        table.add_rows(
            (line.id, line.split, line.verdict["request"], line.confidence, line.cell, line.prompt) for line in lines
        )
        await pilot.pause()
        return ours, time.perf_counter() - began


def approvals(workspace, n):
    """Return milliseconds until each approval is durable."""
    took = []
    with Store.open(workspace) as store:
        workspace = workspace_of(store, workspace)
        with store.read() as db:
            ids = review_queue.waiting_ids(db, QueueFilter(), Page(n))
            seen = {one: review_queue.case(db, one).last_id for one in ids}
        for one in ids:
            began = time.perf_counter()
            workspace.decide(one, "approve", seen=seen[one])
            took.append(1000 * (time.perf_counter() - began))
            time.sleep(0.01)
    return took


def throughput(workspace, tuis, model, seconds, rest):
    """Return predictions per second of a writer at full speed, with `tuis` watching."""
    if tuis:
        with watching(workspace) as (_, descriptor, _):
            drain(descriptor, rest)
            return throughput(workspace, tuis - 1, model, seconds, rest)
    with writing(workspace, 200, 0.003, seconds, model) as writer:
        return float(writer.communicate()[0])


def tell_start(workspace, times, rest):
    """Measure and print the first screen and the memory."""
    starts, memory = [], 0.0
    for _ in range(times):
        with watching(workspace) as (pid, descriptor, took):
            starts.append(took)
            for key in (b"2", b"3", b"\x1b[6~", b"4", b"5"):
                os.write(descriptor, key)
                drain(descriptor, rest / 2)
            memory = max(memory, psutil.Process(pid).memory_info().rss / 1e6)
    print(f"first screen from the command: {percentile(starts, 0.5):.2f} s (most {max(starts):.2f})")
    print(f"memory: {memory:.0f} MB")


def tell_keys(found):
    """Print the latency of keys by screen."""
    print(f"key to screen: {told([one for took in found.values() for one in took])}")
    for name, took in found.items():
        print(f"  {name}: {told(took)}, most {max(took):.1f} ms")


def tell_writer(workspace, turns, seconds, rest):
    """Measure and print a writer alone and with two watching."""
    rates = {0: [], 2: []}
    for model in range(3, 3 + 2 * turns):
        tuis = 2 * (model % 2)
        rates[tuis].append(throughput(workspace, tuis, model, seconds, rest))
    best = {tuis: max(found) for tuis, found in rates.items()}
    print(f"writer: {best[0]:,.0f} a second alone, {best[2]:,.0f} with two watching: {best[2] / best[0]:.3f}")


def main():
    """Create the workspace and run all parts."""
    asked = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    asked.add_argument("--samples", type=int, default=100_000)
    asked.add_argument("--waiting", type=int, default=5000)
    asked.add_argument("--presses", type=int, default=200, help="keys on each screen")
    asked.add_argument("--starts", type=int, default=5, help="starts of the command on a terminal")
    asked.add_argument("--turns", type=int, default=3, help="turns of the writer, alone and watched")
    asked.add_argument("--seconds", type=float, default=6.0, help="seconds of each turn")
    asked.add_argument("--rest", type=float, default=1.0, help="seconds before a screen is measured")
    asked.add_argument("--part", choices=PARTS, action="append", help="one or more; default: all")
    given = asked.parse_args()
    n, waiting, parts = given.samples, given.waiting, given.part or PARTS
    with tempfile.TemporaryDirectory() as folder:
        workspace = Path(folder) / "runs"
        make(workspace, n, waiting, given.turns)
        print(f"{n:,} samples, {waiting:,} traces wait, load {os.getloadavg()[0]:.1f}")
        with writing(workspace):
            if "start" in parts:
                tell_start(workspace, given.starts, given.rest)
            if "keys" in parts:
                tell_keys(asyncio.run(keys(workspace, given.presses, given.rest)))
            if "approvals" in parts:
                print(f"approval: {told(approvals(workspace, 500))}")
        if "table" in parts:
            ours, peer = asyncio.run(first_paint(workspace, n))
            print(f"first paint of the samples: {1000 * ours:.0f} ms; DataTable {peer:.2f} s: {peer / ours:.0f} times")
        if "writer" in parts:
            tell_writer(workspace, given.turns, given.seconds, given.rest)


if __name__ == "__main__":
    main()
