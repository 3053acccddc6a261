"""Measure a night's overhead: start-up, the supervisor's and the store's share of the wall time, peak memory.

    python benchmarks/overhead.py [RECIPE] [--rounds N] [--times 5] [--keep DIR]

The store's time is all time between the worker's request for a connection and its return, including commits and waits
for the lock. A hook in this file counts it; the hook is loaded into the night's processes.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

HOOK = """
import atexit, json, os, sys, time
from contextlib import contextmanager
from wizloop.store.db import Store

spent, written = [0.0, 0], [0.0]

def tell():
    written[0] = time.perf_counter()
    with open(os.path.join(os.environ["WIZLOOP_OVERHEAD"], str(os.getpid())), "w") as file:
        json.dump(spent, file)

def timed(method):
    @contextmanager
    def inner(self, *args, **kwargs):
        begun = time.perf_counter()
        try:
            with method(self, *args, **kwargs) as db:
                yield db
        finally:
            now = time.perf_counter()
            spent[0] += now - begun
            spent[1] += 1
            if now - written[0] > 0.5:
                tell()
    return inner

if sys.argv[:1] and "wizloop" in " ".join(sys.orig_argv):
    Store.read, Store.write = timed(Store.read), timed(Store.write)
    atexit.register(tell)
"""
WIZLOOP = str(Path(sys.executable).parent / "wizloop")


def seconds(times: int, *words: str) -> float:
    """Return the least wall time of a command."""
    taken = []
    for _ in range(times):
        begun = time.perf_counter()
        subprocess.run([WIZLOOP, *words], check=True, stdout=subprocess.DEVNULL)
        taken.append(time.perf_counter() - begun)
    return min(taken)


def night(recipe: str, folder: Path, limits: Sequence[str]) -> dict[str, float]:
    """Run a recipe with the hook and watch its processes."""
    (folder / "hook").mkdir()
    (folder / "times").mkdir()
    (folder / "hook" / "sitecustomize.py").write_text(HOOK, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(folder / "hook"), "WIZLOOP_OVERHEAD": str(folder / "times")}
    command = [WIZLOOP, "start", recipe, "--headless", "-w", str(folder / "runs"), *limits]
    begun = time.perf_counter()
    with (folder / "night.log").open("wb") as log:
        process = psutil.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
    peak, supervisor, workers = 0, 0.0, set()
    while process.poll() is None:
        try:
            children = process.children(recursive=True)
            peak = max(peak, sum(each.memory_info().rss for each in (process, *children)))
            times = process.cpu_times()
            supervisor = times.user + times.system
            workers |= {each.pid for each in children}
        except psutil.Error:
            # The process ended between two polls.
            continue
        time.sleep(0.1)
    wall = time.perf_counter() - begun
    if process.returncode:
        said = (folder / "night.log").read_text(encoding="utf-8")[-2000:]
        raise SystemExit(f"the night ended with {process.returncode}:\n{said}")
    told = {int(path.name): json.loads(path.read_text()) for path in (folder / "times").iterdir()}
    store = sum(spent for pid, (spent, _) in told.items() if pid in workers)
    return {
        "wall_s": wall,
        "supervisor_cpu_s": supervisor,
        "store_s": store,
        "transactions": sum(count for pid, (_, count) in told.items() if pid in workers),
        "overhead_percent": 100 * (supervisor + store) / wall,
        "peak_mb": peak / 1e6,
    }


def main() -> None:
    """Measure start-up and a night, and print the figures as JSON."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("recipe", nargs="?", default="demo")
    ask.add_argument("--rounds", metavar="N", help="rounds after round 0; default: the recipe's")
    ask.add_argument("--times", type=int, default=5, help="starts of each command; the fastest counts")
    ask.add_argument("--keep", metavar="DIR", help="keep the night's workspace in this new folder, as DIR/runs")
    given = ask.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(given.keep or scratch)
        folder.mkdir(parents=True, exist_ok=True)
        found = night(given.recipe, folder, ["--rounds", given.rounds] if given.rounds else [])
        found["help_s"] = seconds(given.times, "--help")
        found["status_s"] = seconds(given.times, "status", "-w", str(folder / "runs"))
    print(json.dumps({name: round(value, 3) for name, value in found.items()}, indent=2))


if __name__ == "__main__":
    main()
