"""Kill a night at random, again and again, and compare its result with that of an undisturbed night.

    python benchmarks/kill.py [RECIPE] [--kills 20] [--seed 1]

Controller or worker, alternately, gets SIGKILL at a random moment of a phase; every phase is hit in turn. Then
`wizloop start` resumes. At the end both workspaces must hold the same rows, model digests included: everything but
times, processes, attempts and events. Teacher keys answered twice and half-written exports are checked separately.
"""

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import sqlalchemy as sa

from wizloop.backends import artifacts
from wizloop.store import control, steps, tables
from wizloop.store.db import Connection, Store
from wizloop.store.errors import StoreError
from wizloop.store.types import UtcTime

# Rows about the course of a run, not its results.
HISTORY = {"events", "controller"}
HISTORY_COLUMNS = {("steps", name) for name in ("attempts", "done", "total", "note")}


@dataclass
class Report:
    """Result of the kills."""

    kills: list[dict[str, Any]] = field(default_factory=list)
    differences: dict[str, int] = field(default_factory=dict)
    """Number of rows that only one run has, by table."""
    answered_twice: int = 0
    half_exports: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """True if both runs agree and nothing was answered twice or left half-written."""
        return not (self.differences or self.answered_twice or self.half_exports)


def rows_of(workspace: Path) -> dict[str, list[str]]:
    """Return every table's rows as sorted JSON, without times and processes."""
    with Store.open(workspace, readonly=True) as store, store.read() as db:
        return {table.name: _rows(db, table) for table in tables.metadata.sorted_tables if table.name not in HISTORY}


def _rows(db: Connection, table: sa.Table) -> list[str]:
    kept = [column for column in table.columns if not _is_history(table.name, column)]
    return sorted(json.dumps(list(row), sort_keys=True, default=str) for row in db.execute(sa.select(*kept)))


def _is_history(table: str, column: sa.Column[Any]) -> bool:
    return isinstance(column.type, UtcTime) or (table, column.name) in HISTORY_COLUMNS


def differences(one: dict[str, list[str]], other: dict[str, list[str]]) -> dict[str, int]:
    """Return how many rows only one of two runs has, by table."""
    found = {name: len(set(one[name]) ^ set(other[name])) + abs(len(one[name]) - len(other[name])) for name in one}
    return {name: count for name, count in found.items() if count}


def start(recipe: str, workspace: Path) -> subprocess.Popen[bytes]:
    """Start `wizloop start` headless and return its process."""
    wizloop = str(Path(sys.executable).parent / "wizloop")
    command = [wizloop, "start", recipe, "--workspace", str(workspace), "--headless"]
    with log_of(workspace).open("ab") as log:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def log_of(workspace: Path) -> Path:
    """Return the log of a night's commands, beside its workspace."""
    return workspace.with_suffix(".log")


def undisturbed(recipe: str, workspace: Path) -> float:
    """Return the seconds of a run without kills."""
    began = time.monotonic()
    if code := start(recipe, workspace).wait():
        raise SystemExit(f"the undisturbed run ended with {code}:\n{log_of(workspace).read_text()[-2000:]}")
    return time.monotonic() - began


def killed(
    recipe: str, workspace: Path, kills: int, rng: random.Random, durations: dict[tuple[int, str], float]
) -> list[dict[str, Any]]:
    """Run to the end through `kills` kills; return the phase and the victim of each."""
    plan = _plan(list(durations), kills, rng)
    hit: list[dict[str, Any]] = []
    while True:
        process = start(recipe, workspace)
        while process.poll() is None:
            time.sleep(0.02)
            running = _running(workspace)
            if not plan or running is None or _place(running, durations) < _place(plan[0], durations):
                continue
            time.sleep(rng.uniform(0.0, 0.8) * durations.get(running, 1.0))
            who = "worker" if len(hit) % 2 else "controller"
            if process.poll() is None and _kill(process, who):
                hit.append({"round": running[0], "phase": running[1], "who": who})
                plan.pop(0)
        if process.returncode == 0:
            return hit
        if process.returncode != -signal.SIGKILL:
            said = log_of(workspace).read_text()[-2000:]
            raise SystemExit(f"a run that goes on after a kill ended with {process.returncode}:\n{said}")


def durations_of(workspace: Path) -> dict[tuple[int, str], float]:
    """Return the duration of each phase, in order."""
    with Store.open(workspace, readonly=True) as store, store.read() as db:
        found = [step for each in steps.rounds(db) for step in steps.steps(db, each.number)]
    order = sorted((step for step in found if step.ended_at is not None), key=lambda step: step.started_at)
    return {(one.round, one.phase): (one.ended_at - one.started_at).total_seconds() for one in order if one.ended_at}


def _plan(phases: list[tuple[int, str]], kills: int, rng: random.Random) -> list[tuple[int, str]]:
    """Return the phases to hit, in the order of the night; all of them before any twice."""
    chosen = [phase for _ in range(kills // len(phases)) for phase in phases] + rng.sample(phases, kills % len(phases))
    return sorted(chosen, key=phases.index)


def _place(phase: tuple[int, str], durations: dict[tuple[int, str], float]) -> int:
    order = list(durations)
    return order.index(phase) if phase in durations else len(order)


def _running(workspace: Path) -> tuple[int, str] | None:
    try:
        with Store.open(workspace, readonly=True) as store, store.read() as db:
            run = control.get_run(db)
            if run is None:
                return None
            found = [step for each in steps.rounds(db) for step in steps.steps(db, each.number)]
            found = [step for step in found if step.state == "running"]
    except StoreError:
        return None
    return (found[-1].round, found[-1].phase) if found else None


def _kill(process: subprocess.Popen[bytes], who: str) -> bool:
    target = process.pid
    if who == "worker":
        workers = [child for child in psutil.Process(process.pid).children() if child.is_running()]
        if not workers:
            return False
        target = workers[0].pid
    os.kill(target, signal.SIGKILL)
    if who == "controller":
        process.wait()
    return True


def answered_twice(workspace: Path) -> int:
    """Return teacher keys with more than one received answer."""
    with Store.open(workspace, readonly=True) as store, store.read() as db:
        calls = tables.teacher_calls
        received = sa.select(calls.c.key).where(calls.c.received_at.is_not(None))
        received = received.group_by(calls.c.key).having(sa.func.count() > 1)
        return len(db.execute(received).all())


def half_exports(workspace: Path) -> list[str]:
    """Return export folders that do not match their manifest, and leftover temporary ones."""
    bad = []
    for folder in sorted((workspace / "exports").glob("*")):
        try:
            artifacts.verify(folder)
        except RuntimeError as error:
            bad.append(str(error))
    return bad


def main() -> None:
    """Run both nights and print the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", nargs="?", default="demo")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = run(given.recipe, given.kills, given.seed, Path(folder))
    print(json.dumps(report, indent=2))
    raise SystemExit(0 if report["clean"] else 1)


def run(recipe: str, kills: int, seed: int, folder: Path) -> dict[str, Any]:
    """Run both nights in `folder` and return their differences."""
    alone, hurt = folder / "alone", folder / "killed"
    seconds = undisturbed(recipe, alone)
    durations = durations_of(alone)
    report = Report(killed(recipe, hurt, kills, random.Random(seed), durations))
    one, other = rows_of(alone), rows_of(hurt)
    report.differences = differences(one, other)
    report.answered_twice = answered_twice(hurt)
    report.half_exports = half_exports(hurt)
    return {
        "recipe": recipe,
        "undisturbed_s": round(seconds, 1),
        "kills": len(report.kills),
        "phases_hit": sorted({hit["phase"] for hit in report.kills}),
        "rows": sum(map(len, other.values())),
        "digest": hashlib.sha256(json.dumps(other, sort_keys=True).encode()).hexdigest()[:16],
        "differences": report.differences,
        "answered_twice": report.answered_twice,
        "half_exports": report.half_exports,
        "clean": report.clean,
    }


if __name__ == "__main__":
    main()
