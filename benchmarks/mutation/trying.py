"""Try mutants: write one into a tree, run its tests until one fails, and keep what came of it."""

import json
import queue
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from mutation.covering import MOST_S, MOST_S_JOINT, Covers, overall, stages
from mutation.making import JOINTS, Mutant
from mutation.trees import PLUGIN, Tree

MEMORY = 12 * 2**30
"""Bytes that a process of tests may hold: a mutant may never stop asking for more."""


class BrokenSelection(RuntimeError):
    """The tests cannot be collected on the code as it is."""


@dataclass(frozen=True)
class Outcome:
    """What came of a mutant."""

    status: str
    """killed, timeout or survived."""
    killer: str | None
    """The test that failed; None where it survived, or where nothing could be imported any more."""
    seconds: float
    tests: int
    """How many tests it was tried on at most."""
    left_out: int
    """How many would have taken too long."""
    covered: bool


@dataclass
class Results:
    """What came of mutants, a line each, in a file that only grows: the last line of an id counts."""

    file: Path
    digests: dict[str, str]
    found: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.file.exists():
            for line in self.file.read_text(encoding="utf-8").splitlines():
                one = _object(line)
                self.found[one.get("id", "")] = one

    def stands(self, mutant: Mutant) -> bool:
        """Return whether the outcome was had with the code and the tests as they are now."""
        one = self.found.get(mutant.id)
        return one is not None and one["digest"] == self._digest(one["killer"] if one["status"] == "killed" else None)

    def killer(self, mutant: Mutant) -> str | None:
        """Return the test that killed it at another time."""
        killer: str | None = self.found.get(mutant.id, {}).get("killer")
        return killer

    def keep(self, mutant: Mutant, outcome: Outcome) -> None:
        """Add a line."""
        about = {"id": mutant.id, "group": mutant.group, "file": mutant.file, "where": mutant.where}
        change = {"before": mutant.before, "after": mutant.after}
        digest = self._digest(outcome.killer if outcome.status == "killed" else None)
        one = {**about, **change, **vars(outcome), "digest": digest}
        self.found[mutant.id] = one
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("a", encoding="utf-8") as out:
            out.write(json.dumps(one) + "\n")

    def _digest(self, killer: str | None) -> str:
        """Return the digest of what an outcome rests on: the code, and the killing test's file or else all tests."""
        return overall(self.digests) if killer is None else self.digests.get(killer.partition("::")[0], "")


def try_all(
    mutants: Sequence[Mutant],
    trees: Sequence[Tree],
    covers: Covers,
    results: Results,
    until: float,
    patience: float = 1.0,
) -> int:
    """Try every mutant whose outcome does not stand, a tree each at once; how many are left when the time is over.

    `patience` multiplies the seconds after which tests count as hanging.
    """
    waiting = [mutant for mutant in mutants if not results.stands(mutant)]
    free: queue.SimpleQueue[Tree] = queue.SimpleQueue()
    for tree in trees:
        free.put(tree)

    def one(mutant: Mutant) -> Outcome | None:
        if time.monotonic() > until:
            return None
        tree = free.get()
        try:
            return attempt(mutant, tree, covers, results.killer(mutant), patience)
        finally:
            free.put(tree)

    left = len(waiting)
    with ThreadPoolExecutor(len(trees)) as threads:
        asked = {threads.submit(one, mutant): mutant for mutant in waiting}
        try:
            for done in as_completed(asked):
                if (outcome := done.result()) is not None:
                    left -= 1
                    results.keep(asked[done], outcome)
                    print(_told(len(waiting) - left, len(waiting), asked[done], outcome), flush=True)
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            for child in psutil.Process().children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    child.kill()
            raise
    return left


def attempt(mutant: Mutant, tree: Tree, covers: Covers, killer: str | None, patience: float = 1.0) -> Outcome:
    """Write the mutant into the tree, run its tests, and put the file back."""
    began, covered = time.perf_counter(), covers.covered(mutant)
    tests = covers.tests(mutant)
    groups = stages(tests, covers, killer, MOST_S_JOINT if mutant.group == JOINTS else MOST_S)
    tried = len({test for group in groups for test in group})
    target = tree.folder / mutant.file
    original = target.read_bytes()
    status, by = "survived", None
    try:
        for group in groups:
            target.write_text(mutant.code, encoding="utf-8")
            status, by = _run(tree, group, covers, patience, lambda: target.write_bytes(original))
            if status != "survived":
                break
    finally:
        target.write_bytes(original)
    return Outcome(status, by, round(time.perf_counter() - began, 1), tried, len(tests) - tried, covered)


def _run(
    tree: Tree, tests: Sequence[str], covers: Covers, patience: float, restore: Callable[[], object]
) -> tuple[str, str | None]:
    """Run tests until one fails; the status, and the test. Raises BrokenSelection."""
    killer = tree.folder / "build" / "killer.json"
    killer.unlink(missing_ok=True)
    each_s = patience * (10 + 5 * covers.slowest(tests))
    most_s = patience * (60 + 5 * sum(map(covers.seconds, tests))) + 2 * each_s
    code = _pytest(tree, ["-x", f"--timeout={each_s:.0f}", *tests], most_s, MUTANTS_KILLER=str(killer))
    if code is None:
        return "timeout", None
    if code == 0:
        return "survived", None
    if killer.exists():
        failed = json.loads(killer.read_text(encoding="utf-8"))
        return ("timeout" if failed["timeout"] else "killed"), failed["test"]
    restore()
    if _pytest(tree, ["--collect-only", *tests], 300 * patience) != 0:
        raise BrokenSelection(f"these tests are not found in {tree.folder}: {' '.join(tests)}")
    return "killed", None


def _pytest(tree: Tree, words: Sequence[str], most_s: float, **environment: str) -> int | None:
    """Run pytest in a tree; its exit status, or None where it took too long."""
    base = ["-q", "--tb=no", "-p", PLUGIN, "-p", "no:cacheprovider", "-p", "no:xdist"]
    command = [sys.executable, "-m", "pytest", *base, f"--basetemp={tree.folder / 'build' / 'tmp'}", *words]
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, cwd=tree.folder, env=tree.environment(**environment), **quiet)  # type: ignore[call-overload]
    running = psutil.Process(process.pid)
    if hasattr(running, "rlimit"):
        running.rlimit(psutil.RLIMIT_DATA, (MEMORY, MEMORY))
    try:
        return int(process.wait(most_s))
    except subprocess.TimeoutExpired:
        return None
    finally:
        _end(running, process)


def _end(running: psutil.Process, process: "subprocess.Popen[bytes]") -> None:
    """Kill what still runs, with its children."""
    if process.poll() is None:
        for child in running.children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                child.kill()
        process.kill()
        process.wait()


def _object(line: str) -> dict[str, Any]:
    """Return what a line holds; nothing for one that an interruption has torn."""
    try:
        found: dict[str, Any] = json.loads(line)
    except ValueError:
        return {}
    return found


def _told(done: int, of: int, mutant: Mutant, outcome: Outcome) -> str:
    by = outcome.killer or ("the import" if outcome.status == "killed" else f"{outcome.tests} tests")
    return f"{done} of {of}, {outcome.seconds:.0f} s, {outcome.status} ({by}): {mutant.shown()}"
