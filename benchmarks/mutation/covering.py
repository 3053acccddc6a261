"""Find which tests run which line, once, and which tests a mutant is tried on: the fastest first."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from mutation.making import Mutant
from mutation.trees import PLUGIN, Tree

AT_ONCE = 12
"""Test files that are measured before the result is kept: what an interruption costs."""
QUICK, QUICK_FILES, QUICK_S = 30, 2, 10.0
"""Tests, test files and seconds of the first try, which most mutants do not outlive."""
MOST_S, MOST_S_JOINT = 60.0, 900.0
"""Seconds of tests that one mutant, or a joint one, is tried on; those beyond are left out: that only costs kills."""


@dataclass
class Covers:
    """Which tests run which line, by test file."""

    file: Path
    found: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def load(cls, file: Path) -> "Covers":
        """Return what earlier runs have measured."""
        return cls(file, json.loads(file.read_text(encoding="utf-8")) if file.exists() else {})

    def measure(self, tree: Tree, digests: dict[str, str], folders: Sequence[str], jobs: int) -> None:
        """Run every test file that has changed, or whose code has, and keep the lines that its tests run."""
        self.found = {name: one for name, one in self.found.items() if digests.get(name) == one["digest"]}
        left = [name for name in digests if name not in self.found]
        for start in range(0, len(left), AT_ONCE):
            piece = left[start : start + AT_ONCE]
            print(f"measuring what the tests run: {start} of {len(left)} test files", flush=True)
            self.found |= _measured(tree, piece, digests, folders, jobs)
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self.file.write_text(json.dumps(self.found), encoding="utf-8")

    def tests(self, mutant: Mutant) -> list[str]:
        """Return the tests that run the mutant's lines, then the others of their files; each by `_rank`.

        A fixture that several tests share runs in the first of them, so that the others count too. Where no test runs
        the lines, those count that run another line of the file.
        """
        ran = self._that_run(mutant.file, mutant.lines) or self._that_run(mutant.file, None)
        beside = [name for file in {_file(name) for name in ran} for name in self.found[file]["tests"]]
        rank = partial(self._rank, Path(mutant.file).stem)
        return [*sorted(ran, key=rank), *sorted(set(beside) - set(ran), key=rank)]

    def covered(self, mutant: Mutant) -> bool:
        """Return whether a test runs one of the mutant's lines."""
        return bool(self._that_run(mutant.file, mutant.lines))

    def seconds(self, test: str) -> float:
        """Return how long a test took."""
        return float(self.found.get(_file(test), {"tests": {}})["tests"].get(test, 0.0))

    def slowest(self, tests: Sequence[str]) -> float:
        """Return the longest that a test of these files took: a shared fixture's time may fall on any of them."""
        files = {_file(test) for test in tests}
        return max(
            (max(self.found[file]["tests"].values(), default=0.0) for file in files if file in self.found), default=0.0
        )

    def _rank(self, module: str, test: str) -> tuple[bool, float]:
        """Return the order of a test: those in files named after the module first, the fastest first."""
        return module not in Path(_file(test)).stem, self.seconds(test)

    def _that_run(self, file: str, lines: range | None) -> list[str]:
        ran = []
        for one in self.found.values():
            by_line, names = one["lines"].get(file, {}), list(one["tests"])
            hits = by_line.values() if lines is None else (by_line.get(str(line), ()) for line in lines)
            ran += [names[at] for at in sorted({at for hit in hits for at in hit})]
        return ran


def stages(tests: Sequence[str], covers: Covers, killer: str | None, most_s: float) -> list[list[str]]:
    """Return the tests in the groups in which they are run: the one that killed before, some quick ones, the rest."""
    kept, spent = list[str](), 0.0
    for test in tests:
        if not kept or spent + covers.seconds(test) <= most_s:
            kept.append(test)
            spent += covers.seconds(test)
    quick, files, spent = list[str](), set[str](), 0.0
    for test in kept[:QUICK]:
        if len(files | {_file(test)}) <= QUICK_FILES and spent + covers.seconds(test) <= QUICK_S:
            quick.append(test)
            files.add(_file(test))
            spent += covers.seconds(test)
    before = [killer] if killer in tests else []
    rest = [test for test in kept if test not in set(quick)]
    return [group for group in (before, quick, rest) if group]


def overall(digests: dict[str, str]) -> str:
    """Return one digest of the code and all tests."""
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()[:16]


def _measured(
    tree: Tree, files: Sequence[str], digests: dict[str, str], folders: Sequence[str], jobs: int
) -> dict[str, dict[str, Any]]:
    out = tree.folder / "build" / "covers"
    for old in out.parent.glob("covers-*.json"):
        old.unlink()
    environment = tree.environment(MUTANTS_COVERS=str(out), MUTANTS_FOLDERS=os.pathsep.join(folders))
    command = [sys.executable, "-m", "pytest", "-q", "--tb=no", "-p", PLUGIN, "-p", "no:cacheprovider", *files]
    many = ["-n", str(jobs), "--dist", "loadfile"] if jobs > 1 else []
    subprocess.run([*command, *many], cwd=tree.folder, env=environment, stdout=subprocess.DEVNULL, check=False)
    parts = [json.loads(part.read_text(encoding="utf-8")) for part in out.parent.glob("covers-*.json")]
    if not parts:
        raise RuntimeError(f"the tests could not be run in {tree.folder}: {' '.join(files)}")
    return {file: {"digest": digests[file], **_of_file(file, parts)} for file in files}


def _of_file(file: str, parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the seconds of each test of a file that passed, and by source file and line which of them ran it."""
    told = {name: one for part in parts for name, one in part["tests"].items() if _file(name) == file}
    tests = {name: one["seconds"] for name, one in told.items() if one["well"] and "seconds" in one}
    number = {name: at for at, name in enumerate(tests)}
    lines: dict[str, dict[str, list[int]]] = {}
    for part in parts:
        for source, by_line in part["lines"].items():
            for line, names in by_line.items():
                if here := [number[name] for name in names if name in number]:
                    lines.setdefault(source, {}).setdefault(line, []).extend(here)
    return {"tests": tests, "lines": lines}


def _file(test: str) -> str:
    return test.partition("::")[0]
