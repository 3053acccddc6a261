"""Mutation testing: how many small faults in the code the tests find.

    python benchmarks/mutants.py [--joints] [--minutes 90] [--jobs 2] [--results docs/results.md]

Draws mutants of each folder by a seed, with mutmut's operators, and tries each on the tests that run its line, the
fastest first; then the hand-written joint mutants. It works in copies below build/mutants, and what it has found is
kept there: the same command goes on. Fails where a folder's share killed is below the bar, or a joint mutant lives.
"""

import argparse
import signal
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

from mutation import making, telling, trees
from mutation.covering import Covers
from mutation.telling import Group
from mutation.trying import Results, try_all

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("loop/phases", "loop/measures", "loop/guard", "loop/teaching")
TESTS = ("tests/loop", "tests/recipes", "tests/test_paid_night.py", "tests/test_plugins.py")
BAR = 0.9


def main() -> None:
    """Parse the options and try mutants."""
    given = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    root: Path = given.root.resolve()
    state = root / "build" / "mutants"
    groups = _groups(root, given)
    digests = trees.digests(root, given.tests)
    # In the project it is committed, so that another machine resumes.
    committed = root / "benchmarks" / "mutation"
    results = Results((committed if committed.is_dir() else state) / "results.jsonl", digests)
    if not given.tell:
        left = _try(root, state, groups, results, given)
        print(f"{left} mutants are left: the same command goes on with them" if left else "all mutants were tried")
    told = telling.section(groups, results, telling.verdicts(given.harmless), _about(root, given))
    print(told)
    if given.results is not None:
        telling.write(given.results, told)
    sys.exit(0 if all(group.good(results, given.bar) for group in groups) else 1)


def _try(root: Path, state: Path, groups: list[Group], results: Results, given: argparse.Namespace) -> int:
    """Try the mutants not tried yet and return how many are left."""
    until = time.monotonic() + 60 * given.minutes
    mutants = _in_turn(groups)
    if all(results.stands(mutant) for mutant in mutants):
        return 0
    copies = [trees.copy(root, state / f"tree-{number}") for number in range(given.jobs)]
    covers = Covers.load(state / "covers.json")
    covers.measure(copies[0], results.digests, given.measured, given.jobs)
    return try_all(mutants, copies, covers, results, until, given.patience)


def _groups(root: Path, given: argparse.Namespace) -> list[Group]:
    found = []
    if not given.joints:
        for folder in given.folders:
            mutants, drawn_from = making.drawn(root, folder, given.each, given.seed)
            found.append(Group(folder, mutants, drawn_from))
    if given.joint_file.exists():
        written = making.joints(root, given.joint_file, given.measured)
        found.append(Group(making.JOINTS, written, len(written)))
    return found


def _in_turn(groups: list[Group]) -> list[making.Mutant]:
    """Return the joint mutants, then one of each folder in turn, so that a partial run covers every folder."""
    last = max((len(group.mutants) for group in groups), default=0)
    first = [mutant for group in groups if group.name == making.JOINTS for mutant in group.mutants]
    drawn = [group.mutants for group in groups if group.name != making.JOINTS]
    return first + [mutants[at] for at in range(last) for mutants in drawn if at < len(mutants)]


def _about(root: Path, given: argparse.Namespace) -> str:
    told = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=root, capture_output=True, text=True)
    commit = told.stdout.strip() or "no commit"
    return f"seed {given.seed}, commit {commit}, {date.today():%-d %B %Y}"


def _arguments() -> argparse.Namespace:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    beside = Path(__file__).parent / "mutation"
    ask.add_argument("--joints", action="store_true", help="only the hand-written mutants")
    ask.add_argument("--tell", action="store_true", help="try nothing, print the results")
    ask.add_argument("--results", type=Path, help="Markdown file to write the section into")
    ask.add_argument("--minutes", type=float, default=90)
    ask.add_argument("--jobs", type=int, default=2, help="concurrent mutants")
    ask.add_argument("--patience", type=float, default=1.0, help="factor of the time limits, for a busy machine")
    ask.add_argument("--each", type=int, default=150, help="mutants per folder")
    ask.add_argument("--seed", type=int, default=16)
    ask.add_argument("--bar", type=float, default=BAR, help="minimum share killed in each folder")
    ask.add_argument("--root", type=Path, default=ROOT)
    ask.add_argument("--folders", nargs="+", default=list(FOLDERS))
    ask.add_argument("--measured", nargs="+", default=["loop"], help="folders with joint mutants")
    ask.add_argument("--tests", nargs="+", default=list(TESTS))
    ask.add_argument("--joint-file", type=Path, default=beside / "joints.toml")
    ask.add_argument("--harmless", type=Path, default=beside / "harmless.toml")
    return ask.parse_args()


if __name__ == "__main__":
    main()
