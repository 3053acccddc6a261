"""Import rows of 300 characters and compare the rate with a bare executemany of the same rows in the same run.

    python benchmarks/import.py [--rows 10000 100000 1000000] [--repeats 3] [--held-out 2000] [--clock wall|processor]

Every measurement is a process of its own. `bare` reads the same JSON Lines with json.loads and inserts them into the
same table of the same SQLite, in one transaction, with digests computed before its clock starts. Its connection has our
settings (WAL, synchronous FULL, 64 MB of cache, no checkpoint) and the driver's defaults, without the adapters of
`sqlite.driver`. `ours` is what `wizloop import` does: read, check, hash, spool, write. `hashing` is timed alone on the
same rows and subtracted; `near` is the search for near-duplicates of a test set, which runs after the import. The two
sides take turns. The processor clock excludes waits for the disk and other processes, so that a busy machine can be
judged too.
"""

import argparse
import importlib
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from wizloop.loop.data import import_file, leaks
from wizloop.recipes.sections import Data
from wizloop.store import hashing, samples, sqlite
from wizloop.store.db import Store

LENGTH = 300
WORDS = [f"w{number}{'abcdefgh'[number % 8] * (number % 5)}" for number in range(5000)]
NOW = datetime(2026, 1, 1, tzinfo=UTC)
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
Clock = Callable[[], float]


def written(path: Path, rows: int, seed: int) -> Path:
    """Write random rows, test rows among them, as JSON Lines."""
    rng = random.Random(seed)
    with path.open("w") as file:
        for number in range(rows):
            text = f"{number} {' '.join(rng.choices(WORDS, k=70))}"[:LENGTH]
            file.write(json.dumps({"prompt": text, "label": "safe" if number % 3 else "harmful"}) + "\n")
    return path


def driver_as_it_comes() -> ModuleType:
    """Return the SQLite module of `sqlite.driver` with its defaults."""
    try:
        return importlib.import_module("pysqlite3.dbapi2")
    except ImportError:
        return importlib.import_module("sqlite3")


def bare(path: Path, workspace: Path, clock: Clock) -> dict[str, float]:
    """Import with json.loads and executemany only, timed."""
    module = driver_as_it_comes()
    Store.create(workspace, driver=module).close()
    labels = {"safe": "unharmful", "harmful": "harmful"}

    def made(number: int, row: dict[str, str], digest: bytes) -> tuple[Any, ...]:
        ref, stamp = f"{path.name}:{number}", "2026-01-01T00:00:00.000000Z"
        label = labels[row["label"]]
        return ("pool", row["prompt"], None, path.name, ref, label, None, None, None, digest, stamp)

    with path.open() as file:
        prompts = (json.loads(line)["prompt"] for line in file)
        digests = [hashing.content_digest(one, None) for one in prompts]
    names = (*samples.KEPT, "added_at")
    statement = f"INSERT INTO samples ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"
    raw = sqlite.connect(workspace / sqlite.DB_NAME, "rw", module)
    began = clock()
    loading = 0.0
    raw.execute("BEGIN IMMEDIATE")
    with path.open() as file:
        at = 0
        while lines := list(islice(file, 1000)):
            started = clock()
            rows = [made(at + n, json.loads(line), digests[at + n]) for n, line in enumerate(lines)]
            loading += clock() - started
            raw.executemany(statement, rows)
            at += len(lines)
    raw.execute("COMMIT")
    seconds = clock() - began
    kept = raw.execute("SELECT count(*) FROM samples").fetchone()[0]
    raw.close()
    return {"seconds": seconds, "insert": seconds - loading, "kept": kept}


def ours(path: Path, workspace: Path, held_out: Path, clock: Clock) -> dict[str, float]:
    """Import like the command, with its parts and peak memory timed."""
    with Store.create(workspace) as store:
        _imported(store, held_out, "test", clock)
        leaks.sweep(store, NOW)
        check, write = _imported(store, path, "pool", clock)
        with store.read() as db:
            kept = samples.counts(db)["pool"]
        began = clock()
        leaks.sweep(store, NOW)
        near = clock() - began
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        hashing_alone = sum(_timed(store, clock))
    return {"check": check, "write": write, "near": near, "hashing": hashing_alone, "peak": peak, "kept": kept}


def _imported(store: Store, path: Path, split: str, clock: Clock) -> tuple[float, float]:
    data = Data(path=str(path), split=split)  # type: ignore[arg-type]
    began = clock()
    checked = import_file.check(data, np.random.default_rng(0))
    read = clock()
    with checked.spool:
        import_file.write(store, checked, NOW)
    return read - began, clock() - read


def _timed(store: Store, clock: Clock) -> Iterator[float]:
    """Return the seconds of hashing alone, a page at a time."""
    after = 0
    while True:
        with store.read() as db:
            page = samples.prompts(db, "pool", after, 1000)
        if not page:
            return
        began = clock()
        for _, prompt in page:
            hashing.content_digest(prompt, None)
        yield clock() - began
        after = page[-1][0]


def alone(side: str, path: Path, held_out: Path, clock: str) -> dict[str, float]:
    """Run one measurement in a process of its own."""
    words = ["--side", side, str(path), str(held_out), "--clock", clock]
    done = subprocess.run([sys.executable, __file__, *words], check=True, stdout=subprocess.PIPE)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def measured(rows: int, repeats: int, held_out: int, clock: str) -> dict[str, float]:
    """Return the medians of both sides for one number of rows."""
    with tempfile.TemporaryDirectory() as folder:
        path = written(Path(folder) / "rows.jsonl", rows, 1)
        test = written(Path(folder) / "test.jsonl", held_out, 2)
        theirs, mine = [], []
        for _ in range(repeats):
            theirs.append(alone("bare", path, test, clock))
            mine.append(alone("ours", path, test, clock))
    if odd := [one["kept"] for one in (*theirs, *mine) if one["kept"] != rows]:
        raise SystemExit(f"of {rows} rows a side kept {odd[0]}: its time says nothing")

    def middle(pick: Callable[[dict[str, float]], float], among: list[dict[str, float]]) -> float:
        return statistics.median(map(pick, among))

    clear = middle(lambda one: one["check"] + one["write"] - one["hashing"], mine)
    return {
        "rows": rows,
        "bare": rows / middle(lambda one: one["seconds"], theirs),
        "bare_insert": rows / middle(lambda one: one["insert"], theirs),
        "ours": rows / middle(lambda one: one["check"] + one["write"], mine),
        "ours_without_hashing": rows / clear,
        "ratio": middle(lambda one: one["seconds"], theirs) / clear,
        "ratio_writing": middle(lambda one: one["insert"], theirs) / middle(lambda one: one["write"], mine),
        "hashing": rows / middle(lambda one: one["hashing"], mine),
        "near": rows / middle(lambda one: one["near"], mine),
        "peak_mb": middle(lambda one: one["peak"], mine) / 1e6,
    }


def main() -> None:
    """Measure every number of rows and print a table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--held-out", type=int, default=2000)
    options.add_argument("--clock", choices=CLOCKS, default="wall")
    options.add_argument("--side", nargs=3, metavar=("SIDE", "ROWS", "TEST"), help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.side:
        side, path, test = given.side
        with tempfile.TemporaryDirectory() as folder:
            clock, workspace = CLOCKS[given.clock], Path(folder)
            at = Path(path)
            found = bare(at, workspace, clock) if side == "bare" else ours(at, workspace, Path(test), clock)
        print(json.dumps(found))
        return
    driver = sqlite.driver()
    where = f"SQLite {driver.sqlite_version} of {driver.__name__}, load {os.getloadavg()[0]:.2f}"
    print(f"{where}; rows per second, {given.clock} clock")
    names = ("rows", "bare", "bare_insert", "ours", "ours_without_hashing", "ratio", "ratio_writing", "hashing", "near")
    print("  ".join((*names, "peak_mb")))
    rates = []
    for rows in given.rows:
        found = measured(rows, given.repeats, given.held_out, given.clock)
        rates.append(found["ours"])
        print(
            "  ".join(
                f"{found[name]:,.2f}" if "ratio" in name else f"{found[name]:,.0f}" for name in (*names, "peak_mb")
            )
        )
    print(f"from {given.rows[0]:,} to {given.rows[-1]:,} rows the rate is {rates[-1] / rates[0]:.2f} of the first")


if __name__ == "__main__":
    main()
